"""From an ordinary expression in Gaussian variables to the factors that the rules know.

Everything is written in two functions of a *slot* (a variable, or a linear form of them):

    S_a(x) = erf(x/√(2a)),   W_a(x) = S_a'(x) = √(2/πa) exp(−x²/2a),

which are sign(x) and 2δ(x) at a = 0. erf networks have a = 1 and relu networks a = 0, so one set of
rules serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr, Integer, S, Symbol, sqrt

from theory.errors import NoClosedFormError


@dataclass(frozen=True)
class Term:
    """coefficient · Π_j x_j^powers[j] · Π_{(j,a,k)} W_a^(k)(x_j) · Π_{(j,a)} S_a(x_j)."""

    coefficient: Expr
    powers: tuple[int, ...]
    weights: tuple[tuple[int, Expr, int], ...] = ()
    signs: tuple[tuple[int, Expr], ...] = ()


@dataclass(frozen=True)
class Integrand:
    """A sum of terms over the slots ``forms`` (rows of coefficients, one column per variable)."""

    forms: tuple[tuple[Expr, ...], ...]
    terms: tuple[Term, ...]

    @property
    def sign_factors(self) -> int:
        """The largest number of factors S_a in one term."""
        return max((len(term.signs) for term in self.terms), default=0)


def _elementary(expression: Expr) -> Expr:
    """Max, Min, |x|, Heaviside and erfc in terms of sign and erf."""

    def maximum(*arguments: Expr) -> Expr:
        result = arguments[0]
        for other in arguments[1:]:
            gap = sympy.expand(result - other)
            result = (result + other + gap * sympy.sign(gap)) / 2
        return result

    return (
        expression.replace(sympy.Min, lambda *u: -sympy.Max(*(-v for v in u)))
        .replace(sympy.Max, maximum)
        .replace(sympy.Abs, lambda u: u * sympy.sign(u))
        .replace(sympy.Heaviside, lambda u, *_: (1 + sympy.sign(u)) / 2)
        .replace(sympy.erfc, lambda u: 1 - sympy.erf(u))
    )


class _Reader:
    """Collects the linear forms met while the terms of one expression are read."""

    def __init__(self, variables: Sequence[Symbol]) -> None:
        self.variables = tuple(variables)
        n = len(self.variables)
        self.forms = [tuple(Integer(i == j) for j in range(n)) for i in range(n)]

    def linear(self, argument: Expr) -> tuple[int, Expr]:
        """(slot, scale) with argument = scale · slot; the scale is ±1 for any new slot."""
        coefficients = tuple(sympy.diff(argument, v) for v in self.variables)
        rest = argument - sum(c * v for c, v in zip(coefficients, self.variables, strict=True))
        if any(c.has(*self.variables) for c in coefficients) or sympy.expand(rest) != 0:
            raise NoClosedFormError(f"the argument {argument} is not linear in the fields")
        present = [i for i, c in enumerate(coefficients) if c != 0]
        if len(present) == 1 and coefficients[present[0]].is_nonzero:
            scale = coefficients[present[0]]
            if scale.is_positive or scale.is_negative:
                return present[0], scale
        return self.slot(coefficients), S.One

    def slot(self, coefficients: tuple[Expr, ...]) -> int:
        if coefficients not in self.forms:
            self.forms.append(coefficients)
        return self.forms.index(coefficients)

    def term(self, product: Expr) -> Term:
        coefficient, exponent = S.One, S.Zero
        powers: dict[int, int] = {}
        weights: list[tuple[int, Expr, int]] = []
        signs: list[tuple[int, Expr]] = []
        for factor in sympy.Mul.make_args(product):
            base, power = factor.as_base_exp()
            if isinstance(factor, sympy.exp):
                exponent += factor.exp
            elif not factor.has(*self.variables):
                coefficient *= factor
            elif not (isinstance(power, Integer) and power > 0):
                raise NoClosedFormError(f"no Gaussian average of the factor {factor} is known")
            elif base in self.variables:
                powers[self.variables.index(base)] = int(power)
            elif isinstance(base, sympy.erf | sympy.sign):
                slot, scale = self.linear(base.args[0])
                width = 1 / (2 * scale**2) if isinstance(base, sympy.erf) else S.Zero
                coefficient *= sympy.sign(scale) ** power
                repeats = int(power) if width != 0 else int(power) % 2
                signs.extend([(slot, width)] * repeats)
            elif isinstance(base, sympy.DiracDelta) and power == 1:
                order = int(base.args[1]) if len(base.args) > 1 else 0
                slot, scale = self.linear(base.args[0])
                coefficient /= 2 * abs(scale) * scale**order
                weights.append((slot, S.Zero, order))
            else:
                raise NoClosedFormError(f"no Gaussian average of the factor {factor} is known")
        scale, gaussians = self.weights(exponent)
        weights += gaussians
        n = len(self.forms)
        filled = tuple(powers.get(i, 0) for i in range(n))
        return Term(coefficient * scale, filled, tuple(weights), tuple(signs))

    def weights(self, exponent: Expr) -> tuple[Expr, list[tuple[int, Expr, int]]]:
        """exp(exponent) as constant × Π W_a(slot), by completing squares."""
        form = sympy.hessian(exponent, self.variables) if self.variables else sympy.zeros(0)
        vector = sympy.Matrix(self.variables)
        constant = sympy.expand(exponent - (vector.T * form * vector)[0, 0] / 2)
        if form.has(*self.variables) or constant.has(*self.variables):
            raise NoClosedFormError(f"{exponent} is not a quadratic form of the fields")
        scale, weights = sympy.exp(constant), []
        precision = -form
        for i in range(len(self.variables)):
            pivot = sympy.together(precision[i, i])
            if pivot == 0:
                if any(entry != 0 for entry in precision[i, :]):
                    raise NoClosedFormError(f"the exponent {exponent} grows in some direction")
                continue
            if pivot.is_negative:
                raise NoClosedFormError(f"the exponent {exponent} grows in some direction")
            row = tuple(sympy.together(entry / pivot) for entry in precision[i, :])
            weights.append((self.slot(row), 1 / pivot, 0))
            scale *= sqrt(sympy.pi / (2 * pivot))
            precision = precision - pivot * sympy.Matrix(row) * sympy.Matrix([row])
        return scale, weights


def read(expression: Expr, variables: Sequence[Symbol]) -> Integrand:
    """The factors of an expression in the given variables.

    Raises: NoClosedFormError, naming the factor that no rule knows.
    """
    reader = _Reader(variables)
    expanded = sympy.expand(_elementary(sympy.sympify(expression, strict=True)))
    terms = [reader.term(part) for part in sympy.Add.make_args(expanded) if part != 0]
    slots = len(reader.forms)
    padded = (
        Term(t.coefficient, t.powers + (0,) * (slots - len(t.powers)), t.weights, t.signs)
        for t in terms
    )
    return Integrand(tuple(reader.forms), tuple(padded))
