"""A flow on paper: definitions first, then the flow, then the averages, in LaTeX or plain text.

Sums are written out; the letter of an index says what it runs over. Everything that the generated
code evaluates is printed, from the same definitions, so that the page alone defines the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import sympy
from sympy import Expr, Indexed, Symbol
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from theory.activations import Activation, erf
from theory.averages import NoClosedFormError, closed_form
from theory.flow import Flow
from theory.indexed import Definition, Piece, range_of
from theory.notation import LEGEND, MEANINGS, NAMES, symbol_of

RATES = {"dQ": "Q", "dR": "R", "dw": "w"}


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
        found.append(_plain(argument.indices[-1]) if isinstance(argument, Indexed) else str(i + 1))
        at += n - i
    return found


class _Latex(LatexPrinter):
    """LaTeX with the field's symbols."""

    printmethod = "_macrodyn"

    def _print_Indexed(self, expr: Indexed) -> str:
        return entry(expr, latex=True)

    def _print_Pi(self, expr: Expr, exp: str | None = None) -> str:
        return r"\pi" if exp is None else rf"\pi^{{{exp}}}"

    def _print_Symbol(self, expr: Symbol, style: str = "plain") -> str:
        if expr.name in NAMES:
            return NAMES[expr.name][0]
        return super()._print_Symbol(expr, style)

    def _print_Function(self, expr: Expr, exp: str | None = None) -> str:
        signature = getattr(type(expr), "signature", None)
        if signature is None:
            return super()._print_Function(expr, exp)
        text = average_name(signature, _fields_of(expr), latex=True)
        return text if exp is None else f"{text}^{{{exp}}}"


class _Text(StrPrinter):
    """One line of Unicode with the field's symbols."""

    printmethod = "_macrodyn"

    def _print_Indexed(self, expr: Indexed) -> str:
        return entry(expr, latex=False)

    def _print_Symbol(self, expr: Symbol) -> str:
        return NAMES.get(expr.name, ("", expr.name))[1]

    def _print_Function(self, expr: Expr) -> str:
        signature = getattr(type(expr), "signature", None)
        if signature is None:
            return super()._print_Function(expr)
        return average_name(signature, _fields_of(expr), latex=False)


def _plain(i: Expr) -> str:
    """An index, its number as primes."""
    return str(i)[0] + "'" * (int(str(i)[1:] or 1) - 1)


def entry(expr: Indexed, latex: bool) -> str:
    """A tensor's entry with its indices."""
    name, at = str(expr.base.label), [_plain(i) for i in expr.indices]
    symbol, subscript = symbol_of(name, latex), " ".join(at) if latex else "".join(at)
    if not at:
        return symbol
    if name.split("_")[0] in ("I2", "I4", "A4") and "bar" not in name:
        return f"{symbol}({', '.join(at)})"
    if "'" in symbol and latex:
        symbol = f"{{{symbol}}}"
    return f"{symbol}_{{{subscript}}}" if latex else f"{symbol}_{subscript}"


@dataclass(frozen=True)
class Style:
    """How a page is set: expressions, sums, lines."""

    latex: bool
    expression: Callable[[Expr], str]

    def total(self, piece: Piece) -> str:
        """The right-hand side of a piece, with its sums."""
        parts: list[str] = []
        for term in piece.terms():
            sums = [_plain(i) for i in piece.summed(term)]
            negative = term.could_extract_minus_sign()
            text = self.expression(-term if negative else term)
            if sums and isinstance(term, sympy.Add):
                text = f"({text})"
            if sums:
                text = (
                    rf"\sum_{{{' '.join(sums)}}} {text}"
                    if self.latex
                    else f"Σ_{{{','.join(sums)}}} {text}"
                )
            parts.append(("- " if negative else "+ ") + text)
        joined = " ".join(parts)
        return joined[2:] if joined.startswith("+ ") else joined.replace("- ", "-", 1)

    def left(self, definition: Definition, piece: Piece, discrete: bool) -> str:
        """The left-hand side: an entry, or its derivative in time."""
        name = definition.name
        if name not in RATES:
            return (
                entry(definition.base[piece.at], self.latex)
                if piece.at
                else symbol_of(name, self.latex)
            )
        Entry = entry(sympy.IndexedBase(RATES[name])[piece.at], self.latex)
        if discrete:
            return rf"\Delta {Entry}" if self.latex else f"Δ{Entry}"
        return rf"\frac{{d {Entry}}}{{d\alpha}}" if self.latex else f"d{Entry}/dα"


def _style(latex: bool) -> Style:
    return Style(latex, (_Latex() if latex else _Text()).doprint)


