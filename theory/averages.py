"""Gaussian averages: as symbols that differentiate by Price's theorem, and in closed form.

``Average(signature)`` names an average of products of derivatives of g over jointly Gaussian
fields; ``closed_form`` derives it for one activation, ``gaussian_average`` for any expression.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike
from sympy import Expr, Function, Rational, S, Symbol
from sympy.core.function import FunctionClass

from theory.activations import Activation, Signature
from theory.errors import DomainError, NoClosedFormError
from theory.gaussian import closed_forms, plackett
from theory.gaussian.integrands import Integrand, read
from theory.symbols import X, covariance_symbols, matrix_of, pairs

__all__ = ["Average", "AverageFunction", "DomainError", "NoClosedFormError", "closed_form",
           "evaluate", "gaussian_average", "numeric", "price"]  # fmt: skip


class _AverageClass(FunctionClass):
    """The class of the classes ``Average(signature)``, which pickle by their signature."""

    signature: Signature


class AverageFunction(Function, metaclass=_AverageClass):
    """E[Π_i Π_{order in signature[i]} g^(order)(x_i)] as a function of C_11, C_12, …, C_nn."""

    signature: Signature = ()  # type: ignore[misc]

    def fdiff(self, argindex: int = 1) -> Expr:
        """Price's theorem: the averages that ``price`` names, at the same covariance."""
        pair = pairs(len(self.signature))[argindex - 1]
        terms = price(self.signature, *pair)
        return sympy.Add(*(c * Average(signature)(*self.args) for c, signature in terms))

    def _eval_is_extended_real(self) -> bool:
        return True

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        arguments = ", ".join(printer._print(argument) for argument in self.args)
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"{latex_name(self.signature)}{power}\left({arguments}\right)"


copyreg.pickle(_AverageClass, lambda cls: (Average, (cls.signature,)))


@cache
def Average(signature: Signature) -> type[AverageFunction]:
    """The sympy function of one average.

    ``signature`` gives per field the derivative orders that are multiplied there, so that
    ((1,), (1,), (0,), (0,)) is I4 = E[g'(x_1) g'(x_2) g(x_3) g(x_4)].

    >>> C = sympy.symbols("C11 C12 C22")
    >>> Average(((0,), (0,)))(*C).diff(C[1])
    J2(C11, C12, C22)
    """
    canonical = tuple(tuple(sorted(orders)) for orders in signature)
    if canonical != signature:
        return Average(canonical)
    nargs = len(pairs(len(signature)))
    namespace = {"signature": signature, "nargs": nargs, "__module__": __name__}
    return _AverageClass(name_of(signature), (AverageFunction,), namespace)


@cache
def price(signature: Signature, i: int, j: int) -> tuple[tuple[Expr, Signature], ...]:
    """∂/∂C_ij of an average as (coefficient, signature) pairs.

    ∂E[F]/∂C_ij = E[∂²F/∂x_i∂x_j] for i ≠ j (both C_ij and C_ji move), ∂E[F]/∂C_ii = ½E[∂²F/∂x_i²].
    """
    total: dict[Signature, Expr] = {}
    factor = Rational(1, 2) if i == j else S.One
    for once in _differentiated(signature, i):
        for twice in _differentiated(once, j):
            total[twice] = total.get(twice, S.Zero) + factor
    return tuple((c, s) for s, c in total.items())


def _differentiated(signature: Signature, slot: int) -> list[Signature]:
    """The terms of ∂/∂x_slot by the product rule."""
    orders = signature[slot]
    return [
        (*signature[:slot], tuple(sorted((*orders[:p], orders[p] + 1, *orders[p + 1 :]))),
         *signature[slot + 1 :])
        for p in range(len(orders))
    ]  # fmt: skip


_NAMES: dict[Signature, str] = {
    ((0,), (0,)): "I2",
    ((1,), (1,)): "J2",
    ((1,), (1,), (0,), (0,)): "I4",
    ((0,),) * 4: "A4",
    ((0,),) * 6: "A6",
}


def name_of(signature: Signature) -> str:
    """I2, J2, I4, A4, A6; otherwise the orders per field, so E_2_01 = ⟨g''(x_1) g(x_2) g'(x_2)⟩."""
    orders = ("".join(map(str, slot)) or "c" for slot in signature)
    return _NAMES.get(signature) or "E_" + "_".join(orders)


def latex_name(signature: Signature) -> str:
    r"""I_2, J_2, …; otherwise \langle g''_1 g_2\rangle."""
    if signature in _NAMES:
        return "{}_{{{}}}".format(*_NAMES[signature])
    marks = ("", "'", "''", "'''")
    factors = [
        f"g{marks[k] if k < len(marks) else '^{(' + str(k) + ')}'}_{{{i + 1}}}"
        for i, slot in enumerate(signature)
        for k in slot
    ]
    return r"\langle " + " ".join(factors) + r"\rangle"


