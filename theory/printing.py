"""A flow on paper: definitions first, then the flow, then the averages, in LaTeX or plain text.

Sums are written out; the letter of an index says what it runs over. Everything that the generated
code evaluates is printed, from the same definitions, so that the page alone defines the flow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import sympy
from sympy import Expr, Indexed, Symbol

from theory.activations import Activation, erf
from theory.averages import NoClosedFormError, closed_form
from theory.derivation.indexed import Definition, Piece, free_indices, range_of
from theory.flow import Flow
from theory.notation import (
    ADJOINTS,
    CORRECTIONS,
    GREEK,
    LEGEND,
    LINES,
    MEANINGS,
    MODEL,
    NAMES,
    RESIDUAL,
    SIGNS,
    TIME,
    prose,
    rate_meaning,
    rate_symbol,
    symbol_of,
)
from theory.printers import Latex, Text, average_name, entry, plain
from theory.rules import argument

SETTINGS: dict[str, Any] = {"inv_trig_style": "full"}
RATES = {"dQ": "Q", "dR": "R", "dw": "w"}


@dataclass(frozen=True)
class Style:
    """How a page is set: expressions, sums, lines."""

    latex: bool
    expression: Callable[[Expr], str]

    def terms(self, piece: Piece) -> list[str]:
        """The signed terms of a piece's right-hand side, with their sums."""
        parts: list[str] = []
        for term in (part for whole in piece.terms() for part in self._spread(whole)):
            sums = tuple(i for i in piece.summed(term) if range_of(i) != "one")
            negative = term.could_extract_minus_sign()
            term = -term if negative else term
            text = self._summed(term, sums) if sums else self.expression(term)
            parts.append(("- " if negative else "+ ") + text)
        return [parts[0][2:] if parts[0][0] == "+" else f"-{parts[0][2:]}", *parts[1:]]

    def _spread(self, term: Expr) -> tuple[Expr, ...]:
        """The term; in LaTeX term by term where a factor is a sum that is longer than a line."""
        for factor in sympy.Mul.make_args(term) if self.latex else ():
            if factor.is_Add and factor.has(Indexed) and sympy.count_ops(factor) > 4 * LONG:
                return tuple(term / factor * part for part in factor.args)
        return (term,)

    def sum(self, value: Expr) -> str:
        """A sum without indices, in LaTeX over as many lines as it needs."""
        terms = value.as_ordered_terms() if self.latex else [value]
        return added([self.expression(t) for t in terms], self.latex)

    def _summed(self, term: Expr, sums: tuple[Symbol, ...]) -> str:
        """A sum, with the factors in front that do not depend on its indices."""
        factors = sympy.Mul.make_args(term)
        inside = [f for f in factors if free_indices(f) & set(sums)]
        outside = sympy.Mul(*(f for f in factors if f not in inside))
        text = self.expression(sympy.Mul(*inside))
        if len(inside) == 1 and isinstance(inside[0], sympy.Add):
            text = rf"\left({text}\right)" if self.latex else f"({text})"
        over = [plain(i) for i in sums]
        text = (
            rf"\sum_{{{' '.join(over)}}} {text}" if self.latex else f"Σ_{{{','.join(over)}}} {text}"
        )
        if outside == 1:
            return text
        front = self.expression(outside)
        if isinstance(outside, sympy.Add):
            front = f"({front})"
        return f"{front} {text}"

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


def _style(flow: Flow, latex: bool) -> Style:
    printer = Latex(SETTINGS) if latex else Text()
    printer.symbols = symbols_of(flow)
    return Style(latex, printer.doprint)


