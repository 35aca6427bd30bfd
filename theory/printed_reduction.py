"""A reduced flow on paper: its scalars in order of evaluation, then the rates of its state."""

from __future__ import annotations

import re
from collections.abc import Callable

import sympy
from sympy import Expr, Symbol

from theory.ansatz import Reduction
from theory.notation import NAMES, symbol_of

UNITS = {
    "h": "a learner unit", "x": "a learner unit without a teacher unit", "b": "a teacher unit",
    "u": "the component of û for a teacher unit", "1": "the component 1 of û = (1, u)",
}  # fmt: skip
"""What the letters of a pattern stand for; a prime marks another unit of the same family."""

ENTRIES = (
    "Q, C: diagonal and other entries of Q; R, S: aligned and other entries of R; T, T_o: diagonal "
    "and other entries of T; u_0: entry of the head mean; v_d, v_o: diagonal and other entries of "
    "the head covariance; with an index x: learner units without a teacher unit"
)
"""What the reduced order parameters and moments are."""


def page(reduction: Reduction, *, latex: bool) -> str:
    """The reduced flow, complete: definitions, flow and error, in LaTeX or Unicode."""
    show = _printer(reduction, latex)
    rates = {str(rate): name for name, rate in reduction.state.items()}
    rates |= {str(reduction.error): Symbol("error")}
    inner = [(s, e) for s, e in reduction.scalars.items() if str(s) not in rates]
    sections = {
        "Definitions": [(show(symbol), show(value)) for symbol, value in inner],
        "Flow": [
            (_left(show(name), name, latex), show(reduction.scalars.get(rate, rate)))
            for name, rate in (*reduction.state.items(), (Symbol("error"), reduction.error))
        ],
    }
    title = f"{reduction.flow.title}, {reduction.ansatz.name}"
    letters = "; ".join(
        f"{kind}: {UNITS[kind]}"
        for kind in UNITS
        if any(kind in key for key in re.findall(r"_((?:[hxbu1]\d)+)\b", str(inner)))
    )
    if latex:
        body = [
            f"\\paragraph{{{heading}.}}\n\\begin{{align*}}\n"
            + " \\\\\n".join(f"{left} &= {right}" for left, right in rows)
            + "\n\\end{align*}"
            for heading, rows in sections.items()
        ]
        words = f"{ENTRIES}. {letters}".replace("û", r"$\hat u$").replace("_", r"\_")
        return "\n".join([rf"\paragraph{{{title}.}} {words}.", *body])
    lines = [title, "=" * len(title), f"{ENTRIES}.", f"{letters}.", ""]
    for heading, rows in sections.items():
        lines += [heading, "-" * len(heading), *(f"  {left} = {right}" for left, right in rows), ""]
    return "\n".join(lines)


def _left(shown: str, name: Symbol, latex: bool) -> str:
    if name.name == "error":
        return shown
    return rf"\frac{{d {shown}}}{{d\alpha}}" if latex else f"d{shown}/dα"


def _printer(reduction: Reduction, latex: bool) -> Callable[[Expr], str]:
    """Prints expressions with the symbols of the full flow, and patterns of units as indices."""

    def named(symbol: Symbol) -> str:
        if symbol in reduction.state or symbol.name in NAMES:
            return NAMES.get(symbol.name, (_latex_plain(symbol), symbol.name))[0 if latex else 1]
        found = re.fullmatch(r"(.+?)_((?:[hxbu1]\d)+)", symbol.name)
        if not found:
            return _latex_plain(symbol) if latex else symbol.name
        units = [f"{kind}{chr(39) * int(n)}" for kind, n in re.findall(r"([hxbu1])(\d)", found[2])]
        stem = symbol_of(found[1], latex)
        if not latex:
            return f"{stem}_{''.join(units)}"
        return f"{{{stem}}}_{{{' '.join(units)}}}"

    symbols = {s: named(s) for s in _symbols(reduction)}
    if latex:
        return lambda e: sympy.latex(e, symbol_names=symbols)
    shown = {s: Symbol(text) for s, text in symbols.items()}
    return lambda e: str(e.xreplace(shown))


def _symbols(reduction: Reduction) -> set[Symbol]:
    known: list[Expr] = [*reduction.scalars, *reduction.scalars.values(), *reduction.state]
    found = set().union(*(e.free_symbols for e in (*known, reduction.error)))
    return {s for s in found | {Symbol("error")} if isinstance(s, Symbol)}


def _latex_plain(symbol: Symbol) -> str:
    return sympy.latex(symbol)
