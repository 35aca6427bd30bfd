"""Critical and optimal rates of a fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy

from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.stability.arclength import Steps
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.problem import Spectrum, moving_modes
from solvers.stability.special_points import special_points
from solvers.stability.steady import Steady
from solvers.stability.track import Track, Window, both_ways, state_at


@dataclass(frozen=True)
class Optimum:
    """The rate at which a fixed point attracts fastest, and the decay rate of its slowest mode."""

    rate: float
    decay: float


@dataclass(frozen=True)
class Rates:
    """The largest stable value of an outer rate and the best one; None where there is none."""

    parameter: str
    critical: float | None
    optimum: Optimum | None

    @property
    def sentence(self) -> str:
        """Both in one line."""
        if self.critical is None:
            text = f"stable at every {self.parameter} up to {largest_rate(0.0):g}"
        else:
            text = f"stable up to {self.parameter} = {self.critical:.10g}"
        if self.optimum is not None:
            text += (
                f", settles fastest at {self.optimum.rate:.6g} "
                f"(its slowest mode decays at {self.optimum.decay:.6g})"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, as ``macrodyn fixed-points --json`` prints them."""
        best = self.optimum
        return {
            "critical_rate": self.critical,
            "optimal_rate": best and best.rate,
            "optimal_decay": best and best.decay,
        }


def rates_of(fixed_point: FixedPoint, parameter: str = "rule.outer_rate") -> Rates:
    """The critical and the optimal value of an outer rate of a stable fixed point."""
    try:
        critical = critical_rate(fixed_point, parameter)
    except NumericalFailure:
        critical = None
    best = None
    if critical is not None:
        best = optimal_rate(fixed_point, parameter, largest=critical)
    return Rates(parameter, critical, best)


def largest_rate(value: float) -> float:
    """Where a search for the critical rate ends by default."""
    return max(100.0, 100 * value)


def critical_rate(
    fixed_point: FixedPoint, parameter: str = "rule.outer_rate", *, largest: float | None = None
) -> float:
    """The largest value of ``parameter`` at which the fixed point is stable, by continuation.

    The branch is followed upwards from a stable fixed point to where it first loses stability or
    turns back (at a fold, or by meeting its own image), downwards from an unstable one.
    ``largest`` bounds the search (default:
    100 times the value, at least 100).

    Raises:
        NumericalFailure: the point is stable up to ``largest``, or at no smaller value.
    """
    steady = Steady(fixed_point.experiment, parameter)
    start, upper = steady.value, largest or largest_rate(steady.value)
    lower = steady.limits[0] if np.isfinite(steady.limits[0]) else start - upper
    window = (start, upper) if fixed_point.stable else (lower, start)
    for track in _growing_windows(steady, fixed_point, *window):
        value = _first_change(track, start)
        if value is not None:
            return value
    side = f"up to {upper:g}" if fixed_point.stable else "at any smaller value"
    state = "stable" if fixed_point.stable else "not stable"
    raise NumericalFailure(
        f"The fixed point is {state} in {parameter} {side}: there is no critical rate there.", None
    )


def _growing_windows(steady: Steady, point: FixedPoint, low: float, high: float) -> Iterator[Track]:
    """The branch over ranges that grow from the point's own value to the whole window."""
    start, width = steady.value, max(abs(steady.value), 0.1)
    limit = max(high - start, start - low)
    while True:
        reach = min(width, limit)
        window = Window(max(low, start - reach), min(high, start + reach), Steps(count=600))
        x = point.y[steady.free]
        yield both_ways(steady.problem, x, start, window, point.manifold)
        if reach >= limit:
            return
        width *= 4


def _first_change(track: Track, start: float) -> float | None:
    """Where stability changes next to ``start``, or a stable branch turns back and is gone."""
    index = int(np.argmin([abs(p.parameter - start) for p in track.points]))
    upwards = list(track.points[index:])
    downwards = list(reversed(track.points[: index + 1]))
    for side in (upwards, downwards):
        for a, b in pairwise(side):
            stable = a.unstable == 0, b.unstable == 0
            turned = all(stable) and a.node.tangent[-1] * b.node.tangent[-1] < 0
            if turned or stable[0] != stable[1]:
                first, second = (a, b) if side is upwards else (b, a)
                found = special_points(track.sheet, first, second)
                critical = [s.parameter for s in found if s.critical or turned]
                if critical:
                    return critical[0]
    return None


def optimal_rate(
    fixed_point: FixedPoint, parameter: str = "rule.outer_rate", *, largest: float | None = None
) -> Optimum:
    """The value of ``parameter`` at which the slowest mode of the fixed point decays fastest.

    Decay is per unit of time (α, or steps of a map); modes that are neutral whatever the rate do
    not count. Sought between the lower limit of the parameter and the critical rate, or
    ``largest``.

    Raises:
        ExperimentError: the fixed point is unstable.
    """
    if not fixed_point.stable:
        raise ExperimentError(f"an unstable fixed point has no optimal {parameter}")
    steady = Steady(fixed_point.experiment, parameter)
    try:
        high = critical_rate(fixed_point, parameter, largest=largest)
    except NumericalFailure:
        high = largest or largest_rate(steady.value)
    low = max(steady.limits[0], min(0.0, steady.value))
    window = Window(low, high)
    x = fixed_point.y[steady.free]
    track = both_ways(steady.problem, x, steady.value, window, fixed_point.manifold)

    def decay(eigenvalues: Spectrum) -> float:
        growth = steady.problem.growth(moving_modes(eigenvalues, track.sheet.neutral))
        return float(-growth.max(initial=-np.inf))

    def slowest(value: float) -> float:
        states = state_at(track, value)
        if not states:
            return 0.0
        return -decay(steady.problem.spectrum(steady.problem.jacobian(states[0], value)))

    best = int(np.argmax([decay(p.eigenvalues) for p in track.points]))
    values = track.parameters
    ends = sorted((values[max(best - 1, 0)], values[min(best + 1, len(values) - 1)]))
    found = scipy.optimize.minimize_scalar(
        slowest, bounds=ends, method="bounded", options={"xatol": 1e-10}
    )
    return Optimum(float(found.x), -float(found.fun))  # type: ignore[attr-defined]
