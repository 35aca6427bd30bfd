"""frozen- and adapt-representation against minimisation in d dimensions, by plain linear algebra.

Inputs of two variances; tasks from a finite set of heads, so that the mean over them is exact.
"""

import numpy as np
import pytest

from solvers import Experiment, ExperimentError
from theory.rules import AdaptRepresentation

N, K, M = 24, 2, 3
SIZES = (10, 14)
VARIANCE = np.array([0.4, 1.5])
SIGMA = np.repeat(VARIANCE, SIZES)
HEADS = np.array([[1.2, 0.3, -0.4], [-0.9, 0.8, 0.1], [0.5, -0.7, 0.9]])
PENALTY, ETA = 0.6, 0.1
RULES = ({"name": "frozen-representation"}, {"name": "adapt-representation", "penalty": PENALTY})


def fit(rule, J, B, u):
    """Head w and deviation δ at the minimum over both, from the normal equations."""
    X, theta = J.T / np.sqrt(N), B.T @ u / np.sqrt(N)
    S = np.diag(SIGMA)
    if rule["name"] == "frozen-representation":
        return np.linalg.solve(X.T @ S @ X, X.T @ S @ theta), np.zeros(N)
    normal = np.block([[X.T @ S @ X, X.T @ S], [S @ X, S + PENALTY * np.eye(N)]])
    solution = np.linalg.lstsq(normal, np.concatenate([X.T @ S @ theta, S @ theta]), rcond=None)[0]
    return solution[:K], solution[K:]


def residual(J, B, u, w, delta):
    return (J.T @ w - B.T @ u) / np.sqrt(N) + delta


def error(rule, J, B):
    left = [residual(J, B, u, *fit(rule, J, B, u)) for u in HEADS]
    return 0.5 * np.mean([r @ (SIGMA * r) for r in left])


def objective(rule, J, B):
    total = 0.0
    for u in HEADS:
        w, delta = fit(rule, J, B, u)
        r = residual(J, B, u, w, delta)
        total += 0.5 * r @ (SIGMA * r) + 0.5 * PENALTY * delta @ delta
    return total / len(HEADS)


def overlaps(J, B):
    parts = np.split(np.arange(N), np.cumsum(SIZES)[:-1])
    pair = lambda X, Y: np.array([X[:, p] @ Y[:, p].T / N for p in parts])  # noqa: E731
    return pair(J, J), pair(J, B), pair(B, B)


@pytest.fixture
def vectors(rng):
    return 0.7 * rng.standard_normal((K, N)), rng.standard_normal((M, N))


def experiment(rule, J, B, **more):
    Q, R, T = overlaps(J, B)
    inputs = [{"variance": v, "fraction": n / N} for v, n in zip(VARIANCE, SIZES, strict=True)]
    return Experiment(
        model={"activation": "linear", "hidden": K, "teacher_hidden": M, "inputs": inputs,
               "teacher_overlap": T.tolist()},
        tasks={"heads": HEADS.tolist()},
        rule={"regime": "population", "outer_rate": ETA, **rule, **more},
        initial={"w": 0.0, "Q": Q.tolist(), "R": R.tolist()},
        integrate={"time": 10},
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_error_is_that_of_the_minimum(rule, vectors):
    e = experiment(rule, *vectors)
    found = e.compiled.error(e.initial_state(), e.parameters)
    assert found == pytest.approx(error(rule, *vectors), rel=1e-11)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
@pytest.mark.parametrize("order", ["first", "exact"])
def test_a_step_descends_the_minimised_objective(rule, order, vectors):
    J, B = vectors
    e = experiment(rule, J, B, order=order)
    gradient, step = np.zeros((K, N)), 1e-5
    for at in np.ndindex(K, N):
        move = np.zeros((K, N))
        move[at] = step
        gradient[at] = (objective(rule, J + move, B) - objective(rule, J - move, B)) / (2 * step)
    after = overlaps(J - ETA * N * gradient, B)
    y = e.initial_state()
    Q, R, w = e.layout.unpack(y + e.compiled.rhs(y, e.parameters))
    np.testing.assert_allclose(Q, after[0], atol=1e-8)
    np.testing.assert_allclose(R, after[1], atol=1e-8)
    np.testing.assert_allclose(w, 0.0, atol=1e-12)


def test_the_deviation_needs_a_linear_network_and_an_infinite_support(vectors):
    e = experiment(RULES[1], *vectors)
    with pytest.raises(ExperimentError, match="linear networks alone"):
        e.replace(**{"model.activation": "erf"})
    with pytest.raises(ValueError, match="finite support"):
        AdaptRepresentation(outer_rate=1.0, penalty=0.5, support=3).check()
