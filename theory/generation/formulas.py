"""Scalar and broadcast formulas as Python text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import sympy
from sympy import Expr, Indexed
from sympy.printing.numpy import NumPyPrinter

from theory.generation.native import UnsupportedError


class FormulaPrinter(NumPyPrinter):
    """numpy expressions in float arithmetic; half-integer powers by square roots."""

    def __init__(self) -> None:
        super().__init__({"fully_qualified_modules": False, "precision": 17})

    def _print_Pow(self, expr: Expr, rational: bool = False) -> str:
        base, power = expr.as_base_exp()
        if not (2 * power).is_integer or abs(power) > 8:
            return super()._print_Pow(expr, rational=rational)
        inner, whole = self._print(base), int(abs(power))
        inner = inner if base.is_Atom else f"({inner})"
        factors = [inner] * whole
        if not power.is_integer:
            factors.insert(0, f"sqrt({self._print(base)})")
        product = "*".join(factors)
        product = f"({product})" if len(factors) > 1 else product
        return product if power > 0 else f"(1/{product})"

    def _print_Mul(self, expr: Expr) -> str:
        """Constants first, so that they multiply a number and not an array."""
        constant, rest = sympy.Integer(1), []
        for factor in sympy.Mul.make_args(expr):
            if self._is_constant(factor):
                constant *= factor
            else:
                rest.append(factor)
        if constant in (1, -1) or not rest:
            return super()._print_Mul(expr)
        product = sympy.Mul(*rest, evaluate=False) if len(rest) > 1 else rest[0]
        text = self._print(product)
        return f"{self.constant(constant)}*{f'({text})' if rest[0].is_Add else text}"

    def _is_constant(self, expr: Expr) -> bool:
        return bool(expr.is_number)

    def constant(self, expr: Expr) -> str:
        """Code of a factor that is known before any array."""
        return repr(float(expr))

    def _print_Function(self, expr: Expr) -> str:
        signature = getattr(type(expr), "signature", None)
        if signature is not None:
            arguments = ", ".join(self._print(x) for x in expr.args)
            return f"average({signature!r}, {arguments})"
        if type(expr).__name__ == "SignMoment":
            return f"sign_moment({', '.join(self._print(x) for x in expr.args)})"
        return super()._print_Function(expr)

    def _print_Number(self, expr: Expr) -> str:
        return repr(float(expr)) if not expr.is_Integer else str(int(expr))

    _print_Rational = _print_Half = _print_Number


class ArrayPrinter(FormulaPrinter):
    """Expressions of arrays, with as few calls as they take.

    ``scalars`` names the parameters without an index; ``keep`` gives a variable to code that is
    evaluated once. numpy is quicker with arrays without an axis than with Python's numbers.
    """

    def __init__(self, scalars: Collection[str], keep: Callable[[str], str]) -> None:
        super().__init__()
        self.scalars, self.keep = frozenset(scalars), keep
        self.narrow: frozenset[Expr] = frozenset()
        """Arrays that are broadcast where they are used."""

    def _is_constant(self, expr: Expr) -> bool:
        return not expr.has(Indexed) and {str(s) for s in expr.free_symbols} <= self.scalars

    def constant(self, expr: Expr) -> str:
        """The variable of a constant."""
        code = repr(float(expr)) if expr.is_number else str(FormulaPrinter().doprint(expr))
        return code if code.isidentifier() else self.keep(f"asarray({code})")

    def whole(self, expr: Expr) -> str:
        """Code of an expression."""
        return self.constant(expr) if self._is_constant(expr) else str(self.doprint(expr))

    def _print_Add(self, expr: Expr, order: None = None) -> str:
        """What is taken away comes last."""
        terms = [self.constant(term) if self._is_constant(term) else self._print(term)
                 for term in expr.as_ordered_terms()]  # fmt: skip
        return summed(terms)

    def _print_Mul(self, expr: Expr) -> str:
        """What is broadcast is multiplied by itself first: whole arrays take no broadcasting."""
        factors = sympy.Mul.make_args(expr)
        narrow = [f for f in factors if f.free_symbols and f.free_symbols <= self.narrow]
        others = sympy.Mul(*(f for f in factors if f not in narrow))
        if len(narrow) < 2 or self._is_constant(others):
            return super()._print_Mul(expr)
        text = f"({self._print(others)})" if others.is_Add else self._print(others)
        return f"{text}*({super()._print_Mul(sympy.Mul(*narrow))})"

    def _print_Pow(self, expr: Expr, rational: bool = False) -> str:
        if expr.exp == -1 or expr.exp == -sympy.S.Half:
            return f"reciprocal({self._print(1 / expr)})"
        return super()._print_Pow(expr, rational=rational)


def summed(terms: Iterable[str]) -> str:
    """Code of a sum, what is taken away last."""
    first, *rest = sorted(terms, key=lambda term: term.startswith("-"))
    return first + "".join(f" - {t[1:]}" if t.startswith("-") else f" + {t}" for t in rest)


class LoopPrinter(FormulaPrinter):
    """Scalar expressions of the loops; in those over matrices, roots without a division."""

    in_matrix = False

    def _print_Pow(self, expr: Expr, rational: bool = False) -> str:
        if self.in_matrix and expr.exp == -sympy.S.Half:
            return f"rsqrt({self._print(expr.base)})"
        return super()._print_Pow(expr, rational=rational)

    def _print_Mul(self, expr: Expr) -> str:
        """Without fractions where roots have a name of their own."""
        roots = [f for f in expr.args if f.is_Pow and f.exp == -sympy.S.Half]
        if not self.in_matrix or not roots:
            return super()._print_Mul(expr)
        rest = sympy.Mul(*(f for f in expr.args if f not in roots))
        shown = [f"({self._print(rest)})" if rest.is_Add else self._print(rest)]
        return "*".join([*(shown if rest != 1 else ()), *map(self._print, roots)])

    def _print_Function(self, expr: Expr) -> str:
        large = type(expr).__name__ == "SignMoment" and len(expr.args) > 6
        if hasattr(type(expr), "signature") or large:
            raise UnsupportedError(f"{type(expr).__name__} is evaluated by a numeric routine")
        return super()._print_Function(expr)

    def _print_KroneckerDelta(self, expr: Expr) -> str:
        first, second = expr.args
        return f"(1.0 if {first} == {second} else 0.0)"
