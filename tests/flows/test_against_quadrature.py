"""Flows at infinite support against tensor Gauss–Hermite averages of the microscopic update.

The reference knows nothing of closed forms, of moments of the task head or of reverse passes: it
averages c_k x_a and c_k c_l over the fields and over the task head, and differentiates ε_meta by
differences.
"""

import numpy as np
import pytest
from scipy.special import erf

from solvers import Experiment

NOISE, OUTER, HEAD, DECAY, INNER, QUERY, TASKS = 0.4, 1.3, 0.6, 0.2, 0.9, 2, 3


class State:
    """Overlaps and tasks: more learner units than teacher units, or fewer."""

    def __init__(self, Q, R, w, T, mean, covariance):
        self.Q, self.R, self.w, self.T = (np.array(a) for a in (Q, R, w, T))
        self.mean, self.covariance = np.array(mean), np.array(covariance)
        self.K, self.M = self.R.shape

    def moved(self, Q=0.0, R=0.0, w=0.0):
        return State(self.Q + Q, self.R + R, self.w + w, self.T, self.mean, self.covariance)

    @property
    def fields(self):
        return np.block([[self.Q, self.R], [self.R.T, self.T]])

    def heads(self, varied):
        """Task heads and weights; four nodes a direction are exact for the degrees that occur."""
        if not varied:
            return [(self.mean, 1.0)]
        z, weight = np.polynomial.hermite_e.hermegauss(4)
        weight /= weight.sum()
        root = np.linalg.cholesky(self.covariance)
        picks = np.ndindex(*[len(z)] * self.M)
        return [(self.mean + root @ z[list(p)], weight[list(p)].prod()) for p in picks]


STATES = {
    "K = 2, M = 1": State(
        [[0.6, 0.15], [0.15, 0.45]], [[0.3], [-0.2]], [0.5, -0.8], [[0.8]], [0.7], [[0.36]]
    ),
    "K = 1, M = 2": State(
        [[0.5]], [[0.3, -0.2]], [0.6], [[0.8, 0.2], [0.2, 0.5]], [0.7, -0.4],
        [[0.4, 0.1], [0.1, 0.3]],
    ),
}  # fmt: skip


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
            w = w + INNER * self.overlap[: len(w)] @ np.concatenate([-w, u])
        return w


def meta_error(state, steps, varied, activation):
    at, total = Reference(state.fields, activation), 0.0
    for u, p in state.heads(varied):
        s = np.concatenate([-at.adapted(state.w, u, steps), u])
        total += p * s @ at.overlap @ s / 2
    return total


def first_order(state, steps, varied, activation):
    """⟨c_k x_a⟩, the noise ⟨c_k c_l⟩/(V T_b) and ⟨Δ g_k⟩ with the displacement held."""
    at, K = Reference(state.fields, activation), state.K
    drift, noise, head = np.zeros((K, 3)), np.zeros((K, K)), np.zeros(K)
    for u, p in state.heads(varied):
        w = at.adapted(state.w, u, steps)
        residual = np.concatenate([-w, u]) @ at.g
        pull = w[:, None] * at.slope[:K]
        drift += p * at.mean((residual * pull)[:, None] * at.x)
        both = pull[:, None] * pull
        noise += p * at.mean((residual**2 + NOISE**2) * both) / (QUERY * TASKS)
        head += p * at.mean(residual * at.g[:K])
    return drift, noise, head


def exact(state, steps, varied, activation, h=1e-4):
    """−G(C) and −∂/∂w of ε_meta, by differences of fourth order."""

    def slope(**direction):
        error = [
            meta_error(
                state.moved(**{name: j * h * d for name, d in direction.items()}),
                steps, varied, activation,
            )
            for j in (-2, -1, 1, 2)
        ]  # fmt: skip
        return np.dot([1, -8, 8, -1], error) / (12 * h)

    K, M = state.K, state.M
    A, D = np.zeros((K, K)), np.zeros((K, M))
    head = -np.array([slope(w=unit) for unit in np.eye(K)])
    for k in range(K):
        for n in range(M):
            D[k, n] = slope(R=np.outer(np.eye(K)[k], np.eye(M)[n]))
        for j in range(K):
            unit = np.outer(np.eye(K)[k], np.eye(K)[j])
            A[k, j] = (1 + (k == j)) * slope(Q=np.maximum(unit, unit.T))
    return -np.hstack([A, D]) @ state.fields, head


def study(state, name, activation, regime, **rule):
    shared = {"outer_rate": OUTER, "head_rate": HEAD, "weight_decay": DECAY, "regime": regime,
              "query": QUERY, "tasks_per_step": TASKS}  # fmt: skip
    tasks = {"head_mean": state.mean.tolist(), "label_noise": NOISE}
    if name != "sgd":
        tasks["head_covariance"] = state.covariance.tolist()
    return Experiment.from_dict(
        {
            "model": {"hidden": state.K, "teacher_hidden": state.M,
                      "teacher_overlap": state.T.tolist(), "activation": activation},
            "tasks": tasks,
            "rule": {"name": name, **shared, **rule},
            "initial": {name: getattr(state, name).tolist() for name in ("Q", "R", "w")},
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
@pytest.mark.parametrize("size", STATES)
def test_flow(size, case, regime):
    (name, activation, rule, steps), state = CASES[case], STATES[size]
    experiment = study(state, name, activation, regime, **rule)
    y = experiment.initial_state()
    dQ, dR, dw = experiment.layout.unpack(experiment.compiled.rhs(y, experiment.parameters))
    K, varied = state.K, name != "sgd"
    drift, noise, head = first_order(state, steps, varied, activation)
    if rule.get("order") == "exact":
        drift, head = exact(state, steps, varied, activation)
    drift = OUTER * (drift - DECAY * state.fields[:K])
    expected = drift[:, :K] + drift[:, :K].T + (regime == "streaming") * OUTER**2 * noise
    np.testing.assert_allclose(dR, drift[:, K:], atol=1e-9)
    np.testing.assert_allclose(dQ, expected, atol=1e-9)
    np.testing.assert_allclose(dw, HEAD * head, atol=1e-9)
    error = experiment.compiled.error(y, experiment.parameters)
    assert error == pytest.approx(meta_error(state, steps, varied, activation), abs=1e-9)
