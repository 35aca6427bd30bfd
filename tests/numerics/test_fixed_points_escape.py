"""Escape from a plateau: predicted from the fixed point, measured on the trajectory."""

import numpy as np
import pytest

from solvers import integrate
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.stability.escape import lingering, predict_escape
from solvers.stability.escape_scaling import escape_against_dimension
from solvers.stability.fixed_points import fixed_points


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
    assert found.fixed_point.error == pytest.approx(symmetric.error, rel=1e-9)
    assert found.plateau == trajectory.plateaus[0]
    escape = found.escape
    assert escape is not None
    assert escape.relative_error is not None
    assert abs(escape.relative_error) < 0.02
    assert escape.linearised == pytest.approx(trajectory.escape_time, rel=0.1)


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
    experiment = saad_solla.replace(**start, **{"rule.outer_rate": 1.5, "integrate.time": 100.0})
    plateau = next(p for p in fixed_points(experiment, starts=8) if p.label == "symmetric")
    runs = max(12, round(120 * effort))
    found = escape_against_dimension(
        experiment, [15, 50, 160], runs=runs, simulated=True, plateau=plateau
    )
    assert found.theory == pytest.approx(1 / (2 * 0.0763639978), rel=1e-6)
    assert (found.escaped > 0.9 * runs).all()
    assert abs(found.slope - found.theory) < 3.5 * found.slope_error
    assert found.slope_error < 4 * found.theory / np.sqrt(runs)
