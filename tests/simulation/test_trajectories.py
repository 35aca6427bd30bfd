"""Finite-N runs of each rule against its integrated flow, and how deviations shrink with N."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from solvers import Experiment, ExperimentError, integrate
from solvers.simulation.compare import compare, scaling, theory_at
from solvers.simulation.simulate import simulate

STUDY = Path(__file__).parent
BASE = Experiment.load(STUDY / "three-units.toml")
BLOCKS = tomllib.loads((STUDY / "two-blocks.toml").read_text())
OUTER = {"outer_rate": 1.5, "head_rate": 0.5}


def with_rule(name, **more):
    rule = {"name": name, "outer_rate": 1.5, "head_rate": 0.5, **more}
    if name in ("anil", "maml"):
        rule.setdefault("inner_rate", 1.0)
    return BASE.replace(rule=rule)


TWO_UNITS = BASE.replace(
    **{
        "model.hidden": 2,
        "initial": {
            "w": [0.6, -0.5],
            "Q": [[0.5, 0.1], [0.1, 0.4]],
            "R": [[0.3, 0.1], [-0.2, 0.2]],
        },
    }
)


def finite(rule):
    """Two units and a coarse explicit integration: its noise is a cubature at every call."""
    loose = {"integrate.time": 1.5, "integrate.method": "RK45", "integrate.rtol": 1e-5}
    return TWO_UNITS.replace(rule=rule, **loose)


def anil_on(support, **more):
    return finite({"name": "anil", "inner_rate": 1.0, "support": support, **OUTER, **more})


def maml(order, **more):
    rule = {"name": "maml", "order": order, "inner_rate": 0.8, "query": 2}
    return finite({**rule, **OUTER, **more})


SPREAD = {"tasks.representation_spread": 0.6}
CASES = {
    "sgd": BASE.replace(
        rule={"name": "sgd", "weight_decay": 0.3, **OUTER},
        tasks={"head_mean": [0.9, -0.4], "label_noise": 0.2},
    ),
    "average-risk": with_rule("average-risk", query=2, tasks_per_step=2),
    "average-risk, spread": BASE.replace(**SPREAD),
    "average-risk, blocks": BASE.replace(**BLOCKS),
    "average-risk, relu": BASE.replace(**{"model.activation": "relu", "rule.outer_rate": 0.5}),
    "anil first": with_rule("anil", inner_steps=2),
    "anil first, blocks": with_rule("anil").replace(**BLOCKS),
    "anil first, P = 3": anil_on(3, query=2),
    "anil exact": with_rule("anil", order="exact"),
    "anil exact, spread": with_rule("anil", order="exact").replace(**SPREAD),
    "anil exact, P = 3": anil_on(3, order="exact"),
    "maml first, P = 3": maml("first", support=3),
    "maml exact, P = 3": maml("exact", support=3),
    "maml first, ratio 1": maml("first", support_ratio=1.0),
    "maml exact, ratio 1": maml("exact", support_ratio=1.0),
    "maml first, population": maml("first", support_ratio=np.inf),
    "maml exact, population": maml("exact", support_ratio=np.inf),
    "frozen": with_rule("frozen-representation").replace(**{"rule.outer_rate": 0.8}),
}


def excess(experiment, trajectory, N, runs):
    """Largest |mean − theory| in units of what is allowed: 4.5 standard errors and 2/N.

    The mean of runs at finite N deviates by O(1/N); 2/N is a bound with room for these rates.
    """
    end = experiment.integrate.time
    ensemble = simulate(experiment, np.array([end / 3, 2 * end / 3, end]), dimension=N, runs=runs)
    comparison = compare(trajectory, ensemble)
    return {
        name: float(np.max(np.abs(deviation) / (4.5 * ensemble.standard_error[name] + 2 / N)))
        for name, deviation in comparison.deviation.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_runs_follow_the_flow(case, effort):
    experiment = CASES[case]
    N = 100 if "ratio" in case else 300
    worst = excess(experiment, integrate(experiment), N, runs=max(15, int(100 * effort)))
    assert max(worst.values()) < 1, worst


def test_runs_of_another_rule_do_not_follow_the_flow():
    """The comparison can fail: the flow without adaptation is no theory of ANIL."""
    trajectory = integrate(CASES["average-risk"])
    worst = excess(CASES["anil first"], trajectory, 300, runs=15)
    assert max(worst.values()) > 1


def test_many_tasks_per_step_follow_the_population_map():
    """Linear ANIL at support 5 with 400 tasks per step, against the map of the expected drift."""
    experiment = BASE.replace(
        **{
            "model.activation": "linear",
            "rule": {
                "name": "anil", "regime": "population", "inner_rate": 0.25, "support": 5,
                "outer_rate": 0.1, "head_rate": 0.1, "tasks_per_step": 400, "query": 5,
            },
            "integrate.time": 30,
        }
    )  # fmt: skip
    ensemble = simulate(experiment, [10, 20, 30], dimension=30, runs=10)
    comparison = compare(integrate(experiment), ensemble)
    for name, deviation in comparison.deviation.items():
        assert np.all(np.abs(deviation) < 5 * ensemble.standard_error[name] + 0.01), name
    assert any("many tasks" in line for line in ensemble.warnings)


def test_runs_that_pair_other_units_are_counted():
    """Of two units that start alike either may take the first teacher unit."""
    one = Experiment.load("saad-solla").replace(
        **{
            "initial": {"w": 1.0, "Q": [[1, 0.01], [0.01, 1]], "R": [[0.9, 0.1], [0.1, 0.9]]},
            "integrate.time": 1.0,
        }
    )
    other = one.replace(**{"initial.R": [[0.1, 0.9], [0.9, 0.1]]})
    trajectory = integrate(one)
    own, swapped = (simulate(e, [0.0, 1.0], dimension=100, runs=3) for e in (one, other))
    assert compare(trajectory, own).otherwise_paired == 0
    found = compare(trajectory, swapped)
    assert found.otherwise_paired == found.report["otherwise_paired"] == 3
    assert "3 of which pair other units" in found.sentence


def test_the_theory_between_its_stored_times():
    """Hermite interpolation of 400 points is as good as integrating to the very times."""
    coarse, times = integrate(BASE), np.array([0.0, 0.1234, 1.77, 3.0])
    found = theory_at(coarse, times)
    for i, time in enumerate(times[1:], 1):
        fine = integrate(BASE.replace(**{"integrate.time": time})).final
        np.testing.assert_allclose(found["Q"][i], fine.Q, atol=1e-7)
        np.testing.assert_allclose(found["error"][i], fine.error, atol=1e-7)


def test_z_scores_are_deviations_in_standard_errors():
    ensemble = simulate(BASE, [0.0, 1.0], dimension=50, runs=4)
    comparison = compare(integrate(BASE), ensemble)
    assert np.all(comparison.z["Q"][0] == 0)
    expected = (ensemble.R[1] - comparison.theory["R"][1]) / ensemble.standard_error["R"][1]
    np.testing.assert_allclose(comparison.z["R"][1], expected)
    name, z, time = comparison.largest
    assert z == max(entry["largest_z"] for n, entry in comparison.report.items() if n in "QRwerror")
    assert time == 1.0
    assert name in comparison.sentence


def test_what_cannot_be_compared_is_refused():
    trajectory = integrate(BASE)
    with pytest.raises(ExperimentError, match="two runs"):
        compare(trajectory, simulate(BASE, [1.0], dimension=20, runs=1))
    with pytest.raises(ExperimentError, match="reach time"):
        theory_at(trajectory, np.array([4.0]))


@pytest.mark.slow
def test_fluctuations_shrink_as_the_root_of_n(effort):
    """N = 250 … 2000, α ≤ 30, no plateau: runs scatter as N^(−1/2), their mean deviates less."""
    rule = {"name": "anil", "inner_rate": 1.0, **OUTER}
    experiment = TWO_UNITS.replace(rule=rule, **{"integrate.time": 30.0 if effort >= 1 else 3.0})
    dimensions = (250, 500, 1000, 2000) if effort >= 1 else (50, 100, 200, 400)
    trajectory = integrate(experiment)
    times = np.linspace(0, experiment.integrate.time, 7)
    found = scaling(trajectory, dimensions, runs=20, times=times)
    for name, (slope, error) in found.exponents.items():
        assert abs(slope + 0.5) < 4 * error + 0.05, (name, slope, error)
        assert np.all(np.nan_to_num(found.deviation[name]) < found.fluctuation[name])
    assert len(found.table().splitlines()) == 2 + len(dimensions)
