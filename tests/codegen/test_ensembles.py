"""Bundles of trajectories against single ones, and the method itself against a known solution."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from solvers import Experiment, integrate
from solvers.results import Status
from solvers.trajectories.adams import COLUMNS, EVALUATIONS, NUMBERS, ROWS, TIME, adams
from solvers.trajectories.ensembles import ensemble
from solvers.trajectories.steps import Steps, follow


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment.load("saad-solla").replace(**{"integrate.backend": "numba"})


def test_end_states_are_those_of_single_runs(experiment: Experiment) -> None:
    compiled, start = experiment.compiled, experiment.initial_state()
    p = experiment.parameters
    rates = [0.3, 1.0]
    bundle = ensemble(compiled, start, [{**p, "outer_rate": rate} for rate in rates], 40.0)
    for rate, end in zip(rates, bundle.y, strict=True):
        settings = {"rule.outer_rate": rate, "integrate.time": 40.0, "integrate.rtol": 1e-10}
        run = integrate(experiment.replace(**settings))
        single = compiled.layout.pack(run.Q[-1], run.R[-1], run.w[-1])
        np.testing.assert_allclose(end, single, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(bundle.time, 40.0)


def test_a_trajectory_that_passes_the_bound_ends_alone(experiment: Experiment) -> None:
    start, p = experiment.initial_state(), experiment.parameters
    given = [{**p, "outer_rate": rate} for rate in (0.5, 60.0)]
    bundle = ensemble(experiment.compiled, start, given, 50.0, bound=10.0)
    assert bundle.time[0] == 50.0
    assert bundle.time[1] < 50.0


def test_starts_and_parameters_pair_up(experiment: Experiment) -> None:
    start, p = experiment.initial_state(), experiment.parameters
    with pytest.raises(ValueError, match="pair up"):
        ensemble(experiment.compiled, [start] * 2, [p] * 3, 1.0)
    steps = replace(experiment.compiled, rule=replace(experiment.rule, regime="population"))
    with pytest.raises(ValueError, match="iterated"):
        ensemble(steps, start, p, 1.0)


def rotation(y: np.ndarray, parameters: np.ndarray, work: np.ndarray, out: np.ndarray) -> None:
    out[:] = [y[1], -y[0]]


def rotated(rtol: float, room: int) -> Steps:
    """Steps of a rotation from time 0 to 10, so many in one call."""
    settings = np.array([10.0, rtol, rtol, 1e-3, 1e5, 1e6, 2, room])
    out, nothing, parts = np.zeros(2 * COLUMNS + NUMBERS + 5 * room), np.empty(0), []
    start = np.array([1.0, 0.0])
    numbers, rows = out[2 * COLUMNS :], out[2 * COLUMNS + NUMBERS :].reshape(room, 5)
    while numbers[TIME] < 10.0:
        adams(2, rotation, start, settings, nothing, nothing, out)
        parts.append(rows[: int(numbers[ROWS])].copy())
    table = np.vstack([[0.0, 1.0, 0.0, 0.0, -1.0], *parts])
    evaluations = int(numbers[EVALUATIONS])
    return Steps(table[:, 0], table[:, 1:3], table[:, 3:], Status.success, evaluations)


@pytest.mark.parametrize("rtol", [1e-5, 1e-8, 1e-11])
def test_the_method_solves_a_rotation(rtol: float) -> None:
    steps, t = rotated(rtol, 2000), np.linspace(0, 10)
    assert steps.time[-1] == 10.0
    np.testing.assert_allclose(steps.y[-1], [np.cos(10), -np.sin(10)], rtol=0, atol=100 * rtol)
    np.testing.assert_allclose(steps.at(t).T, [np.cos(t), -np.sin(t)], rtol=0, atol=1000 * rtol)


def test_the_order_rises_with_the_accuracy() -> None:
    """A method of one order would take ten times the steps for 10⁻⁶ of the tolerance at order 6."""
    coarse, fine = (rotated(rtol, 2000).evaluations for rtol in (1e-5, 1e-11))
    assert fine < 3 * coarse


def test_a_call_takes_up_where_the_last_one_stopped() -> None:
    whole, pieces = rotated(1e-8, 2000), rotated(1e-8, 7)
    np.testing.assert_array_equal(pieces.time, whole.time)
    np.testing.assert_array_equal(pieces.y, whole.y)


def test_an_interrupted_trajectory_keeps_its_steps(experiment: Experiment) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    steps = follow(
        experiment.compiled, experiment.parameters, experiment.initial_state(), 1e8,
        rtol=1e-8, atol=1e-12, bound=1e6, bounded=3, most=10**9,
    )  # fmt: skip
    assert steps.status is Status.interrupted
    assert 0 < steps.time[-1] < 1e8
    assert np.isfinite(steps.y).all()
