"""Every page of ``derive --latex`` goes through KaTeX, which refuses what it cannot typeset."""

import re
from functools import cache

import pykatex
import pytest
from sympy import IndexedBase

from theory.activations import erf, linear, polynomial, relu
from theory.ansatz import ANSAETZE, reduce
from theory.flow import derive
from theory.notation import symbol_of
from theory.printed_reduction import page
from theory.printing import PrintedFlow
from theory.rules import Anil, AverageRisk, FrozenRepresentation, Maml, Sgd
from theory.statement import Structure

ACTIVATIONS = (erf, linear, relu, polynomial([0.1, 0.5, 0.0, -0.05]))
ORDERS = ("first", "exact")
INF = float("inf")
RULES = {
    "sgd": Sgd(outer_rate=1.0, head_rate=0.1, weight_decay=0.1),
    "average-risk": AverageRisk(outer_rate=1.0, regime="population"),
    **{f"anil {o}": Anil(outer_rate=1.0, inner_rate=1.0, order=o, inner_steps=2) for o in ORDERS},
    **{f"anil {o}, P": Anil(outer_rate=1.0, inner_rate=1.0, order=o, support=3) for o in ORDERS},
    **{
        f"maml {o}, ρ": Maml(outer_rate=1.0, inner_rate=1.0, order=o, support_ratio=2.0)
        for o in ORDERS
    },
    **{
        f"maml {o}": Maml(outer_rate=1.0, inner_rate=1.0, order=o, support_ratio=INF, inner_steps=2)
        for o in ORDERS
    },
    **{f"frozen {o}": FrozenRepresentation(outer_rate=1.0, order=o) for o in ORDERS},
}


PLAIN = Structure()


@cache
def derived(name, structure=PLAIN):
    return derive(RULES[name], structure)


def formulas(latex):
    """(displayed, source) of every formula on a page; nothing of mathematics is left outside."""
    pattern = re.compile(r"(\\begin\{align\*\}.*?\\end\{align\*\})|\$(.+?)\$", re.DOTALL)
    found = [(bool(a), a or b) for a, b in pattern.findall(latex)]
    prose = pattern.sub("", latex)
    assert not re.search(r"[$^&]|(?<!\\)_|[^\x00-\x7f]", prose), prose
    return found


LINE = 66
"""Letters that fit on a line of A4 at 11 pt, as ``width`` counts them: no box is overfull."""


def width(line):
    """Letters side by side: of a fraction the longer part, of indices and exponents one."""
    line = re.sub(r"\\(left|right|quad|operatorname|math\w+|overline|widehat)\b", "", line)
    before, line = "", re.sub(r"\\(?!frac|sqrt)[a-zA-Z]+", "x", line)
    while line != before:
        before = line
        line = re.sub(r"[_^]\{[^{}]*\}", "'", line)
        line = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: max(m.groups(), key=len), line)
        line = re.sub(r"(?:\\sqrt|(?<!frac)(?<!\}))\{([^{}]*)\}", r"\1", line)
    return len(re.sub(r"[&\\ {}]", "", line))


def typeset(latex):
    """Typesets all formulas, within their lines; the number of displayed ones."""
    found = formulas(latex)
    for displayed, source in found:
        assert source.isascii()
        html = pykatex.renderToString(source, displayMode=displayed, strict="error", output="html")
        assert "#cc0000" not in html, source
        for line in source.splitlines() if displayed else ():
            assert width(line) <= LINE, line
    return sum(displayed for displayed, _ in found)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda g: g.name)
def test_every_page_is_typeset(name, activation):
    flow = PrintedFlow.of(derived(name), activation)
    assert typeset(flow.latex()) == 3


@pytest.mark.parametrize("name", ["sgd", "anil exact", "anil first, P", "maml first, ρ"])
def test_pages_of_blocks_and_task_sets_are_typeset(name):
    for structure in (Structure(blocks=True), Structure(blocks=True, heads=True)):
        assert typeset(PrintedFlow.of(derived(name, structure), erf).latex()) == 3


