"""Escape from a plateau: predicted from the fixed point, measured on the trajectory."""

import numpy as np
import pytest

from solvers import continue_branch, integrate
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.stability.escape import predict_escape
from solvers.stability.escape_scaling import escape_against_dimension
from solvers.stability.fixed_points import fixed_point_near, fixed_points
from solvers.stability.lingering import lingering


@pytest.fixture(scope="module")
def saad_solla():
    return Experiment.load("saad-solla")


@pytest.fixture(scope="module")
def symmetric(saad_solla):
    return next(p for p in fixed_points(saad_solla, starts=8) if p.label == "symmetric")


@pytest.mark.parametrize("asymmetry", [1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_predicted_and_measured_escape_agree(asymmetry, saad_solla, symmetric):
    direction = symmetric.modes[0].vectors[:, 0]
    y = symmetric.y
    y[: len(direction)] += asymmetry * direction / np.abs(direction).max()
    Q, R, w = saad_solla.layout.unpack(y)
    escape = predict_escape(symmetric, Q, R, w)
    assert escape.amplitude == pytest.approx(asymmetry, rel=1e-3)
    start = {"initial.Q": Q.tolist(), "initial.R": R.tolist()}
    solver = {"integrate.time": 1.3 * escape.predicted, "integrate.rtol": 1e-10}
    tight = {"integrate.atol": 1e-16}
    measured = integrate(saad_solla.replace(**start, **solver, **tight)).escape_time
    assert escape.predicted == pytest.approx(measured, rel=0.002)
    assert escape.uncertainty < 1e-4 * escape.predicted


def test_each_decade_of_asymmetry_costs_the_same_time(saad_solla, symmetric):
    direction = symmetric.modes[0].vectors[:, 0]
    times = []
    for asymmetry in (1e-5, 1e-6, 1e-7):
        y = symmetric.y
        y[: len(direction)] += asymmetry * direction
        times.append(predict_escape(symmetric, *saad_solla.layout.unpack(y)).predicted)
    np.testing.assert_allclose(np.diff(times), np.log(10) / symmetric.modes[0].growth, rtol=1e-5)


def test_a_general_start_lingers_at_the_symmetric_point(saad_solla, symmetric):
    trajectory = integrate(saad_solla)
    (found,) = lingering(trajectory)
    assert found.fixed_point is not None
    assert found.fixed_point.error == pytest.approx(symmetric.error, rel=1e-9)
    assert found.plateau == trajectory.plateaus[0]
    escape = found.escape
    assert escape is not None
    assert escape.relative_error is not None
    assert abs(escape.relative_error) < 0.02
    assert escape.linearised == pytest.approx(trajectory.escape_time, rel=0.1)


def test_a_plateau_without_a_fixed_point_lingers_at_the_slowest_symmetric_state():
    """That of the fixed point which a slower inner loop still has, before a fold takes it away."""
    experiment = Experiment.load("meta-specialization")
    (found,) = lingering(integrate(experiment))
    point = found.point
    assert found.fixed_point is None
    assert "no fixed point" in found.sentence
    symmetric = experiment.layout.pack(point.Q[::-1, ::-1], point.R[::-1, ::-1], point.w)
    np.testing.assert_allclose(symmetric, point.y, atol=1e-12)
    np.testing.assert_allclose(point.R, point.R[0, 0], atol=1e-12)
    assert point.residual == pytest.approx(0.067, abs=0.001)
    assert found.escape is not None
    assert found.escape.linearised_error == pytest.approx(0, abs=0.05)
    slower = experiment.replace(**{"rule.inner_rate": 1.4})
    fixed = fixed_point_near(slower, point.Q, point.R, point.w)
    assert np.abs(fixed.y - point.y).max() < 0.25
    branch = continue_branch(fixed, "rule.inner_rate", 1.4, 2.0)
    assert [s.kind for s in branch.special_points][-1] == "fold"


def test_a_plateau_of_units_that_differ_is_not_that_of_units_that_coincide():
    """Four units at a finite rate: Q_kk > Q_kl, where Newton's method runs to Q_kk = Q_kl."""
    (found,) = lingering(integrate(Experiment.load("over-parameterised")))
    point, escape = found.fixed_point, found.escape
    assert point is not None
    assert escape is not None
    Q = point.Q
    assert Q[0, 0] == pytest.approx(0.82477, abs=1e-5)
    assert Q[0, 1] == pytest.approx(0.65890, abs=1e-4)
    assert point.unstable == 4
    assert escape.linearised_error == pytest.approx(0, abs=0.02)


def test_no_escape_without_asymmetry_or_from_a_stable_point(saad_solla, symmetric):
    with pytest.raises(ExperimentError, match="never escapes"):
        predict_escape(symmetric, symmetric.Q, symmetric.R, symmetric.w)
    eye = np.eye(2)
    stable = next(p for p in fixed_points(saad_solla, starts=4) if p.stable)
    with pytest.raises(ExperimentError, match="stable"):
        predict_escape(stable, eye, 0.9 * eye, np.ones(2))


@pytest.mark.slow
def test_plateau_length_grows_with_the_logarithm_of_the_dimension(saad_solla):
    experiment = saad_solla.replace(
        **{"initial.random": {"norm": 0.5, "dimension": 1000, "seed": 0}, "integrate.time": 1500.0}
    )
    found = escape_against_dimension(experiment, [10**3, 10**5, 10**7, 10**9], runs=12)
    assert found.theory == pytest.approx(1 / (2 * 0.031618162), rel=1e-6)
    assert abs(found.slope - found.theory) < 4 * found.slope_error
    assert found.slope_error < 0.2 * found.theory


@pytest.mark.slow
def test_simulated_plateaus_grow_with_the_logarithm_of_the_dimension_too(saad_solla, effort):
    """From an exactly symmetric start, which the flow never leaves, runs escape by their noise."""
    start = {"initial.Q": [[0.25, 0], [0, 0.25]], "initial.R": [[0, 0], [0, 0]]}
    experiment = saad_solla.replace(**start, **{"rule.outer_rate": 1.5, "integrate.time": 60.0})
    plateau = next(p for p in fixed_points(experiment, starts=8) if p.label == "symmetric")
    runs = max(12, round(240 * effort))
    found = escape_against_dimension(
        experiment, [25, 50, 100, 200], runs=runs, simulated=True, plateau=plateau
    )
    assert found.theory == pytest.approx(1 / (2 * 0.0763639978), rel=1e-6)
    assert (found.escaped > 0.8 * runs).all()
    assert abs(found.slope - found.theory) < 3 * found.slope_error
    assert found.slope_error < 0.5 * np.sqrt(240 / runs)
