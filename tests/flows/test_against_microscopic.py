"""Every flow against direct Monte-Carlo of the microscopic update, drift and noise apart.

K = 3 and M = 2 with full matrices, so that a dropped index or a swapped pair shows. An entry may
be off by 4 standard errors; the seeds are fixed, so that a pass stays a pass.
"""

import numpy as np
import pytest

from solvers import Experiment
from solvers.simulation.microscopic import Estimate, Tally, microscopic_rates

K, M = 3, 2
SAMPLES = 1_000_000
LIMIT = 4.0

SCALE = np.array([[0.9, 0.2], [0.3, 0.7], [-0.5, 0.4]])

SIMPLE = {
    "model": {"teacher_overlap": [[1.1, 0.25], [0.25, 0.8]]},
    "tasks": {
        "head_mean": [0.7, -0.4],
        "head_covariance": [[0.5, 0.2], [0.2, 0.4]],
        "label_noise": 0.4,
    },
}
SPREAD = {**SIMPLE, "tasks": {**SIMPLE["tasks"], "representation_spread": 0.5}}
FINITE = {**SIMPLE, "tasks": {"heads": [[1.0, 0.2], [-0.3, 0.8], [0.5, -1.1]], "label_noise": 0.3}}
ONE = {**SIMPLE, "tasks": {"head_mean": [0.7, -0.4], "label_noise": 0.4}}
BLOCKS = {
    "model": {
        "inputs": [{"variance": 0.4, "fraction": 0.3}, {"variance": 1.5, "fraction": 0.7}],
        "teacher_overlap": [[[0.3, -0.05], [-0.05, 0.35]], [[0.7, 0.1], [0.1, 0.5]]],
    },
    "tasks": {**SIMPLE["tasks"], "representation_spread": 0.3},
}
RELU = {**SIMPLE, "model": {**SIMPLE["model"], "activation": "relu"}}
LINEAR = {**SIMPLE, "model": {**SIMPLE["model"], "activation": "linear"}}
CUBIC = {
    **SIMPLE,
    "model": {
        **SIMPLE["model"], "activation": "polynomial", "coefficients": [0.1, 0.5, 0.15, -0.05],
    },
}  # fmt: skip


def anil(order="first", rate=0.8, **more):
    return {"name": "anil", "order": order, "inner_rate": rate, "query": 2, **more}


def maml(order="first", **more):
    return {
        "name": "maml", "order": order, "inner_rate": 0.7, "representation_rate": 0.5,
        "query": 2, **more,
    }  # fmt: skip


def frozen(order="first", **more):
    return {"name": "frozen-representation", "order": order, "query": 2, **more}


def adapted(order="first"):
    return {"name": "adapt-representation", "order": order, "query": 2, "penalty": 0.6}


CASES = {
    "sgd": (ONE, {"name": "sgd", "weight_decay": 0.3}),
    "average-risk": (SIMPLE, {"name": "average-risk", "query": 3, "tasks_per_step": 2}),
    "average-risk, heads": (FINITE, {"name": "average-risk"}),
    "average-risk, relu": (RELU, {"name": "average-risk"}),
    "average-risk, cubic": (CUBIC, {"name": "average-risk"}),
    "average-risk, blocks": (BLOCKS, {"name": "average-risk"}),
    "anil first": (SIMPLE, anil(tasks_per_step=2)),
    "anil first, 3 steps": (SIMPLE, anil(rate=0.5, inner_steps=3)),
    "anil first, spread": (SPREAD, anil()),
    "anil first, heads": (FINITE, anil(rate=1.2)),
    "anil first, relu": (RELU, anil(rate=0.4)),
    "anil first, linear": (LINEAR, anil(rate=0.4)),
    "anil first, cubic": (CUBIC, anil(rate=0.4)),
    "anil first, blocks": (BLOCKS, anil(inner_steps=2)),
    "anil exact": (SIMPLE, anil("exact", tasks_per_step=2)),
    "anil exact, 2 steps": (SIMPLE, anil("exact", inner_steps=2)),
    "anil exact, spread": (SPREAD, anil("exact")),
    "anil exact, relu": (RELU, anil("exact", rate=0.4)),
    "anil exact, blocks": (BLOCKS, anil("exact")),
    "anil first, P = 1": (SIMPLE, anil(support=1)),
    "anil first, P = 3": (SIMPLE, anil(support=3)),
    "anil first, P = 10": (SIMPLE, anil(support=10)),
    "anil first, P = 3, spread": (SPREAD, anil(support=3)),
    "anil first, P = 3, blocks": (BLOCKS, anil(support=3)),
    "anil first, P = 3, linear": (LINEAR, anil(rate=0.4, support=3)),
    "anil exact, P = 1": (SIMPLE, anil("exact", support=1)),
    "anil exact, P = 3": (SIMPLE, anil("exact", support=3)),
    "anil exact, P = 10": (SIMPLE, anil("exact", support=10)),
    "anil exact, P = 3, spread": (SPREAD, anil("exact", support=3)),
    "anil exact, P = 3, blocks": (BLOCKS, anil("exact", support=3)),
    "maml first, P = 3": (SIMPLE, maml(support=3)),
    "maml exact, P = 3": (SIMPLE, maml("exact", support=3)),
    "maml first, population": (SIMPLE, maml(support_ratio=np.inf)),
    "maml first, population, 2 steps": (SIMPLE, maml(support_ratio=np.inf, inner_steps=2)),
    "maml first, population, spread": (SPREAD, maml(support_ratio=np.inf)),
    "maml first, population, blocks": (BLOCKS, maml(support_ratio=np.inf)),
    "maml first, population, heads": (FINITE, maml(support_ratio=np.inf)),
    "maml exact, population": (SIMPLE, maml("exact", support_ratio=np.inf)),
    "maml exact, population, 2 steps": (SIMPLE, maml("exact", support_ratio=np.inf, inner_steps=2)),
    "maml exact, population, blocks": (BLOCKS, maml("exact", support_ratio=np.inf)),
    "frozen first": (SIMPLE, frozen()),
    "frozen exact": (SIMPLE, frozen("exact")),
    "frozen, spread": (SPREAD, frozen()),
    "frozen, blocks": (BLOCKS, frozen()),
    "adapt, blocks": ({**BLOCKS, "model": {**BLOCKS["model"], "activation": "linear"}}, adapted()),
    "adapt exact, heads": ({**FINITE, "model": LINEAR["model"]}, adapted("exact")),
}  # fmt: skip


