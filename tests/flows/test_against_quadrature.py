"""Flows at infinite support against tensor Gauss–Hermite averages of the microscopic update.

The reference knows nothing of closed forms, of moments of the task head or of reverse passes: it
averages c_k x_a and c_k c_l over the fields and over the task head, and differentiates ε_meta by
differences.
"""

import numpy as np
import pytest
from scipy.special import erf

from solvers import Experiment

K, M = 2, 1
MEAN, SPREAD, NOISE, TEACHER = 0.7, 0.6, 0.4, 0.8
OUTER, HEAD, DECAY, INNER, QUERY, TASKS = 1.3, 0.6, 0.2, 0.9, 2, 3
Q0 = np.array([[0.6, 0.15], [0.15, 0.45]])
R0 = np.array([[0.3], [-0.2]])
W0 = np.array([0.5, -0.8])


class Reference:
    """Field averages on a grid, at the covariance C."""

    def __init__(self, C, activation):
        z, weight = np.polynomial.hermite_e.hermegauss(40)
        weight /= weight.sum()
        grid = np.stack(np.meshgrid(z, z, z, indexing="ij")).reshape(3, -1)
        self.weight = np.einsum("i,j,k->ijk", weight, weight, weight).ravel()
        self.x = np.linalg.cholesky(C) @ grid
        if activation == "erf":
            self.g = erf(self.x / np.sqrt(2))
            self.slope = np.sqrt(2 / np.pi) * np.exp(-(self.x**2) / 2)
        else:
            self.g, self.slope = self.x, np.ones_like(self.x)
        self.overlap = self.mean(self.g[:, None] * self.g)

    def mean(self, values):
        return values @ self.weight

    def adapted(self, w, u, steps):
        for _ in range(steps):
            w = w + INNER * self.overlap[:K] @ np.concatenate([-w, [u]])
        return w


def heads(varied):
    """Task heads and weights; nine nodes are exact for the degrees that occur."""
    if not varied:
        return [(MEAN, 1.0)]
    z, weight = np.polynomial.hermite_e.hermegauss(9)
    return list(zip(MEAN + SPREAD * z, weight / weight.sum(), strict=True))


def meta_error(state, steps, varied, activation):
    Q, R, w = state
    at = Reference(np.block([[Q, R], [R.T, np.full((1, 1), TEACHER)]]), activation)
    total = 0.0
    for u, p in heads(varied):
        s = np.concatenate([-at.adapted(w, u, steps), [u]])
        total += p * s @ at.overlap @ s / 2
    return total


def first_order(steps, varied, activation):
    """⟨c_k x_a⟩, the noise ⟨c_k c_l⟩/(V T_b) and ⟨Δ g_k⟩ with the displacement held."""
    at = Reference(np.block([[Q0, R0], [R0.T, np.full((1, 1), TEACHER)]]), activation)
    drift, noise, head = np.zeros((K, K + M)), np.zeros((K, K)), np.zeros(K)
    for u, p in heads(varied):
        w = at.adapted(W0, u, steps)
        residual = np.concatenate([-w, [u]]) @ at.g
        pull = w[:, None] * at.slope[:K]
        drift += p * at.mean((residual * pull)[:, None] * at.x)
        both = pull[:, None] * pull
        noise += p * at.mean((residual**2 + NOISE**2) * both) / (QUERY * TASKS)
        head += p * at.mean(residual * at.g[:K])
    return drift, noise, head


def exact(steps, varied, activation, h=1e-4):
    """−G(C) and −∂/∂w of ε_meta, by differences of fourth order."""

    def slope(move):
        error = [meta_error(move(j * h), steps, varied, activation) for j in (-2, -1, 1, 2)]
        return np.dot([1, -8, 8, -1], error) / (12 * h)

    A, D, head = np.zeros((K, K)), np.zeros((K, M)), np.zeros(K)
    for k in range(K):
        head[k] = -slope(lambda e, k=k: (Q0, R0, W0 + e * np.eye(K)[k]))
        D[k, 0] = slope(lambda e, k=k: (Q0, R0 + e * np.eye(K)[:, k : k + 1], W0))
        for j in range(K):
            unit = np.zeros((K, K))
            unit[k, j] = unit[j, k] = 1.0
            A[k, j] = (1 + (k == j)) * slope(lambda e, unit=unit: (Q0 + e * unit, R0, W0))
    return np.hstack([-A @ Q0 - D @ R0.T, -A @ R0 - D * TEACHER]), head


def study(name, activation, regime, **rule):
    shared = {"outer_rate": OUTER, "head_rate": HEAD, "weight_decay": DECAY, "regime": regime,
              "query": QUERY, "tasks_per_step": TASKS}  # fmt: skip
    tasks = {"head_mean": MEAN, "label_noise": NOISE}
    if name != "sgd":
        tasks["head_covariance"] = SPREAD**2
    return Experiment.from_dict(
        {
            "model": {"hidden": K, "teacher_hidden": M, "teacher_overlap": TEACHER,
                      "activation": activation},
            "tasks": tasks,
            "rule": {"name": name, **shared, **rule},
            "initial": {"Q": Q0.tolist(), "R": R0.tolist(), "w": W0.tolist()},
            "integrate": {"time": 1.0},
        }
    )  # fmt: skip


CASES = {
    "sgd": ("sgd", "erf", {}, 0),
    "average-risk": ("average-risk", "erf", {}, 0),
    "anil": ("anil", "erf", {"inner_rate": INNER}, 1),
    "anil, two steps": ("anil", "erf", {"inner_rate": INNER, "inner_steps": 2}, 2),
    "anil, linear": ("anil", "linear", {"inner_rate": INNER}, 1),
    "anil exact": ("anil", "erf", {"inner_rate": INNER, "order": "exact"}, 1),
}


@pytest.mark.parametrize("regime", ["streaming", "gradient-flow"])
@pytest.mark.parametrize("case", CASES)
def test_flow(case, regime):
    name, activation, rule, steps = CASES[case]
    experiment = study(name, activation, regime, **rule)
    y = experiment.initial_state()
    dQ, dR, dw = experiment.layout.unpack(experiment.compiled.rhs(y, experiment.parameters))
    varied = name != "sgd"
    drift, noise, head = first_order(steps, varied, activation)
    if rule.get("order") == "exact":
        drift, head = exact(steps, varied, activation)
    drift = OUTER * (drift - DECAY * np.hstack([Q0, R0]))
    expected = drift[:, :K] + drift[:, :K].T + (regime == "streaming") * OUTER**2 * noise
    np.testing.assert_allclose(dR, drift[:, K:], atol=1e-9)
    np.testing.assert_allclose(dQ, expected, atol=1e-9)
    np.testing.assert_allclose(dw, HEAD * head, atol=1e-9)
    error = experiment.compiled.error(y, experiment.parameters)
    assert error == pytest.approx(meta_error((Q0, R0, W0), steps, varied, activation), abs=1e-9)
