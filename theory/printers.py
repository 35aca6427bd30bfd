"""Expressions of indexed tensors and averages on paper, in LaTeX or a line of Unicode."""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from sympy import Expr, Indexed, Symbol
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from theory.derivation.indexed import range_of
from theory.notation import NAMES, symbol_of


def average_name(signature: tuple[tuple[int, ...], ...], fields: list[str], latex: bool) -> str:
    """⟨g'_k g_c⟩, with primes for derivatives."""

    def factor(order: int, at: str) -> str:
        primes = "'" * order if order < 4 else f"^{{({order})}}"
        return f"g{primes}_{{{at}}}" if latex else f"g{primes}_{at}"

    body = " ".join(factor(q, at) for slot, at in zip(signature, fields, strict=True) for q in slot)
    return rf"\langle {body}\rangle" if latex else f"⟨{body}⟩"


def _fields_of(average: Expr) -> list[str]:
    """The field indices of an average, read off the diagonal of its covariance."""
    n, at, found = len(type(average).signature), 0, []
    for i in range(n):
        argument = average.args[at]
        found.append(plain(argument.indices[-1]) if isinstance(argument, Indexed) else str(i + 1))
        at += n - i
    return found


def _over(average: Expr, latex: bool) -> str:
    """The covariance of the fields that an average is over, as an index, unless it is C itself."""
    labels = [str(a.base.label) for a in average.args if isinstance(a, Indexed)]
    named = [name for name in labels if not name.startswith("V")] or labels
    if not named or named[0] in ("C", "C_task", "V"):
        return ""
    symbol = symbol_of(named[0], latex)
    return f"_{{{symbol}}}" if latex else f"_{symbol}"


class Latex(LatexPrinter):
    """LaTeX with the field's symbols."""

    printmethod = "_macrodyn"
    symbols: Mapping[str, tuple[str, str]] = NAMES

    def _print_Indexed(self, expr: Indexed) -> str:
        return entry(expr, latex=True)

    def _print_Mul(self, expr: Expr) -> str:
        """Numbers and π in front, as a fraction of their own."""
        numbers = [f for f in expr.args if f.is_number]
        rest = sympy.Mul(*(f for f in expr.args if not f.is_number))
        number = sympy.Mul(*numbers)
        if rest == 1 or sympy.fraction(number)[1] == 1:
            return super()._print_Mul(expr)
        shown = self.parenthesize(rest, PRECEDENCE["Mul"]) if rest.is_Add else self.doprint(rest)
        return f"{self.doprint(number)} {shown}"

    def _print_SignMoment(self, expr: Expr, exp: str | None = None) -> str:
        text = rf"\mathrm{{sgn}}({', '.join(map(self.doprint, expr.args))})"
        return text if exp is None else f"{text}^{{{exp}}}"

    def _print_Pi(self, expr: Expr, exp: str | None = None) -> str:
        return r"\pi" if exp is None else rf"\pi^{{{exp}}}"

    def _print_Symbol(self, expr: Symbol, style: str = "plain") -> str:
        if expr.name in self.symbols:
            return self.symbols[expr.name][0]
        return super()._print_Symbol(expr, style)

    def _print_Function(self, expr: Expr, exp: str | None = None) -> str:
        signature = getattr(type(expr), "signature", None)
        if signature is None:
            return super()._print_Function(expr, exp)
        text = average_name(signature, _fields_of(expr), latex=True) + _over(expr, latex=True)
        return text if exp is None else f"{text}^{{{exp}}}"


class Text(StrPrinter):
    """One line of Unicode with the field's symbols."""

    printmethod = "_macrodyn"
    symbols: Mapping[str, tuple[str, str]] = NAMES

    def _print_Indexed(self, expr: Indexed) -> str:
        return entry(expr, latex=False)

    def _print_Symbol(self, expr: Symbol) -> str:
        return self.symbols.get(expr.name, ("", expr.name))[1]

    def _print_Function(self, expr: Expr) -> str:
        signature = getattr(type(expr), "signature", None)
        if signature is None:
            return super()._print_Function(expr)
        return average_name(signature, _fields_of(expr), latex=False) + _over(expr, latex=False)


def plain(i: Expr) -> str:
    """An index, its number as primes; the inner ones of an inverse's adjoint are i and j."""
    return {"k8": "i", "k9": "j"}.get(str(i), str(i)[0] + "'" * (int(str(i)[1:] or 1) - 1))


def entry(expr: Indexed, latex: bool) -> str:
    """A tensor's entry with its indices."""
    name, at = str(expr.base.label), [plain(i) for i in expr.indices if range_of(i) != "one"]
    symbol, subscript = symbol_of(name, latex), " ".join(at) if latex else "".join(at)
    if not at:  # a number may be raised to a power
        return f"{{{symbol}}}" if latex and "^" in symbol else symbol
    if name.split("_")[0] in ("I2", "I4", "A4") and "bar" not in name:
        return f"{symbol}({', '.join(at)})"
    return f"{symbol}_{{{subscript}}}" if latex else f"{symbol}_{subscript}"
