"""The error at test time, for any support and inner steps, against the adaptation carried out."""

import numpy as np
import pytest

from solvers import Experiment, ExperimentError, integrate

K, M = 3, 2
BASE = Experiment.load("meta-specialization").replace(
    model={"hidden": K, "teacher_hidden": M, "teacher_overlap": [[1.0, 0.2], [0.2, 0.8]]},
    tasks={"head_mean": [0.5, -0.3], "head_covariance": [[0.5, 0.1], [0.1, 0.3]]},
    initial={
        "w": [0.3, -0.2, 0.4],
        "Q": [[0.5, 0.1, 0.0], [0.1, 0.4, -0.05], [0.0, -0.05, 0.6]],
        "R": [[0.2, 0.1], [-0.1, 0.15], [0.05, 0.1]],
    },
    **{"tasks.label_noise": 0.2, "integrate.time": 1.0, "integrate.points": 2},
)  # fmt: skip
RULES = {
    "average-risk": {"name": "average-risk"},
    "anil": {"name": "anil", "inner_rate": 1.0},
    "anil exact": {"name": "anil", "inner_rate": 1.0, "order": "exact"},
    "anil at finite support": {"name": "anil", "inner_rate": 1.0, "support": 2},
    "maml": {"name": "maml", "inner_rate": 1.0, "support": 2},
    "frozen": {"name": "frozen-representation"},
}
ACTIVATIONS = {
    "erf": {}, "relu": {}, "linear": {}, "polynomial": {"coefficients": [0.1, 0.5, 0.2, -0.05]}
}  # fmt: skip
TESTS = {
    "unadapted": (5, 0), "one example": (1, 1), "one step": (5, 1), "three steps": (4, 3),
    "all data": (np.inf, 2), "five steps": (3, 5),
}  # fmt: skip
RATE = 0.3


def adapted_error(e, support, steps, samples, rng):
    """½(f − y)² after plain gradient steps of the head on drawn fields: mean, standard error."""
    Q, R, w = e.layout.unpack(e.initial_state())
    T, g = e.parameters["T"][0], e.activation.g
    root = np.linalg.cholesky(np.block([[Q, R], [R.T, T]]))
    u = e.tasks.draw(rng, samples)

    def examples(count):
        x = g(rng.standard_normal((samples, count, K + M)) @ root.T)
        return x[..., :K], np.einsum("spm,sm->sp", x[..., K:], u)

    w = np.broadcast_to(w, (samples, K))
    if steps and np.isfinite(support):
        h, y = examples(support)
        y = y + e.tasks.label_noise * rng.standard_normal(y.shape)
        for _ in range(steps):
            left = y - np.einsum("spk,sk->sp", h, w)
            w = w + RATE / support * np.einsum("sp,spk->sk", left, h)
    elif steps:
        x = g(rng.standard_normal((400_000, K + M)) @ root.T)
        table = x.T @ x / len(x)
        for _ in range(steps):
            w = w + RATE * (u @ table[K:, :K] - w @ table[:K, :K])
    h, y = examples(1)
    errors = 0.5 * (np.einsum("spk,sk->sp", h, w) - y)[:, 0] ** 2
    return errors.mean(), errors.std() / np.sqrt(samples)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("test", TESTS)
def test_the_error_at_test_time_is_that_of_the_adaptation(activation, test, rng):
    support, steps = TESTS[test]
    settings = {"support": support, "inner_steps": steps, "inner_rate": RATE}
    e = BASE.replace(rule=RULES["anil"] | {"outer_rate": 0.1}, evaluate=settings)
    e = e.replace(**{"model.activation": activation}, **{
        f"model.{key}": value for key, value in ACTIVATIONS[activation].items()
    })  # fmt: skip
    t = integrate(e)
    mean, error = adapted_error(e, support, steps, 60_000, rng)
    measured = any("measured on 5000 tasks" in warning for warning in t.warnings)
    closed = steps <= 1 or support == np.inf or (activation == "linear" and steps <= 3)
    assert measured != closed
    own = 0.02 * mean if measured else 3e-3 * mean * (support == np.inf)
    assert abs(t.observables["evaluation_error"][0] - mean) < 4 * np.hypot(error, own)


@pytest.mark.parametrize("name", RULES)
def test_it_does_not_depend_on_how_the_rule_trains(name):
    settings = {"support": 5, "inner_steps": 1, "inner_rate": RATE}
    e = BASE.replace(rule=RULES[name] | {"outer_rate": 0.1}, evaluate=settings)
    plain = BASE.replace(rule=RULES["anil"] | {"outer_rate": 0.1}, evaluate=settings)
    first, second = (integrate(x).observables["evaluation_error"][0] for x in (e, plain))
    assert first == pytest.approx(second, rel=1e-12)


def test_sgd_is_tested_on_its_own_teacher(rng):
    settings = {"support": 5, "inner_steps": 1, "inner_rate": RATE}
    e = BASE.replace(
        rule={"name": "sgd", "outer_rate": 0.1}, evaluate=settings,
        **{"tasks.head_covariance": 0.0},
    )  # fmt: skip
    mean, error = adapted_error(e, 5, 1, 60_000, rng)
    assert abs(integrate(e).observables["evaluation_error"][0] - mean) < 4 * error


def test_maml_is_tested_with_its_own_inner_loop():
    """At a population support the representation adapts as well: twice is better than once."""
    rule = {"name": "maml", "support_ratio": np.inf, "inner_rate": 0.2, "outer_rate": 0.1}
    once, twice = (BASE.replace(rule=rule, evaluate={"inner_steps": n}) for n in (1, 2))
    first = integrate(once)
    assert first.observables["evaluation_error"] == pytest.approx(first.error, rel=1e-12)
    assert (integrate(twice).observables["evaluation_error"] < first.error).all()


@pytest.mark.parametrize(
    ("rule", "evaluate", "message"),
    [
        ({"support_ratio": np.inf}, {"support": 5}, "evaluate.support is not used"),
        ({"support_ratio": 2.0}, {"inner_steps": 2}, "evaluate.inner_steps: several steps"),
    ],
)
def test_what_an_extensive_support_cannot_test_is_refused(rule, evaluate, message):
    maml = {"name": "maml", "inner_rate": 1.0, "outer_rate": 0.1}
    with pytest.raises(ExperimentError, match=message):
        BASE.replace(rule=maml | rule, evaluate=evaluate)
