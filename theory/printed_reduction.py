"""A reduced flow on paper: its scalars in order of evaluation, then the rates of its state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import sympy
from sympy import Expr, Symbol

from theory.ansatz import Reduction
from theory.notation import MODEL, NAMES, rate_meaning, symbol_of
from theory.printing import SETTINGS, added, docs_of, symbols_of

UNITS = {
    "h": "a learner unit", "x": "a learner unit without a teacher unit", "b": "a teacher unit",
    "u": "the component of û for a teacher unit", "1": "the component 1 of û = (1, u)",
}  # fmt: skip
"""What the letters of a pattern stand for; a prime marks another unit of the same family."""

ENTRIES = {
    "Q": "diagonal entries of Q", "C": "its other entries",
    "R": "entries of R for a learner unit and its own teacher unit", "S": "its other entries",
    "w": "entries of the head", "Q_x": "entry of Q for a learner unit without a teacher unit",
    "C_x": "for two of them", "D": "for one of them and one of the others",
    "R_x": "entries of R for those without a teacher unit", "w_x": "their head",
    "T": "diagonal entries of T", "T_o": "its other entries", "delta": "representation spread",
    "u_0": "entries of the head mean", "v_d": "diagonal entries of the head covariance",
    "v_o": "its other entries", "K": "number of learner units", "M": "number of teacher units",
}  # fmt: skip
"""What the reduced order parameters and moments are."""
TENSORS = (
    r"with indices: $C$, the covariance of the fields; $D$, the displacement of $J$, and $X$, its "
    r"overlaps; $S$, the noise; $I_2 = \langle gg\rangle$, $J_2 = \langle g'g'\rangle$, "
    r"$I_4 = \langle g'g'gg\rangle$; $\overline{ss}$ and $\bar s$, moments over tasks of "
    r"$s = (-w', u)$; $\widehat{X}$, the derivative of $\varepsilon$ with respect to $X$",
    "with indices: C, the covariance of the fields; D, the displacement of J, and X, its overlaps; "
    "S, the noise; I2 = ⟨g g⟩, J2 = ⟨g' g'⟩, I4 = ⟨g' g' g g⟩; ⟨ss⟩ and ⟨s⟩, moments over tasks of "
    "s = (−w', u); ∂ε/∂X, the derivative of ε with respect to X",
)
"""What the tensors of the full flow are, of which a reduced one has single entries."""
INLINE = 2
"""Operations up to which a scalar is written out where it is used."""
LONG = 14
"""Operations from which on a determinant gets a name."""


def page(reduction: Reduction, *, latex: bool) -> str:
    """The reduced flow, complete: what its letters mean, definitions, flow and error."""
    show = _printer(reduction, latex)
    scalars = printed(reduction)
    rates = {str(rate) for rate in reduction.state.values()} | {str(reduction.error)}

    def right(value: Expr) -> str:
        return added([show(t) for t in value.as_ordered_terms()], latex)

    sections = {
        "Definitions": [(show(s), right(e)) for s, e in scalars.items() if str(s) not in rates],
        "Flow": [
            (_left(show(name), name, latex), right(scalars.get(rate, rate)))
            for name, rate in (*reduction.state.items(), (Symbol("error"), reduction.error))
        ],
    }
    title = f"{reduction.flow.title}, {reduction.ansatz.name}"
    meanings = _meanings(reduction, scalars, latex, show)
    if latex:
        body = [
            f"\\paragraph{{{heading}.}}\n\\begin{{align*}}\n"
            + " \\\\\n".join(f"{left} & = {right}" for left, right in rows)
            + "\n\\end{align*}"
            for heading, rows in sections.items()
        ]
        items = [rf"\item {row}" for row in meanings]
        head = [r"{\allowdisplaybreaks", rf"\paragraph{{{title}.}}", r"\begin{itemize}"]
        return "\n".join([*head, *items, r"\end{itemize}", *body, "}"])
    lines = [title, "=" * len(title), *(f"{row}." for row in meanings), ""]
    for heading, rows in sections.items():
        lines += [heading, "-" * len(heading), *(f"  {left} = {right}" for left, right in rows), ""]
    return "\n".join(lines)


def _meanings(
    reduction: Reduction, scalars: dict[Symbol, Expr], latex: bool, show: Callable[[Expr], str]
) -> list[str]:
    """What the letters mean: entries, rates, units."""
    used = _symbols(reduction)
    names = sorted(
        (s for s in used if s.name in ENTRIES), key=lambda s: list(ENTRIES).index(s.name)
    )
    known = docs_of(reduction.flow)
    rates = [rate_meaning(s.name, known[s.name], latex)
             for s in sorted(used, key=str) if s.name in known]  # fmt: skip
    kinds = set(
        re.findall(r"([hxbu1])\d", "".join(re.findall(r"_((?:[hxbu1]\d)+)\b", str(scalars))))
    )
    hat = r"$\hat u$" if latex else "û"
    units = [f"{kind}: {UNITS[kind]}".replace("û", hat) for kind in UNITS if kind in kinds]

    def math(symbol: Symbol) -> str:
        return f"${show(symbol)}$" if latex else show(symbol)

    entries = [f"{math(s)}: {ENTRIES[s.name].replace('û', hat)}" for s in names]
    which = 0 if latex else 1
    g: Any = reduction.activation.expression
    return [
        MODEL[which].removesuffix("."),
        f"Activation $g(x) = {sympy.latex(g, **SETTINGS)}$" if latex else f"Activation g(x) = {g}",
        "; ".join(entries),
        "; ".join(rates),
        f"indices: {'; '.join(units)}; a prime: another unit",
        TENSORS[which],
    ]


def printed(reduction: Reduction) -> dict[Symbol, Expr]:
    """The scalars, closed forms tidied; short ones are written out where they are used, and long
    determinants get a name."""
    kept = {str(rate) for rate in reduction.state.values()} | {str(reduction.error)}
    uses = Counter(s for e in reduction.scalars.values() for s in e.free_symbols)
    short: dict[Expr, Expr] = {}
    made: dict[Symbol, Expr] = {}
    dets: dict[Expr, Symbol] = {}
    for name, value in reduction.scalars.items():
        found = len(dets)
        value = tidied(value, dets).xreplace(short)
        made |= {symbol: det for det, symbol in list(dets.items())[found:]}
        once = 1 + (uses[name] == 1)
        if str(name) in kept or value.is_Add or sympy.count_ops(value) > INLINE * once:
            made[name] = value
        else:
            short[name] = value
    return _needed(made, reduction)


def _needed(scalars: dict[Symbol, Expr], reduction: Reduction) -> dict[Symbol, Expr]:
    """Those scalars that the rates and the error are made of."""
    wanted = set().union(*(e.free_symbols for e in (*reduction.state.values(), reduction.error)))
    kept = {}
    for name, value in reversed(scalars.items()):
        if name in wanted:
            kept[name] = value
            wanted |= value.free_symbols
    return dict(reversed(kept.items()))


def tidied(form: Expr, dets: dict[Expr, Symbol]) -> Expr:
    """A closed form with the determinants below its roots factored, long ones named in ``dets``.

    A determinant of 1 + C is positive for every covariance C, which form a convex set that holds
    C = 0: so are its factors, each of the sign it has there.
    """

    def name(factor: Expr) -> Expr:
        if sympy.count_ops(factor) <= LONG:
            return factor
        return dets.setdefault(factor, Symbol(f"Lambda{len(dets) + 1}", positive=True))

    def root(base: Expr, power: Expr) -> Expr:
        number, factors = _factors(base)
        return number**power * sympy.Mul(*(name(f) ** (m * power) for f, m in factors))

    def is_root(e: Expr) -> bool:
        return bool(e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer)

    def arc(argument: Expr) -> Expr:
        above, below = argument.as_numer_denom()
        number, factors = _factors(above)
        top = number * sympy.Mul(*(f**m for f, m in factors))
        below = below.replace(sympy.Abs, lambda inner: root(inner**2, sympy.Rational(1, 2)))
        return sympy.asin(top / below.replace(is_root, lambda e: root(*e.args)))

    form = form.replace(sympy.asin, arc)
    return form.replace(lambda e: is_root(e) and e.base.is_Add, lambda e: root(*e.args))


@cache
def _factors(polynomial: Expr) -> tuple[Expr, tuple[tuple[Expr, int], ...]]:
    """Number and factors of a polynomial; a factor's constant term is positive if there is one."""
    number, factors = sympy.factor_list(sympy.expand(polynomial))
    made = []
    for factor, power in factors:
        constant = factor.xreplace(dict.fromkeys(factor.free_symbols, sympy.Integer(0)))
        flip = -1 if constant < 0 else 1
        number *= flip**power
        made.append((sympy.expand(flip * factor), int(power)))
    return number, tuple(made)


