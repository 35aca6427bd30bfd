"""Plateaus and escapes on signals whose speed is known in closed form."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from solvers.trajectories.plateau import (
    escape_time,
    estimated_speeds,
    find_plateaus,
    of_steps,
    resolved,
)


def lowest(function, left, right):
    options = {"xatol": 1e-11}
    found = minimize_scalar(function, bounds=(left, right), method="bounded", options=options)
    return found.x  # type: ignore[attr-defined]


class Signal:
    """ε = exp(−∫v) for v = base·e^{-t} + Σ bumps of given height about given times."""

    def __init__(self, *bumps, base=1.0):
        self.bumps, self.base = bumps, base

    def speed(self, t):
        rise = [h / np.cosh((t - c) / s) ** 2 for h, c, s in self.bumps]
        return self.base * np.exp(-t) + sum(rise)

    def level(self, t):
        moved = [h * s * (np.tanh((t - c) / s) + np.tanh(c / s)) for h, c, s in self.bumps]
        return np.exp(-self.base * (1 - np.exp(-t)) - sum(moved))

    def plateaus(self, end, step=0.37):
        mesh = np.append(np.arange(0, end, step), end)
        speeds = estimated_speeds(mesh, self.level(mesh))
        return find_plateaus(mesh, speeds, self.speed, self.level)

    def expected(self, left, right, peak):
        """Start, end and level of the plateau whose minimum lies between, before ``peak``."""
        low = lowest(self.speed, left, right)
        top = lowest(lambda t: -self.speed(t), right, peak)
        excess = lambda t: self.speed(t) - self.speed(top) / 10  # noqa: E731
        return brentq(excess, left, low), brentq(excess, low, top), self.level(low)


def test_start_end_and_level():
    signal = Signal((0.3, 60.0, 4.0))
    (plateau,) = signal.plateaus(90.0)
    expected = signal.expected(0.0, 50.0, 70.0)
    assert (plateau.start, plateau.end) == pytest.approx(expected[:2], rel=1e-7)
    assert plateau.error == pytest.approx(expected[2], rel=1e-6)
    assert plateau.length == plateau.end - plateau.start


def test_two_plateaus_one_after_the_other():
    signal = Signal((0.3, 60.0, 4.0), (0.2, 200.0, 5.0))
    first, second = signal.plateaus(240.0)
    assert first.start == pytest.approx(signal.expected(0.0, 50.0, 70.0)[0], rel=1e-7)
    expected = signal.expected(60.0, 190.0, 210.0)
    assert (second.start, second.end) == pytest.approx(expected[:2], rel=1e-7)
    assert second.error == pytest.approx(expected[2], rel=1e-6)


def test_a_small_hump_does_not_end_a_plateau():
    signal = Signal((0.003, 40.0, 4.0), (0.3, 100.0, 4.0))
    (plateau,) = signal.plateaus(130.0)
    assert plateau.end > 85
    assert plateau.start < 4


def test_slower_than_its_length_is_no_plateau():
    """A dip between two bumps, deep enough but shorter than 1/v₊."""
    assert Signal((0.05, 10.0, 4.0), (0.05, 32.0, 4.0), base=0.0).plateaus(60.0) == ()
    assert len(Signal((0.05, 10.0, 4.0), (0.05, 60.0, 4.0), base=0.0).plateaus(90.0)) == 1


def test_no_plateau_on_a_plain_decay_or_before_it_is_left():
    assert Signal((0.3, 60.0, 4.0)).plateaus(45.0) == ()
    t = np.linspace(0, 30, 200)
    decay = np.exp(-0.1 * t)
    speeds = estimated_speeds(t, decay)
    assert find_plateaus(t, speeds, lambda t: 0.1 + 0 * t, lambda t: np.exp(-0.1 * t)) == ()


def test_a_start_on_the_plateau():
    signal = Signal((0.3, 60.0, 4.0), base=0.0)
    (plateau,) = signal.plateaus(90.0)
    assert plateau.start == 0.0
    assert plateau.end == pytest.approx(60 - 4 * np.arccosh(np.sqrt(10)), rel=1e-7)


def test_a_run_that_ends_on_the_way_down():
    signal = Signal((0.3, 60.0, 4.0))
    (plateau,) = signal.plateaus(58.0)
    top = signal.speed(58.0)
    assert plateau.end == pytest.approx(60 - 4 * np.arccosh(np.sqrt(0.3 * 10 / top)), rel=1e-6)


def test_whole_steps():
    signal = Signal((0.3, 60.0, 4.0))
    steps = np.arange(91.0)
    (plateau,) = of_steps(steps, signal.level(steps))
    speeds = -np.diff(np.log(signal.level(steps)))
    slow = np.flatnonzero(speeds[:60] < speeds[50:70].max() / 10)
    assert (plateau.start, plateau.end) == (slow[0], slow[-1])
    assert plateau.error == signal.level(float(np.argmin(speeds[:60])))


def test_noise_far_below_the_level_makes_no_plateaus(rng):
    t = np.linspace(0, 1000, 2000)
    errors = 0.07 * (1 + 1e-9 * rng.standard_normal(len(t)))
    speeds = estimated_speeds(t, errors)
    assert find_plateaus(t, speeds, lambda t: 1e-9 + 0 * t, lambda t: 0.07 + 0 * t) == ()


def test_errors_below_rounding_are_left_out():
    errors = np.array([1.0, 0.1, 1e-12, 1e-14, 1e-3])
    assert resolved(errors) == 3
    assert resolved(errors, rtol=1e-7) == 2
    assert resolved(errors[:3]) == 3
    assert resolved(np.array([1.0, np.nan, 1.0])) == 1


def test_escape_between_mesh_times():
    t = np.linspace(0.0, 10.0, 12)
    rise = lambda t: t**2 / 100  # noqa: E731
    assert escape_time(t, rise(t), rise) == pytest.approx(np.sqrt(30), rel=1e-11)
    assert escape_time(np.arange(11.0), rise(np.arange(11.0)), None) == 6.0
    assert escape_time(t, 0.1 * rise(t), rise) is None
    assert escape_time(t, np.full(12, np.nan), None) is None
    assert escape_time(t, np.full(12, 0.4), lambda t: 0.4 + 0 * t) == 0.0