def equations(flow: Flow, latex: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections (title, [(left, right)]) of a flow: its definitions, then the flow itself."""
    style, discrete = _style(flow, latex), flow.rule.regime == "population"
    sections: dict[str, list[tuple[str, str]]] = {"Definitions": [], "Flow": []}
    for definition in flow.definitions:
        title = "Flow" if definition.name in RATES else "Definitions"
        pieces = [p for p in definition.pieces if p.expression != 0] or definition.pieces[:1]
        for number, piece in enumerate(pieces):
            right = lines_of(style.terms(piece), latex)
            if definition.external:
                right = rf"({right})^{{+}}" if latex else f"({right})⁺"
            adds = any(_overlap(piece, earlier) for earlier in pieces[:number])
            equals = (r"\mathrel{+}=" if latex else "+=") if adds else "="
            sections[title].append((style.left(definition, piece, discrete), f"{equals} {right}"))
    return [(title, rows) for title, rows in sections.items() if rows]


def added(terms: list[str], latex: bool) -> str:
    """The sum of printed terms, a sign between them."""
    later = [f"- {t[1:].lstrip()}" if t[0] == "-" else f"+ {t}" for t in terms[1:]]
    return lines_of([terms[0], *later], latex)


def lines_of(terms: list[str], latex: bool) -> str:
    """Terms side by side; in LaTeX a new line where the page ends."""
    if not latex:
        return " ".join(terms)
    text, width = "", 0
    for term in terms:
        size = len(_COMMANDS.sub("x", term))
        if text and width + size > LINE:
            text, width = f"{text} \\\\\n& \\quad {term}", size
        else:
            text, width = f"{text} {term}".strip(), width + size
    return text


_COMMANDS = re.compile(r"\\[a-zA-Z]+|[{}_^ ]+")
LINE = 78
"""Characters of mathematics on a line of LaTeX."""


def _overlap(piece: Piece, earlier: Piece) -> bool:
    """Whether two pieces of a definition share entries; learner and teacher slices do not."""
    pairs = zip(piece.at, earlier.at, strict=True)
    return all({range_of(i), range_of(j)} != {"K", "M"} for i, j in pairs)


def averages(flow: Flow, activation: Activation, latex: bool) -> list[tuple[str, str]]:
    """Closed forms of the averages that a flow uses, in the covariance of the fields 1, 2, …"""
    found = {
        tuple(sorted(type(a).signature, reverse=True))
        for d in flow.definitions for p in d.pieces for a in p.expression.atoms(sympy.Function)
        if hasattr(type(a), "signature")
    }  # fmt: skip
    style, lines, parts = _style(flow, latex), [], {}
    for signature in sorted(found, key=lambda s: (len(s), s)):
        n = len(signature)
        C = sympy.Matrix(n, n, lambda i, j: _covariance(min(i, j) + 1, max(i, j) + 1, latex))
        left = average_name(signature, [str(i + 1) for i in range(n)], latex)
        try:
            value = _shortened(closed_form(signature, activation, C), parts, latex)
        except NoClosedFormError as error:
            why = f"by cubature: {error}"
            lines.append((left, rf"\quad\text{{{prose(why)}}}" if latex else f"= {why}"))
            continue
        lines.append((left, f"= {style.sum(value)}"))
    named = [(style.expression(name), f"= {style.sum(e)}") for e, name in parts.items()]
    signs = any("sgn}(" in right or "SignMoment(" in right for _, right in lines)
    return [*([SIGNS[0 if latex else 1]] if signs else []), *named, *lines]


def _covariance(i: int, j: int, latex: bool) -> Symbol:
    return Symbol(f"C_{{{i}{j}}}" if latex else f"C{i}{j}")


def _shortened(value: Expr, parts: dict[Expr, Symbol], latex: bool) -> Expr:
    """The value with the long sums inside its terms, and all correlations, named Λ_1, Λ_2, …"""

    def name(part: Expr) -> Expr:
        symbol = rf"\Lambda_{{{len(parts) + 1}}}" if latex else f"Λ{len(parts) + 1}"
        return parts.setdefault(part, Symbol(symbol))

    def inside(part: Expr) -> Expr:
        """A part of a term, innermost sums first."""
        if part.is_Atom:
            return part
        made = part.func(*map(inside, part.args))
        if type(part).__name__ == "SignMoment":
            return part.func(*(a if a.is_Atom else name(a) for a in made.args))
        return name(made) if made.is_Add and sympy.count_ops(made) > LONG else made

    return sympy.Add(*map(inside, sympy.Add.make_args(value)))


LONG = 7
"""Operations beyond which a sum inside a term gets a name."""


def docs_of(flow: Flow) -> dict[str, str]:
    """What the scalars of a flow mean, by name."""
    docs = {argument(f.name): f.metadata.get("doc", f.name) for f in fields(flow.rule)}
    if getattr(flow.rule, "representation_rate", 0.0) is None:
        docs["inner_rate"] += " and of the representation"
    return docs | {"label_noise": "σ, label noise; ν a normal number"}


def symbols_of(flow: Flow) -> dict[str, tuple[str, str]]:
    """How the scalars and tensors of a flow are written, in LaTeX and in Unicode."""
    return NAMES | {name: rate_symbol(name, doc) for name, doc in docs_of(flow).items()}


def preamble(flow: Flow, activation: Activation, latex: bool) -> list[str]:
    """What the letters mean: the model, the rates, the indices, the tensors."""
    which = 0 if latex else 1
    letters = {plain(i)[0] for d in flow.definitions for p in d.pieces
               for i in (*p.at, *p.summed(p.expression))}  # fmt: skip
    docs = docs_of(flow)
    of_noise = ("query", "tasks_per_step") if "S_finite" in flow.program.inputs else ()
    rates = [rate_meaning(name, docs.get(name, name), latex) for name in (*flow.scalars, *of_noise)]
    g: Any = activation.name if activation.expression is None else activation.expression
    if latex:
        g = prose(g) if isinstance(g, str) else f"${sympy.latex(g, **SETTINGS)}$"
    legend = []
    for names, meaning in LEGEND:
        shown = ", ".join(n for n in names if n in letters)
        if shown:
            legend.append(f"${shown}$: {prose(meaning)}" if latex else f"{shown}: {meaning}")
    used = {d.name for d in flow.definitions} | set(flow.program.inputs)
    time = [TIME[flow.rule.regime == "population"][which]] if "dQ" in flow.outputs else []
    return [
        MODEL[which],
        f"Activation $g(x)$ = {g}." if latex else f"Activation g(x) = {g}.",
        RESIDUAL[which],
        LINES[which],
        "; ".join((*time, *rates)),
        "; ".join(legend),
        *(row[which + 1] for row in MEANINGS if row[0] in used),
        *([ADJOINTS[which]] if any("_bar" in name for name in used) else []),
        *([f"{CORRECTIONS[which]} {', '.join(flow.corrections)}."] if flow.corrections else []),
    ]


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
    parts = [r"{\allowdisplaybreaks", rf"\paragraph{{{flow.title}.}}", r"\begin{itemize}",
             *(rf"\item {row}" for row in preamble(flow, activation, True)),
             r"\end{itemize}"]  # fmt: skip
    sections = equations(flow, True)
    if with_averages:
        sections.append(("Averages", averages(flow, activation, True)))
    for title, rows in sections:
        body = " \\\\\n".join(rf"{left} & {right}" for left, right in rows)
        parts += [rf"\paragraph{{{title}.}}", "\\begin{align*}", body, "\\end{align*}"]
    return "\n".join([*parts, "}"])


def markdown(flow: Flow, activation: Activation) -> str:
    """The page for a notebook, which shows a flow that is the value of a cell this way."""
    parts = [f"**{flow.title}**", "\n".join(f"- {row}" for row in preamble(flow, activation, True))]
    for title, rows in (*equations(flow, True), ("Averages", averages(flow, activation, True))):
        body = " \\\\\n".join(rf"{left} & {right}" for left, right in rows)
        parts += [f"**{title}**", f"$$\\begin{{align*}}\n{body}\n\\end{{align*}}$$"]
    return "\n\n".join(parts)


@dataclass(frozen=True, repr=False)
class PrintedFlow(Flow):
    """A flow that prints itself, with its activation."""

    activation: Activation = erf

    @classmethod
    def of(cls, flow: Flow, activation: Activation) -> PrintedFlow:
        """``flow`` with the activation that its averages are closed for."""
        return cls(**{f.name: getattr(flow, f.name) for f in fields(flow)}, activation=activation)

    def _repr_markdown_(self) -> str:
        return markdown(self, self.activation)

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
    {**{letter: name.removeprefix("var") for letter, name in GREEK.items()}, "ν": " nu",
     "Σ": "sum", "°": "^o", "ϵ": "e_tr", "→": "->", "∞": "infinity", "ℒ": "L", "𝒢": "G", "∂": "d",
     "⟨": "<", "⟩": ">", "û": "u^", "½": "1/2 ", "²": "^2", "⁰": "^0", "⁻": "^-", "¹": "1",
     "⁺": "^+", "⁽": "^(", "⁾": ")", "−": "-", "…": "...", "·": "*", "ˢ": "^s", "ᵀ": "^T",
     "√": "sqrt "}
)  # fmt: skip
