"""The generated functions: exact derivatives, determinism, independence of the number of units."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from solvers import Experiment
from theory.flow import derive
from theory.generation.writing import FUNCTIONS, generate
from theory.rules import Anil, Sgd

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reference.json").read_text())
REFERENCES = {name: entry for name, entry in GOLDEN.items() if "initial_rate" in entry}
STEP = 1e-6


def study(entry, **changes):
    return Experiment.from_dict(entry["experiment"]).replace(**changes)


VARIANTS = {
    **{name: study(entry) for name, entry in REFERENCES.items()},
    "three exact inner steps": study(GOLDEN["anil exact"], **{"rule.inner_steps": 3}),
    "weight decay, spread": study(
        GOLDEN["anil first"], **{"rule.weight_decay": 0.3, "tasks.representation_spread": 0.4}
    ),
    "finite set of heads": study(
        GOLDEN["anil exact"], **{"tasks.heads": [[0.4, -1.0], [1.1, 0.3], [-0.2, 0.5]]}
    ),
    "population map": study(
        GOLDEN["anil exact"], **{"rule.regime": "population", "integrate.time": 10}
    ),
    "maml exact, support_ratio 2": study(
        GOLDEN["maml first, support_ratio 2"], **{"rule.order": "exact", "rule.nodes": 4}
    ),
    "maml exact, two inner steps": study(
        GOLDEN["maml exact, population"], **{"rule.inner_steps": 2, "rule.nodes": 4}
    ),
    "linear": study(GOLDEN["linear, population, support 5"]),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_rates_are_those_of_the_reference(name):
    e, expected = study(REFERENCES[name]), REFERENCES[name]["initial_rate"]
    rate = e.compiled.rhs(e.initial_state(), e.parameters)
    expected = e.layout.pack(expected["Q"], expected["R"], expected["w"])
    assert np.abs(rate - expected).max() < 1e-14


HEAVY = ("maml exact, support_ratio 2", "maml exact, two inner steps")
"""Their Jacobians take half a minute to derive."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in VARIANTS],
)
def test_derivatives_are_exact(name):
    """Against central differences, whose error is about 1e-9 here."""
    e = VARIANTS[name]
    y, p, compiled = e.initial_state(), e.parameters, e.compiled
    steps = STEP * np.eye(len(y))
    rates = [(compiled.rhs(y + s, p) - compiled.rhs(y - s, p)) / (2 * STEP) for s in steps]
    errors = [(compiled.error(y + s, p) - compiled.error(y - s, p)) / (2 * STEP) for s in steps]
    jacobian = compiled.jacobian(y, p)
    assert np.abs(jacobian - np.stack(rates, 1)).max() < 1e-8 * max(1.0, np.abs(jacobian).max())
    assert np.abs(compiled.error_gradient(y, p) - errors).max() < 1e-8


def test_relabelling_units_relabels_rates(rng):
    e = VARIANTS["anil exact"]
    Q, R, w = e.layout.unpack(e.initial_state())
    order = rng.permutation(e.layout.hidden)
    moved = e.layout.pack(Q[np.ix_(order, order)], R[order], w[order])
    dQ, dR, dw = e.layout.unpack(e.compiled.rhs(e.initial_state(), e.parameters))
    expected = e.layout.pack(dQ[np.ix_(order, order)], dR[order], dw[order])
    np.testing.assert_allclose(e.compiled.rhs(moved, e.parameters), expected, atol=1e-15)


def test_sgd_is_anil_without_steps_and_diversity():
    e = study(GOLDEN["sgd trained head"])
    table = {**e.to_dict()["rule"], "name": "anil", "inner_rate": 0.5, "inner_steps": 0}
    still = e.replace(rule=table)
    y = e.initial_state()
    np.testing.assert_allclose(
        still.compiled.rhs(y, still.parameters), e.compiled.rhs(y, e.parameters), atol=1e-16
    )


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"noise"}))  # loops alone
def test_source_is_deterministic_and_names_its_arguments(name):
    from theory.activations import erf

    rule = Anil(outer_rate=1.0, inner_rate=1.0, order="exact")
    first, second = (generate(derive(rule), erf, name) for _ in range(2))
    assert first == second
    namespace: dict = {}
    exec(compile(first, "generated", "exec"), namespace)
    code = namespace[name].__code__
    assert code.co_varnames[: code.co_argcount] == namespace["ARGUMENTS"]


def test_a_scan_never_generates_anew():
    e = study(GOLDEN["anil first"])
    other = e.replace(**{"rule.inner_rate": 0.1, "rule.outer_rate": 3.0, "tasks.label_noise": 0.0})
    assert other.compiled.source == e.compiled.source
    assert other.compiled.digest == e.compiled.digest


def test_one_source_for_any_number_of_units():
    small, large = (
        Experiment(
            model={"hidden": K, "teacher_hidden": M}, tasks={"head_mean": 1.0},
            rule=Sgd(outer_rate=0.5),
            initial={"w": 1.0, "random": {"norm": 0.5, "dimension": 100, "seed": 0}},
            integrate={"time": 1.0},
        )
        for K, M in ((1, 1), (5, 3))
    )  # fmt: skip
    assert small.compiled.source == large.compiled.source
    assert np.isfinite(large.compiled.rhs(large.initial_state(), large.parameters)).all()


def test_compiled_flows_cross_processes_by_their_description():
    e = study(GOLDEN["maml first, population"])
    y, p = e.initial_state(), e.parameters
    expected = e.compiled.rhs(y, p)
    copy = pickle.loads(pickle.dumps(e.compiled))
    assert len(pickle.dumps(e.compiled)) < 5000
    np.testing.assert_array_equal(copy.rhs(y, p), expected)