def test_pages_of_several_steps_on_one_support_are_typeset():
    rule = Anil(outer_rate=1.0, inner_rate=1.0, order="exact", support=3, inner_steps=3,
                regime="population")  # fmt: skip
    assert typeset(PrintedFlow.of(derive(rule, Structure(linear=True)), linear).latex()) == 3


@pytest.mark.parametrize("name", ANSAETZE)
def test_reduced_pages_are_typeset(name):
    rule = Anil(outer_rate=1.0, inner_rate=1.0, head_rate=0.1)
    assert typeset(page(reduce(derive(rule), ANSAETZE[name], erf), latex=True)) == 2


def test_what_is_wrong_is_refused():
    long = " + ".join(["C_{12}"] * 40)
    for wrong in (long, r"\frac{1", r"x^{(2)}^{(3)}", r"\left( x", "η", r"\nosuchcommand"):
        with pytest.raises((pykatex.ParseError, AssertionError)):
            typeset(f"\\begin{{align*}}{wrong}\\end{{align*}}")


@pytest.mark.parametrize("name", RULES)
def test_pages_are_complete(name):
    """Every tensor on the right of an equation has been defined before, or is explained."""
    flow = PrintedFlow.of(derived(name), erf)
    known = set(flow.program.inputs)
    for definition in flow.definitions:
        for piece in definition.pieces:
            names = {str(base.label) for base in piece.expression.atoms(IndexedBase)}
            assert names <= known | {definition.name}
        known.add(definition.name)
    explained = flow.latex().split(r"\begin{align*}")[0]
    for name in (*flow.program.inputs, *flow.scalars):
        assert symbol_of(name, latex=True) in explained, name
    assert r"\mathrm{" + "d" not in explained


@pytest.mark.parametrize("activation", [erf, relu], ids=lambda g: g.name)
def test_orthant_moments_are_explained_where_they_occur(activation):
    flow = PrintedFlow.of(derived("anil first, P"), activation)
    for shown, name in ((flow.latex(), r"\mathrm{sgn}(\rho"), (flow.unicode(), "SignMoment(ρ")):
        assert shown.count(name) == 1
    for shown in (PrintedFlow.of(derived("sgd"), erf).latex(), flow.latex(averages=False)):
        assert r"\mathrm{sgn}(" not in shown


def test_adjoints_and_repeated_names_have_symbols_of_their_own():
    names = ("C_bar", "C_bar_2", "C_2_bar", "C_bar_bar", "C_bar_sym", "C_2", "w_adapted_2_bar")
    for latex in (True, False):
        symbols = [symbol_of(name, latex) for name in names]
        assert len(set(symbols)) == len(names)
        assert not any("bar" in symbol for symbol in symbols)
    assert symbol_of("s2_initial_2", latex=True) == r"{\overline{ss}^{(0)}{}}^{(2)}"
    # without the empty group LaTeX sees two superscripts on an accent, where KaTeX does not
    assert symbol_of("I2_bar_sym_2", latex=True) == r"{\widehat{I_2}^{\mathrm{s}}{}}^{(2)}"


@pytest.mark.parametrize("name", ["maml first, ρ", "maml exact"])
def test_averages_after_the_inner_loop_name_their_covariance(name):
    """Before it the fields have covariance C, afterwards another one: the page tells them apart."""
    flow = PrintedFlow.of(derived(name), erf)
    for shown, before, after in (
        (flow.latex(), r"\langle g_{a} g_{c}\rangle", r"\langle g_{a} g_{c}\rangle_{C'}"),
        (flow.unicode(), "⟨g_a g_c⟩", "⟨g_a g_c⟩_C'"),
    ):
        assert re.search(re.escape(before) + r"(?!_)", shown)
        assert after in shown
