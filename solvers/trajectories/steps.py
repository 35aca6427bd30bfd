"""Trajectories by Adams' method in compiled loops, with an interpolant between its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvers.results import Status
from solvers.trajectories.adams import (
    COLUMNS,
    EVALUATIONS,
    NUMBERS,
    ROWS,
    SETTINGS,
    STEPS,
    TIME,
    adams,
    text,
)

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]

ROOM = 1000
"""At most so many steps are recorded in one call; the user may interrupt between calls."""
MOST_NUMBERS = 2_000_000
"""A call records no more numbers than this."""
NODES = 4
"""Between two steps the solution is interpolated from the states and rates of so many."""
SHARPER = 0.1
"""The tolerances of the steps over those asked for, so that the error is some 10 × these."""


@dataclass(frozen=True)
class Steps:
    """Steps of a trajectory: their times (m,), states and rates (m, n), and how they ended.

    ``status`` is not converged where the step fell below rounding, or there were too many.
    """

    time: Array
    y: Array
    rate: Array
    status: Status
    evaluations: int

    @cached_property
    def _windows(self) -> tuple[Array, Array, Array, Array]:
        """States and rates of each step; the times x_j of each run of nearest steps, with
        Π 1/(x_j − x_m) and Σ 1/(x_j − x_m) over the others."""
        nodes = min(NODES, len(self.time))
        x = self.time[np.arange(len(self.time) - nodes + 1)[:, None] + np.arange(nodes)]
        apart = 1 / (x[:, :, None] - x[:, None, :] + np.eye(nodes))
        return np.stack([self.y, self.rate], 1), x, apart.prod(-1), apart.sum(-1) - 1

    def at(self, times: ArrayLike) -> Array:
        """y (…, n) at any times: the polynomial through states and rates of the nearest steps."""
        t, (steps, x, scale, slope) = np.asarray(times, float), self._windows
        nodes = x.shape[1]
        first = np.searchsorted(self.time, t, side="right") - nodes // 2
        first = np.minimum(np.maximum(first, 0), len(x) - 1)
        d = t[..., None] - x.take(first, 0)
        others = np.arange(1, nodes) + np.arange(nodes)[:, None]
        basis = d.take(others % nodes, -1).prod(-1) * scale.take(first, 0)
        of_rate = d * basis**2
        weights = np.stack([basis**2 - 2 * slope.take(first, 0) * of_rate, of_rate], -1)
        near = steps.take(first[..., None] + np.arange(nodes), 0)
        flat = (*t.shape, 2 * nodes)
        return (weights.reshape(*t.shape, 1, -1) @ near.reshape(*flat, -1))[..., 0, :]


def follow(
    compiled: CompiledFlow,
    parameters: Mapping[str, Any],
    start: Array,
    time: float,
    *,
    rtol: float,
    atol: float,
    bound: float,
    bounded: int,
    most: int,
) -> Steps:
    """The steps from ``start`` to ``time``, of a flow that runs as compiled loops."""
    n = compiled.layout.size
    room, head = max(1, min(ROOM, MOST_NUMBERS // (2 * n + 1))), COLUMNS * n + NUMBERS
    solve = compiled.solver(adams.__name__, text(), SETTINGS)
    out = np.empty(head + room * (2 * n + 1))
    header, rows = out[:head], out[head:].reshape(room, 2 * n + 1)
    header[:], numbers = 0.0, header[COLUMNS * n :]
    slope = compiled.bound("flow", parameters)(start)
    settings = settings_of(slope, start, time, rtol, atol, (most, bound, bounded, room))
    parts = [np.concatenate([[0.0], start, slope])[None]]
    status = None

    def record() -> None:
        taken, numbers[ROWS] = rows[: int(numbers[ROWS])].copy(), 0
        parts.append(taken)

    try:
        while status is None:
            solve(start, settings, parameters, out)
            full = numbers[ROWS] == room
            record()
            if not np.abs(header[:bounded]).max(initial=0.0) <= bound:
                status = Status.diverged
            elif numbers[TIME] == time:
                status = Status.success
            elif not full or numbers[STEPS] >= most:
                status = Status.not_converged
    except KeyboardInterrupt:
        record()
        status = Status.interrupted
    table = np.concatenate(parts)
    y, rates = table[:, 1 : n + 1], table[:, n + 1 :]
    return Steps(table[:, 0], y, rates, status, int(numbers[EVALUATIONS]))


def settings_of(
    rate: Array, y: Array, time: float, rtol: float, atol: float, limits: tuple[float, ...]
) -> tuple[float, ...]:
    """The settings of ``adams`` from y, where dy/dt is ``rate``, towards a time.

    ``limits``: the settings after the first step. The error of that step is small to first order,
    if the rate changes by its own size in a unit of time.
    """
    rtol, atol = SHARPER * rtol, SHARPER * atol
    size = float(np.sqrt(np.mean((rate / (atol + rtol * np.abs(y))) ** 2)))
    first = min(time, 0.25 * np.sqrt(0.5 / size)) if 0 < size < np.inf else 1e-6 * time
    return time, rtol, atol, first, *limits
