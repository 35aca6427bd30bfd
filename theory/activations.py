"""Activations: g, its derivatives as formulas and as numpy functions, and what closes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray
from sympy import Expr

from theory.errors import NoClosedFormError
from theory.gaussian.integrands import read
from theory.symbols import X

Array = NDArray[np.float64]
Signature = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Activation:
    """g as a sympy ``expression`` in one symbol, or as numpy ``functions`` (g, g', g'', …).

    An activation given by functions has no formulas: its averages are taken by quadrature.

    >>> swish = Activation("swish", expression=X / (1 + sympy.exp(-X)))
    >>> float(swish.dg(0.0, 1))
    0.5
    """

    name: str
    expression: Expr | None = None
    functions: tuple[Callable[[Any], Any], ...] = ()

    def __post_init__(self) -> None:
        if (self.expression is None) == (not self.functions):
            raise ValueError(f"activation {self.name}: give an expression or functions, not both")
        object.__setattr__(self, "functions", tuple(self.functions))
        if self.expression is None:
            return
        expression = sympy.sympify(self.expression, strict=True)
        free = expression.free_symbols
        if len(free) > 1:
            raise ValueError(f"activation {self.name}: {expression} has more than one symbol")
        object.__setattr__(self, "expression", expression.subs(dict.fromkeys(free, X)))

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
            raise ValueError(f"activation {self.name}: derivative {order} was not given")
        values = np.asarray(function(x), dtype=float)
        return values if values.shape == x.shape else np.broadcast_to(values, x.shape)

    @property
    def odd(self) -> bool:
        """Whether g(−x) = −g(x)."""
        return self._has_parity(-1)

    @property
    def even(self) -> bool:
        """Whether g(−x) = g(x)."""
        return self._has_parity(1)

    def _has_parity(self, parity: int) -> bool:
        probes = np.array([0.0, 0.137, 0.61, 1.93, 4.7])
        values = self.g(probes)
        return bool(np.allclose(self.g(-probes), parity * values, rtol=1e-12, atol=1e-14))

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
        """A hash of what g is: of its formula, or of the code of its functions."""
        if self.expression is not None:
            text = sympy.srepr(self.expression)
        else:
            text = "|".join(_code(function) for function in self.functions)
        return hashlib.sha256(f"{self.name}|{text}".encode()).hexdigest()

    def slot(self, orders: Sequence[int]) -> Expr:
        """Π of the derivatives of the given orders, in X."""
        return sympy.Mul(*(self.derivative(order) for order in orders))


@cache
def _derivative(expression: Expr, order: int) -> Expr:
    return expression if order == 0 else sympy.diff(_derivative(expression, order - 1), X)


@cache
def _numeric(expression: Expr, order: int) -> Callable[[Array], Any]:
    derivative = _derivative(expression, order)
    if derivative.has(sympy.DiracDelta):
        raise ValueError(f"the derivative {derivative} is a distribution and has no values")
    return sympy.lambdify(X, derivative, modules=["scipy", "numpy"], cse=True)


@cache
def _sign_factors(expression: Expr, orders: tuple[int, ...]) -> int:
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
    exact = [sympy.nsimplify(c, rational=True) for c in coefficients]
    expression = sympy.Add(*(c * X**n for n, c in enumerate(exact)))
    written = ", ".join(str(c) for c in coefficients)
    return Activation(name or f"polynomial({written})", expression)


erf = Activation("erf", sympy.erf(X / sympy.sqrt(2)))
"""g(x) = erf(x/√2), g'(x) = √(2/π) exp(−x²/2)."""
linear = Activation("linear", X)
"""g(x) = x."""
relu = Activation("relu", sympy.Max(0, X))
"""g(x) = max(0, x)."""

ACTIVATIONS: dict[str, Activation] = {a.name: a for a in (erf, linear, relu)}
"""The activations that an experiment may name; a polynomial is given by its coefficients."""