def equations(flow: Flow, latex: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections (title, [(left, right)]) of a flow: its definitions, then the flow itself."""
    style, discrete = _style(latex), flow.rule.regime == "population"
    sections: dict[str, list[tuple[str, str]]] = {"Definitions": [], "Flow": []}
    for definition in flow.definitions:
        title = "Flow" if definition.name in RATES else "Definitions"
        for number, piece in enumerate(definition.pieces):
            right = style.total(piece)
            if definition.external:
                right = rf"({right})^{{+}}" if latex else f"({right})⁺"
            adds = any(_overlap(piece, earlier) for earlier in definition.pieces[:number])
            equals = (r"\mathrel{+}=" if latex else "+=") if adds else "="
            sections[title].append((style.left(definition, piece, discrete), f"{equals} {right}"))
    return list(sections.items())


def _overlap(piece: Piece, earlier: Piece) -> bool:
    """Whether two pieces of a definition share entries; learner and teacher slices do not."""
    pairs = zip(piece.at, earlier.at, strict=True)
    return all({range_of(i), range_of(j)} != {"K", "M"} for i, j in pairs)


def averages(flow: Flow, activation: Activation, latex: bool) -> list[tuple[str, str]]:
    """Closed forms of the averages that a flow uses, in the covariance of the fields 1, 2, …"""
    found = {
        type(a).signature: a
        for d in flow.definitions for p in d.pieces for a in p.expression.atoms(sympy.Function)
        if hasattr(type(a), "signature")
    }  # fmt: skip
    style, lines = _style(latex), []
    for signature in sorted(found, key=lambda s: (len(s), s)):
        n = len(signature)
        C = sympy.Matrix(
            n,
            n,
            lambda i, j: Symbol(
                f"C_{{{min(i, j) + 1}{max(i, j) + 1}}}"
                if latex
                else f"C{min(i, j) + 1}{max(i, j) + 1}"
            ),
        )
        left = average_name(signature, [str(i + 1) for i in range(n)], latex)
        try:
            right = style.expression(closed_form(signature, activation, C))
        except NoClosedFormError as error:
            right = rf"\text{{{error}}}" if latex else str(error)
        lines.append((left, f"= {right}"))
    return lines


def preamble(flow: Flow, activation: Activation, latex: bool) -> list[str]:
    """What the letters mean: the model, the indices, the inputs."""
    letters = {str(i)[0] for d in flow.definitions for p in d.pieces
               for i in (*p.at, *p.summed(p.expression))}  # fmt: skip
    rows = [f"{names}: {meaning}" for names, meaning in LEGEND if set(names.split(", ")) & letters]
    used = {d.name for d in flow.definitions} | set(flow.program.inputs)
    meanings = [tex if latex else plain for name, tex, plain in MEANINGS if name in used]
    if not latex:
        return [f"Activation g(x) = {activation.expression or activation.name}.",
                "Residual Δ = Σ_a s_a g(x_a) + σν with s = (−w, u); loss ½Δ².",
                *rows, *meanings]  # fmt: skip
    g = (
        activation.name
        if activation.expression is None
        else f"${sympy.latex(activation.expression)}$"
    )
    return [
        f"Activation $g(x)$ = {g}.",
        r"Residual $\Delta = \sum_a s_a g(x_a) + \sigma\nu$ with $s = (-w, u)$; "
        r"loss $\frac12\Delta^2$; $\widehat{X} = \partial\varepsilon/\partial X$.",
        *(_escape(row) for row in rows), *meanings,
    ]  # fmt: skip


def text(flow: Flow, activation: Activation, *, with_averages: bool = True) -> str:
    """The page in Unicode."""
    lines = [flow.title, "=" * len(flow.title), *preamble(flow, activation, False), ""]
    for title, rows in equations(flow, False):
        lines += [title, "-" * len(title), *(f"  {left} {right}" for left, right in rows), ""]
    if with_averages:
        rows = averages(flow, activation, False)
        lines += ["Averages", "--------", *(f"  {left} {right}" for left, right in rows), ""]
    return "\n".join(lines)


def latex(flow: Flow, activation: Activation, *, with_averages: bool = True) -> str:
    """The page in LaTeX: paragraphs of aligned equations, for amsmath."""
    parts = [rf"\paragraph{{{flow.title}.}}", r"\begin{itemize}",
             *(rf"\item {row}" for row in preamble(flow, activation, True)),
             r"\end{itemize}"]  # fmt: skip
    sections = equations(flow, True)
    if with_averages:
        sections.append(("Averages", averages(flow, activation, True)))
    for title, rows in sections:
        body = " \\\\\n".join(rf"{left} & {right}" for left, right in rows)
        parts += [rf"\paragraph{{{title}.}}", "\\begin{align*}", body, "\\end{align*}"]
    return "\n".join(parts)


_GREEK = {"û": r"$\hat u$", "…": r"\dots{}"}


def _escape(row: str) -> str:
    for plain, typeset in sorted(_GREEK.items(), key=lambda item: -len(item[0])):
        row = row.replace(plain, typeset)
    return row


@dataclass(frozen=True)
class PrintedFlow(Flow):
    """A flow that prints itself, with its activation."""

    activation: Activation = erf

    @classmethod
    def of(cls, flow: Flow, activation: Activation) -> PrintedFlow:
        """``flow`` with the activation that its averages are closed for."""
        return cls(**{f.name: getattr(flow, f.name) for f in fields(flow)}, activation=activation)

    def latex(self, *, averages: bool = True) -> str:
        """The page in LaTeX, for amsmath."""
        return latex(self, self.activation, with_averages=averages)

    def unicode(self, *, averages: bool = True) -> str:
        """The page in Unicode."""
        return text(self, self.activation, with_averages=averages)

    def text(self, *, averages: bool = True) -> str:
        """The page in ASCII: Greek letters by name, ⟨x⟩ as <x>, Σ as sum."""
        return ascii_text(self.unicode(averages=averages))


def ascii_text(page: str) -> str:
    """A page of Unicode text in ASCII: Greek letters by name, ⟨x⟩ as <x>, Σ as sum."""
    return page.translate(_ASCII)


_ASCII = str.maketrans(
    {"η": "eta", "κ": "kappa", "σ": "sigma", "ρ": "rho", "λ": "lambda", "ε": "epsilon",
     "δ": "delta",
     "α": "alpha", "ν": " nu", "Σ": "sum", "Δ": "Delta", "Φ": "Phi", "𝒢": "G", "∂": "d", "⟨": "<",
     "⟩": ">", "û": "u^", "½": "1/2 ", "²": "^2", "⁰": "^0", "⁺": "^+", "⁽": "^(", "⁾": ")",
     "−": "-", "…": "...", "·": "*"}
)  # fmt: skip
