"""Fixed points of varied experiments against integrations and differences that share no code."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import erf

from solvers.experiment import Experiment
from solvers.stability.fixed_points import fixed_points

VARIANTS = {
    "noise and decay": {
        "tasks.label_noise": 0.4, "rule.outer_rate": 0.8, "rule.weight_decay": 0.004,
    },
    "wider than the teacher, head trained": {
        "model.hidden": 3, "rule.head_rate": 0.3, "rule.outer_rate": 0.6, "tasks.label_noise": 0.2,
        "initial": {"w": [0.9, 1.1, 0.3], "Q": [[0.5, 0, 0], [0, 0.4, 0], [0, 0, 0.3]],
                    "R": [[0.4, 0.1], [0.1, 0.3], [0.2, 0.1]]},
    },
    "unequal correlated teachers": {
        "model.teacher_overlap": [[1.2, 0.3], [0.3, 0.8]], "tasks.head_mean": [1.0, 0.6],
        "tasks.label_noise": 0.3, "rule.outer_rate": 0.7, "rule.weight_decay": 0.001,
        "initial.w": [1.0, 0.6], "initial.Q": [[0.5, 0.1], [0.1, 0.5]],
        "initial.R": [[0.4, 0.1], [0.2, 0.4]],
    },
    "fresh tasks": {
        "rule": {"name": "average-risk", "outer_rate": 0.5}, "tasks.head_covariance": [0.5, 0.2],
    },
}  # fmt: skip


EACH = [pytest.param(name, marks=pytest.mark.slow if "wider" in name else ()) for name in VARIANTS]
"""The wider learner settles along a mode that decays at 2e-4 only."""


def variant(name):
    experiment = Experiment.load("saad-solla").replace(**VARIANTS[name])
    return experiment.replace(**{"integrate.backend": "numpy"})


@pytest.mark.parametrize("name", EACH)
def test_where_a_long_integration_ends_is_a_stable_point_of_the_search(name):
    """An explicit method on the numpy flow, without Jacobian, Newton's method or symmetry."""
    experiment = variant(name)
    p, layout, start = experiment.parameters, experiment.layout, experiment.initial_state()
    time = 50_000.0 if "wider" in name else 6000.0
    end = solve_ivp(
        lambda _, y: experiment.compiled.rhs(y, p), (0.0, time), start, method="RK45",
        rtol=1e-9, atol=1e-11,
    ).y[:, -1]  # fmt: skip
    found = fixed_points(experiment, starts=12)
    error = experiment.compiled.error(end, p)
    (point,) = [q for q in found if q.stable and abs(q.error - error) < 1e-7]
    Q, R, _ = layout.unpack(end)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(Q), np.linalg.eigvalsh(point.Q), atol=1e-5 * np.abs(Q).max()
    )
    np.testing.assert_allclose(np.sort(np.abs(R).ravel()), np.sort(np.abs(point.R).ravel()),
                               atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("name", EACH)
def test_the_spectrum_is_that_of_central_differences(name):
    experiment = variant(name)
    p = experiment.parameters
    for point in list(fixed_points(experiment, starts=6))[:3]:
        n, h = len(point.eigenvalues), 1e-6
        steps = h * np.eye(len(point.y))[:n]
        J = np.array([
            (experiment.compiled.rhs(point.y + s, p) - experiment.compiled.rhs(point.y - s, p))[:n]
            for s in steps
        ]).T / (2 * h)  # fmt: skip
        scale = np.abs(point.eigenvalues).max()
        for value in point.eigenvalues:
            assert np.abs(np.linalg.eigvals(J) - value).min() < 1e-4 * scale


def test_the_error_at_a_fixed_point_is_that_of_quadrature():
    """½ Σ s_c s_d E[g g] with Gauss-Hermite averages instead of arcsines."""
    experiment = variant("unequal correlated teachers")
    for point in fixed_points(experiment, starts=6):
        T = experiment.parameters["T"][0]
        C = np.block([[point.Q, point.R], [point.R.T, T]])
        s = np.concatenate([-point.w, experiment.tasks.mean])
        I2 = np.array([[pair(C, c, d) for d in range(4)] for c in range(4)])
        assert point.error == pytest.approx(0.5 * s @ I2 @ s, abs=1e-9)


def pair(C, c, d):
    """E[g(x_c) g(x_d)] by two-dimensional Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    a = np.sqrt(C[c, c])
    b = C[c, d] / a
    rest = np.sqrt(max(C[d, d] - b**2, 0.0))
    x = a * nodes[:, None] + 0 * nodes
    y = b * nodes[:, None] + rest * nodes
    g = erf(x / np.sqrt(2)) * erf(y / np.sqrt(2))
    return float(weights @ g @ weights)
