"""Reduced flows: the ansätze are preserved, reduced rates are those of the full flow, closed forms.

K = 5 and M = 3 where the ansatz allows it, with all parameters different, so that a sum over one
unit too few shows.
"""

from functools import cache

import numpy as np
import pytest
import sympy
from sympy import Rational, Symbol, pi, sqrt

from theory.activations import erf
from theory.ansatz import SITE_SYMMETRIC, SPECIALISED, SYMMETRIC, Ansatz, K, M, preserves, reduce
from theory.codegen import compile_flow
from theory.errors import NoClosedFormError
from theory.flow import derive
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.plateaus import growth_rate_of_alignment, symmetric_plateau
from theory.printed_reduction import printed
from theory.rules import Anil, AverageRisk, FrozenRepresentation, Sgd
from theory.statement import Structure
from theory.tasks import TaskDistribution

RULES = {
    "sgd": Sgd(outer_rate=0.7, head_rate=0.3, weight_decay=0.2),
    "average-risk": AverageRisk(outer_rate=0.7, head_rate=0.3),
    "anil first": Anil(outer_rate=0.7, inner_rate=0.6, head_rate=0.3, query=2),
    "anil exact": Anil(outer_rate=0.7, inner_rate=0.6, head_rate=0.3, order="exact"),
}
STATE = {"Q": 0.5, "C": 0.1, "D": 0.05, "Q_x": 0.3, "C_x": 0.02, "R": 0.3, "S": 0.05, "R_x": 0.04,
         "w": 0.6, "w_x": 0.2}  # fmt: skip
TASKS = {"u_0": 0.8, "v_d": 0.3, "v_o": 0.1, "T": 1.0, "T_o": 0.0, "delta": 0.0, "label_noise": 0.3}


@cache
def plateau():
    return symmetric_plateau()


def full_state(k, m):
    """The order parameters that the reduced ones of STATE stand for: units m… are extra."""
    Q, R, w = np.empty((k, k)), np.empty((k, m)), np.empty(k)
    for i in range(k):
        own = i < m
        w[i] = STATE["w"] if own else STATE["w_x"]
        R[i] = STATE["S"] if own else STATE["R_x"]
        if own:
            R[i, i] = STATE["R"]
        for j in range(k):
            same = "Q" if i == j else "C"
            Q[i, j] = STATE["D"] if own != (j < m) else STATE[same if own else f"{same}_x"]
    return Q, R, w


def values(reduction, p, k, m, scalars=None):
    """The rates and the error of a reduction at STATE, scalar by scalar."""
    numbers = {"K": k, "M": m, **TASKS, **STATE}
    names = (*reduction.flow.scalars, "v_d", "v_o")
    numbers |= {name: p[name] for name in names if name in p}
    known: dict[Symbol, float] = {}

    def at(expression):
        symbols = expression.free_symbols
        found = {s: known[s] if s in known else numbers[s.name] for s in symbols}
        return float(sympy.N(expression.subs(found)))

    for symbol, expression in (scalars or reduction.scalars).items():
        known[symbol] = at(expression)
    return {s.name: at(rate) for s, rate in reduction.state.items()} | {
        "error": at(reduction.error)
    }


def full_rates(rule, k, m, p, activation=erf):
    """Rates of the reduced overlaps and the error, by the full flow of K = k and M = m units."""
    compiled = compile_flow(rule, Layout(k, m), activation)
    y = compiled.layout.pack(*full_state(k, m))
    dQ, dR, dw = compiled.layout.unpack(compiled.rhs(y, p))
    expected = {"Q": dQ[0, 0], "C": dQ[0, 1], "R": dR[0, 0], "S": dR[0, 1], "w": dw[0]}
    if k > m:
        expected |= {"D": dQ[0, m], "Q_x": dQ[m, m], "C_x": dQ[m, m + 1], "R_x": dR[m, 0]}
        expected |= {"w_x": dw[m]}
    return expected | {"error": compiled.error(y, p)}


