"""Activations: g, its derivatives as formulas and as numpy functions, and what closes.

Formulas are sympy's, which is imported where one is read: runs from the cache read none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import NoClosedFormError

if TYPE_CHECKING:
    from sympy import Expr

Array = NDArray[np.float64]
Signature = tuple[tuple[int, ...], ...]


class Traits(NamedTuple):
    """What a run asks of g: the sign in g(−x) = ±g(x), 0 if there is none, and whether g is bent.

    ``kinks``: g or one of its derivatives jumps.
    """

    parity: int
    kinks: bool


@dataclass(frozen=True)
class Activation:
    """g by a ``formula``, or by numpy ``functions`` (g, g', g'', …).

    The formula is a sympy expression in one symbol, or a function that makes one of its argument.
    An activation given by functions has no formulas: its averages are taken by quadrature. The
    flow asks for g', its Jacobian for more derivatives.
    ``shipped`` tells the traits of an activation of this package, which its formula must have too.

    >>> import sympy
    >>> swish = Activation("swish", lambda x: x / (1 + sympy.exp(-x)))
    >>> float(swish.dg(0.0, 1))
    0.5
    """

    name: str
    formula: Expr | Callable[[Any], Any] | None = None
    functions: tuple[Callable[[Any], Any], ...] = ()
    shipped: Traits | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.formula is None) == (not self.functions):
            raise ValueError(f"activation {self.name}: give a formula or functions, not both")
        object.__setattr__(self, "functions", tuple(self.functions))
        if self.shipped is None:
            _ = self.expression

    @cached_property
    def expression(self) -> Expr | None:
        """g as an expression in ``theory.symbols.X``; None where it is given by functions.

        Raises: ValueError if the formula has more than one symbol.
        """
        if self.formula is None:
            return None
        import sympy

        from theory.symbols import X

        formula: Any = self.formula
        if callable(formula) and not isinstance(formula, sympy.Basic):
            formula = formula(X)
        try:
            expression = sympy.sympify(formula, strict=True)
        except sympy.SympifyError:
            raise ValueError(f"activation {self.name}: {formula!r} is no formula") from None
        free = expression.free_symbols
        if len(free) > 1:
            raise ValueError(f"activation {self.name}: {expression} has more than one symbol")
        return expression.subs(dict.fromkeys(free, X))

    def derivative(self, order: int = 1) -> Expr:
        """The order-th derivative of g, an expression in ``theory.symbols.X``.

        Raises: NoClosedFormError if the activation was given by functions.
        """
        if self.expression is None:
            raise NoClosedFormError(f"activation {self.name} is known by its values alone")
        return _derivative(self.expression, order)

    def g(self, x: ArrayLike) -> Array:
        """Values of g, in the shape of x."""
        return self.dg(x, 0)

    def dg(self, x: ArrayLike, order: int = 1) -> Array:
        """Values of the order-th derivative of g, in the shape of x.

        Raises: ValueError where the derivative is no function (a δ) or was not given.
        """
        x = np.asarray(x, dtype=float)
        if self.expression is not None:
            function = _numeric(self.expression, order)
        elif order < len(self.functions):
            function = self.functions[order]
        else:
            raise ValueError(
                f"activation {self.name}: derivative {order} is needed; add it to the functions, "
                "or give a formula"
            )
        values = np.asarray(function(x), dtype=float)
        return values if values.shape == x.shape else np.broadcast_to(values, x.shape)

    @cached_property
    def traits(self) -> Traits:
        """What g is like, as shipped or found out: parity at a few points, kinks in the formula."""
        return self.shipped or Traits(self._parity(), self._kinks())

    @property
    def odd(self) -> bool:
        """Whether g(−x) = −g(x)."""
        return self.traits.parity == -1

    @property
    def even(self) -> bool:
        """Whether g(−x) = g(x)."""
        return self.traits.parity == 1

    @property
    def has_kinks(self) -> bool:
        """Whether g or one of its derivatives jumps; a g given by functions is taken for smooth."""
        return self.traits.kinks

    def _parity(self) -> int:
        probes = np.array([0.0, 0.137, 0.61, 1.93, 4.7])
        values = self.g(probes)
        signs = [s for s in (-1, 1) if np.allclose(self.g(-probes), s * values, 1e-12, 1e-14)]
        return signs[0] if signs else 0

    def _kinks(self) -> bool:
        import sympy as sp

        jumps = (sp.Max, sp.Min, sp.Abs, sp.Heaviside, sp.sign, sp.Piecewise)
        return self.expression is not None and self.expression.has(*jumps)

    def has_closed_form(self, signature: Signature) -> bool:
        """Whether the average of this signature is closed without any quadrature.

        So it is as soon as at most three factors S_a remain (``theory.gaussian.integrands``).
        """
        if self.expression is None:
            return False
        try:
            return sum(_sign_factors(self.expression, slot) for slot in signature) <= 3
        except NoClosedFormError:
            return False

    @property
    def digest(self) -> str:
        """A hash of what g is: of its formula, or of the code of its functions.

        Of one that is shipped the name says it, beside the text of this package.
        """
        if self.shipped is not None:
            text = "shipped"
        elif self.expression is not None:
            from sympy import srepr

            text = srepr(self.expression)
        else:
            text = "|".join(_code(function) for function in self.functions)
        return hashlib.sha256(f"{self.name}|{text}".encode()).hexdigest()

    def slot(self, orders: Sequence[int]) -> Expr:
        """Π of the derivatives of the given orders, in X."""
        import sympy

        return sympy.Mul(*(self.derivative(order) for order in orders))


@cache
def _derivative(expression: Expr, order: int) -> Expr:
    import sympy

    from theory.symbols import X

    return expression if order == 0 else sympy.diff(_derivative(expression, order - 1), X)


@cache
def _numeric(expression: Expr, order: int) -> Callable[[Array], Any]:
    import sympy

    from theory.symbols import X

    derivative = _derivative(expression, order)
    if derivative.has(sympy.DiracDelta):
        raise ValueError(f"the derivative {derivative} is a distribution and has no values")
    return sympy.lambdify(X, derivative, modules=["scipy", "numpy"], cse=True)


@cache
def _sign_factors(expression: Expr, orders: tuple[int, ...]) -> int:
    import sympy

    from theory.gaussian.integrands import read
    from theory.symbols import X

    product = sympy.Mul(*(_derivative(expression, order) for order in orders))
    return read(product, (X,)).sign_factors


def _code(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}"
    cells = [cell.cell_contents for cell in function.__closure__ or ()]  # type: ignore[attr-defined]
    return f"{code.co_code.hex()}{code.co_consts}{code.co_names}{cells}"


def polynomial(coefficients: Sequence[Any], name: str | None = None) -> Activation:
    """g(x) = Σ_n coefficients[n] xⁿ.

    >>> polynomial([0, 1, 0, 2]).expression
    2*x**3 + x
    """
    import sympy

    from theory.symbols import X

    exact = [sympy.nsimplify(c, rational=True) for c in coefficients]
    expression = sympy.Add(*(c * X**n for n, c in enumerate(exact)))
    written = ", ".join(str(c) for c in coefficients)
    return Activation(name or f"polynomial({written})", expression)


def _erf(x: Expr) -> Expr:
    import sympy

    return sympy.erf(x / sympy.sqrt(2))


def _linear(x: Expr) -> Expr:
    return x


def _relu(x: Expr) -> Expr:
    import sympy

    return sympy.Max(0, x)


erf = Activation("erf", _erf, shipped=Traits(-1, False))
"""g(x) = erf(x/√2), g'(x) = √(2/π) exp(−x²/2)."""
linear = Activation("linear", _linear, shipped=Traits(-1, False))
"""g(x) = x."""
relu = Activation("relu", _relu, shipped=Traits(0, True))
"""g(x) = max(0, x)."""

ACTIVATIONS: dict[str, Activation] = {a.name: a for a in (erf, linear, relu)}
"""The activations that an experiment may name; a polynomial is given by its coefficients."""