def closed_form(signature: Signature, activation: Activation, covariance: sympy.MatrixBase) -> Expr:
    """The average of a signature as an expression in the entries of C (n, n).

    Four or six plain g's of erf are one ``SignMoment``, which evaluates to any precision.

    Raises: NoClosedFormError where no rule applies.

    >>> from theory.activations import erf
    >>> from theory.symbols import covariance_symbols
    >>> closed_form(((1,), (1,)), erf, covariance_symbols(2))
    2/(pi*sqrt(-C12**2 + (C11 + 1)*(C22 + 1)))
    """
    n = len(signature)
    if covariance.shape != (n, n):
        raise ValueError(f"{n} fields need a covariance of shape {(n, n)}, not {covariance.shape}")
    return closed_forms.average(_integrand(signature, activation), covariance)


@cache
def _integrand(signature: Signature, activation: Activation) -> Integrand:
    fields = sympy.symbols(f"x1:{len(signature) + 1}", real=True)
    factors = (
        activation.slot(orders).subs(X, field)
        for orders, field in zip(signature, fields, strict=True)
    )
    return read(sympy.Mul(*factors), fields)


@cache
def numeric(signature: Signature, activation: Activation) -> Callable[..., Any]:
    """The closed form as a vectorised numpy function of C_11, C_12, …, C_nn.

    Accuracy: relative 1e-10 at variances ≤ 10, singular covariances included.
    Raises: NoClosedFormError; when called, DomainError for entries that are no covariance.
    """
    symbols = covariance_symbols(len(signature))
    form = closed_form(signature, activation, symbols)
    names = [symbols[i, j] for i, j in pairs(len(signature))]
    known = {"SignMoment": plackett.sign_moment, "asin": _arcsine, "sqrt": _square_root}
    function = sympy.lambdify(names, form, modules=[known, "scipy", "numpy"], cse=True)

    def evaluated(*entries: ArrayLike) -> Any:
        arrays = [np.asarray(entry, dtype=float) for entry in entries]
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        try:
            return np.broadcast_to(function(*arrays), shape)
        except DomainError as error:
            raise DomainError(f"{error}, at covariance entries {arrays}") from None

    return evaluated


SLACK = 64 * np.finfo(float).eps
"""An arcsine's argument may lie beyond 1, relative to it, by a few roundings."""


def _arcsine(x: Any) -> Any:
    if not np.all(np.abs(x) <= 1 + SLACK):
        raise DomainError(f"arcsine of {np.max(np.abs(x))}")
    return np.arcsin(np.where(np.abs(x) > 1, np.sign(x), x))


def _square_root(x: Any) -> Any:
    if not np.all(x >= -1e-10):
        raise DomainError(f"square root of {np.min(x)}")
    return np.sqrt(np.where(x < 0, 0.0, x))


def evaluate(expression: Expr, activation: Activation) -> Expr:
    """The expression with every ``Average`` in it replaced by its closed form."""
    found = expression.atoms(AverageFunction)
    return expression.xreplace(
        {a: closed_form(a.signature, activation, matrix_of(a.args)) for a in found}
    )


def gaussian_average(
    expression: Expr, variables: Sequence[Symbol], covariance: Sequence[Sequence[Any]] | Any
) -> Expr:
    """E[expression] for zero-mean, jointly Gaussian variables.

    ``expression``: any polynomial in the variables, erf, exp of quadratic forms, sign, Heaviside,
    Max, |·| and δ of linear forms. ``covariance`` (n, n): a symmetric Matrix or nested list,
    symbolic or numeric. The result differentiates and evaluates to any precision; four or six
    plain erf or signs remain as a ``SignMoment``.

    Raises: NoClosedFormError naming the factor no rule knows; DomainError for a numeric
    covariance that is not positive semidefinite; ValueError for a matrix of the wrong shape.

    >>> x, y, q, r = sympy.symbols("x y q r")
    >>> g = lambda v: sympy.erf(v / sympy.sqrt(2))
    >>> gaussian_average(g(x) * g(y), (x, y), [[q, r], [r, q]])
    2*asin(r/(q + 1))/pi
    """
    variables = tuple(variables)
    matrix = sympy.Matrix(covariance)
    n = len(variables)
    if matrix.shape != (n, n):
        raise ValueError(f"{n} variables need a covariance of shape {(n, n)}, not {matrix.shape}")
    if len(set(variables)) < n:
        raise ValueError("each variable may be given once; equal fields have equal rows of C")
    _check(matrix)
    return closed_forms.average(read(expression, variables), matrix)


def _check(matrix: sympy.Matrix) -> None:
    """Raises unless the matrix is symmetric and, where numeric, positive semidefinite."""
    if any(sympy.expand(entry) != 0 for entry in matrix - matrix.T):
        raise ValueError(f"the covariance {matrix.tolist()} is not symmetric")
    if matrix.free_symbols:
        return
    values = np.array(matrix.evalf().tolist(), dtype=float)
    smallest = float(np.linalg.eigvalsh(values)[0]) if values.size else 0.0
    if not smallest >= -1e-12 * max(1.0, float(np.trace(values))):
        raise DomainError(f"not positive semidefinite: {matrix.tolist()}")