@pytest.mark.parametrize(
    ("name", "ansatz", "k", "m"),
    [(name, SPECIALISED, 5, 3) for name in RULES]
    + [(name, SITE_SYMMETRIC, 4, 4) for name in RULES],
    ids=lambda value: value.name if isinstance(value, Ansatz) else str(value),
)
def test_reduced_rates_are_those_of_the_full_flow(name, ansatz, k, m):
    rule = RULES[name]
    spread = np.zeros((m, m)) if rule.one_task else 0.2 * np.eye(m) + 0.1
    known = {"v_d": 0.0, "v_o": 0.0} if rule.one_task else {}
    p = parameters(rule, TaskDistribution(np.full(m, 0.8), spread, None, 0.3), np.eye(m))
    expected = full_rates(rule, k, m, p)
    reduction = reduce(derive(rule), ansatz, erf)
    found = values(reduction, p | known, k, m)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-11, abs=1e-14), key
    if name == "anil first":
        shown = values(reduction, p | known, k, m, printed(reduction))
        assert shown == pytest.approx(found, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("ansatz", [SITE_SYMMETRIC, SYMMETRIC, SPECIALISED], ids=lambda a: a.name)
def test_the_flow_preserves_the_ansatz(ansatz):
    assert preserves(derive(Sgd(outer_rate=1.0, regime="gradient-flow")), ansatz, erf, 2)


def test_the_numbering_of_units_decides_the_state():
    flow = derive(Sgd(outer_rate=1.0, regime="gradient-flow"))

    honest = SITE_SYMMETRIC
    wrong = Ansatz("wrong", honest.learner, (("b", "other"),), (("site", K), ("other", K)))
    reduction = reduce(flow, wrong, erf)
    # with numberings of their own no learner unit has a teacher unit: R has one entry, not two
    assert len([s for s in reduction.state if s.name[0] in "RS"]) == 1
    assert len([s for s in reduce(flow, honest, erf).state if s.name[0] in "RS"]) == 2


def test_what_is_not_symmetric_is_refused():
    with pytest.raises(NoClosedFormError, match="Gaussian tasks"):
        reduce(derive(Sgd(outer_rate=1.0), Structure(blocks=True)), SITE_SYMMETRIC, erf)
    with pytest.raises(NoClosedFormError, match="least squares"):
        reduce(derive(FrozenRepresentation(outer_rate=1.0)), SITE_SYMMETRIC, erf)


def test_symmetric_plateau_in_closed_form():
    """PHYSICS: Q = 1/(2K−1), R = 1/√(K(2K−1)), ε and the escape rate, for any number of units."""
    found = plateau()
    escape = 2 / pi * K / (sqrt(2 * K - 1) * (2 * K + 1) ** Rational(3, 2))
    error = K / pi * (pi / 6 - K * sympy.asin(1 / (2 * K)))
    expected = {
        "overlap": 1 / (2 * K - 1), "alignment": 1 / sqrt(K * (2 * K - 1)), "error": error,
        "escape_rate": escape,
    }  # fmt: skip
    for name, value in expected.items():
        for units in range(2, 9):
            one = getattr(found, name).subs(K, units)
            assert abs(sympy.N(one - value.subs(K, units), 40)) < sympy.Float("1e-35"), (
                name,
                units,
            )
    assert float(found.error.subs(K, 2)) == pytest.approx(0.0116108, abs=5e-8)


@pytest.mark.parametrize("units", [2, 3, 4])
def test_the_plateau_is_stationary_and_left_at_its_rate_in_the_full_flow(units):
    """The full Jacobian at the closed form has the escape rate (K − 1)² times, nothing above it."""
    found = plateau()
    at = {name: float(getattr(found, name).subs(K, units)) for name in found.__dataclass_fields__}
    rule = Sgd(outer_rate=1.0, regime="gradient-flow")
    p = parameters(rule, TaskDistribution(np.ones(units), np.zeros((units, units)), None, 0.0),
                   np.eye(units))  # fmt: skip
    compiled = compile_flow(rule, Layout(units, units), erf)
    square = np.ones((units, units))
    y = compiled.layout.pack(at["overlap"] * square, at["alignment"] * square, np.ones(units))
    assert np.abs(compiled.rhs(y, p)).max() < 1e-14
    assert compiled.error(y, p) == pytest.approx(at["error"], rel=1e-12)
    spectrum = np.sort(np.linalg.eigvals(compiled.jacobian(y, p)).real)[::-1]
    count = (units - 1) ** 2
    # eigenvalues of a defective Jacobian split by the root of rounding
    np.testing.assert_allclose(spectrum[:count], at["escape_rate"], rtol=1e-5)
    assert spectrum[count] < 0.5 * at["escape_rate"]


def test_growth_rate_of_the_alignment_in_meta_learning():
    q = Symbol("q", positive=True)
    assert sympy.simplify(growth_rate_of_alignment() - 2 / (pi**2 * (1 + q))) == 0


def test_sizes_stay_symbols():
    reduction = reduce(derive(RULES["anil first"]), SPECIALISED, erf)
    symbols = set().union(*(e.free_symbols for e in reduction.scalars.values()))
    assert {K, M} <= symbols


def test_averages_that_are_equal_by_symmetry_are_printed_once():
    """Two pairs of learner units and 29 four-point averages at any number of units."""
    reduction = reduce(derive(RULES["anil first"]), SITE_SYMMETRIC, erf)
    scalars = printed(reduction)
    assert sum(s.name.startswith("I4") for s in scalars) == 29
    assert len(set(scalars.values())) == len(scalars)
    (all_alike,) = (e for s, e in scalars.items() if s.name == "I4_pair_h0h0h0h0")
    Q = next(s for s in reduction.state if s.name == "Q")
    assert all_alike == 4 * sympy.asin(Q / (1 + 3 * Q)) / (pi**2 * sqrt(1 + 2 * Q))