def _left(shown: str, name: Symbol, latex: bool) -> str:
    if name.name == "error":
        return shown
    return rf"\frac{{d {shown}}}{{d\alpha}}" if latex else f"d{shown}/dα"


def _printer(reduction: Reduction, latex: bool) -> Callable[[Expr], str]:
    """Prints expressions with the symbols of the full flow, and patterns of units as indices."""
    symbols = symbols_of(reduction.flow)

    def named(symbol: Symbol) -> str:
        if symbol in reduction.state or symbol.name in symbols or symbol.name in ENTRIES:
            plain = _PLAIN.get(symbol.name, (sympy.latex(symbol), symbol.name))
            return symbols.get(symbol.name, plain)[0 if latex else 1]
        found = re.fullmatch(r"(.+?)_((?:[hxbu1]\d)+)", symbol.name)
        if number := re.fullmatch(r"Lambda(\d+)", symbol.name):
            return rf"\Lambda_{{{number[1]}}}" if latex else f"Λ{number[1]}"
        if not found and re.sub(r"_\d+$", "", symbol.name) in NAMES:
            return symbol_of(symbol.name, latex)
        if not found:
            return sympy.latex(symbol) if latex else symbol.name
        units = [f"{kind}{chr(39) * int(n)}" for kind, n in re.findall(r"([hxbu1])(\d)", found[2])]
        stem = symbol_of(found[1], latex)
        if not latex:
            return f"{stem}_{''.join(units)}"
        return f"{{{stem}}}_{{{' '.join(units)}}}"

    def text(expression: Expr) -> str:
        names = {s: named(s) for s in expression.free_symbols if isinstance(s, Symbol)}
        if latex:
            settings: dict[str, Any] = {**SETTINGS, "symbol_names": names}
            return sympy.latex(expression, **settings)
        return str(expression.xreplace({s: Symbol(name) for s, name in names.items()}))

    return text


_PLAIN = {"T_o": (r"T_{\mathrm o}", "T_o"), "delta": (r"\delta", "δ")}


def _symbols(reduction: Reduction) -> set[Symbol]:
    known: list[Expr] = [*reduction.scalars, *reduction.scalars.values(), *reduction.state]
    found = set().union(*(e.free_symbols for e in (*known, reduction.error)))
    return {s for s in found | {Symbol("error")} if isinstance(s, Symbol)}
