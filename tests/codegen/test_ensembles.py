"""Bundles of trajectories against single ones, and the method itself against a known solution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers import Experiment, integrate
from solvers.trajectories.dormand_prince import HEADER, Steps, dormand_prince
from solvers.trajectories.ensembles import ensemble


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


@pytest.mark.parametrize("rtol", [1e-5, 1e-8, 1e-11])
def test_the_method_solves_a_rotation(rtol: float) -> None:
    def rate(y: np.ndarray, parameters: np.ndarray, work: np.ndarray, out: np.ndarray) -> None:
        out[:] = [y[1], -y[0]]

    room = 2000
    settings = np.array([0.0, 10.0, rtol, rtol, 1e-3, 1e5, 1e6, 2, room])
    out, nothing = np.empty(4 + HEADER + 7 * room), np.empty(0)
    dormand_prince(2, rate, np.array([1.0, 0.0]), settings, nothing, nothing, out)
    y, slope, now, rows = out[:2], out[2:4], out[4], int(out[9])
    assert now == 10.0
    np.testing.assert_allclose(y, [np.cos(10), -np.sin(10)], rtol=0, atol=100 * rtol)
    table = out[4 + HEADER :].reshape(room, 7)[:rows]
    times = np.append(table[:, 0], now)
    states, rates = np.vstack([table[:, 1:3], y]), np.vstack([table[:, 3:5], slope])
    between = Steps(times, states, rates, table[:, 5:], True, False, 0).at(t := np.linspace(0, 10))
    np.testing.assert_allclose(between.T, [np.cos(t), -np.sin(t)], rtol=0, atol=1000 * rtol)