def experiment(tables, rule, regime="streaming", rates=1.0):
    """The case at unit rates, from a state of full matrices."""
    structured = "inputs" in tables["model"]
    T = np.array(tables["model"]["teacher_overlap"])
    share = np.array([0.3, 0.7])[:, None, None] if structured else 1.0
    extra = np.array([[0.5, 0.1, -0.08], [0.1, 0.4, 0.05], [-0.08, 0.05, 0.6]])
    R = 0.5 * SCALE @ T
    Q = 0.25 * SCALE @ T @ SCALE.T + share * extra
    start = {"Q": Q.tolist(), "R": R.tolist(), "w": [0.6, -0.5, 0.3]}
    return Experiment.from_dict(
        {
            "model": {"hidden": K, "teacher_hidden": M, **tables["model"]},
            "tasks": tables["tasks"],
            "rule": {"outer_rate": rates, "head_rate": rates, "regime": regime, **rule},
            "initial": start,
            "integrate": {"time": 1.0},
        }
    )


def rates(study):
    """dQ, dR (with a block axis), dw of the compiled flow, and its error."""
    y = study.initial_state()
    Q, R, w = study.layout.unpack(study.compiled.rhs(y, study.parameters))
    if study.layout.blocks is None:
        Q, R = Q[None], R[None]
    return Q, R, w, study.compiled.error(y, study.parameters)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_flow_is_the_mean_of_the_microscopic_update(case, effort):
    tables, rule = CASES[case]
    study = experiment(tables, rule)
    share = max(effort, 0.4) if rule["name"] == "frozen-representation" else effort
    # fitted heads have heavy tails: the standard error is one only for more samples
    estimate = microscopic_rates(study, samples=int(SAMPLES * share), seed=list(CASES).index(case))
    Q, R, w, error = rates(study)
    drift = rates(experiment(tables, rule, regime="gradient-flow"))[0]
    decay = rule.get("weight_decay", 0.0)
    start_Q, start_R, _ = study.layout.unpack(study.initial_state())
    z = {
        "drift of R": estimate.R.z(R + decay * start_R),
        "drift of Q": estimate.Q.z(drift + 2 * decay * start_Q),
        "noise": estimate.S.z(Q - drift),
        "head": estimate.w.z(w),
        "error": estimate.error.z(error),
    }
    worst = {name: float(np.abs(value).max()) for name, value in z.items()}
    assert max(worst.values()) < LIMIT, worst


def test_a_wrong_flow_is_noticed():
    """The check can fail: a drift without its teacher part, a noise without the factor 1/V."""
    study = experiment(SIMPLE, anil())
    estimate = microscopic_rates(study, samples=50_000)
    Q, R, _, _ = rates(study)
    drift = rates(experiment(SIMPLE, anil(), regime="gradient-flow"))[0]
    assert np.abs(estimate.R.z(0.9 * R)).max() > LIMIT
    assert np.abs(estimate.S.z(2 * (Q - drift))).max() > LIMIT


def test_estimates_do_not_depend_on_how_samples_come(rng):
    """Mean and standard error of a tally are those of all samples at once."""
    samples = 5.0 + rng.standard_normal((1000, 2))
    tally = Tally()
    for part in np.split(samples, [10, 700]):
        tally.add(part)
    found = tally.estimate
    np.testing.assert_allclose(found.mean, samples.mean(0), rtol=1e-13)
    expected = samples.std(0, ddof=1) / np.sqrt(1000)
    np.testing.assert_allclose(found.error, expected, rtol=1e-12)
    assert np.all(Estimate(found.mean, found.error).z(found.mean) == 0)
