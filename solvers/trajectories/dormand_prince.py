"""The pair of order 5(4) of Dormand and Prince (1980), with its interpolant, in compiled loops."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]

SETTINGS = 9
"""Length of the settings of ``dormand_prince``."""
HEADER = 6
"""Numbers that it returns in front of the recorded steps, beside the state and its rate."""
ROOM = 1000
"""At most so many steps are recorded in one call; the user may interrupt between calls."""
MOST_NUMBERS = 2_000_000
"""A call records no more numbers than this."""


def dormand_prince(
    n: int, rate: Callable[..., None], state: Array, settings: Array, parameters: Array,
    work: Array, out: Array,
) -> None:  # fmt: skip
    """From ``state`` towards a time, each step recorded where there is room.

    settings = (time, end, rtol, atol, first step, most steps, bound, bounded, room): integration
    ends where one of the first ``bounded`` entries passes the bound or is not a number, and stops
    where ``room`` steps are recorded (0: nothing is). out = (y, dy/dt, time, next step, steps,
    rejected, evaluations, rows), then for each of the rows (time, y, dy/dt, the interpolant's fifth
    term) at the beginning of a step. ``rate(y, parameters, work, dy)`` is the flow. Compiled from
    this text; runs as it stands too. The step is controlled by the root mean square of the error
    over atol + rtol·|y|. It is kept to half of what stability allows, or what has decayed would
    stay at the tolerance; the spectral radius comes from one step of the power method in three
    steps. Source: Hairer, Nørsett & Wanner, Solving ODEs I, II.4-6.
    """
    k1 = empty(n)
    k2 = empty(n)
    k3 = empty(n)
    k4 = empty(n)
    k5 = empty(n)
    k6 = empty(n)
    k7 = empty(n)
    v = empty(n)
    z = empty(n)
    y = empty(n)
    for i in range(n):
        y[i] = state[i]
    t = settings[0]
    end = settings[1]
    rtol = settings[2]
    atol = settings[3]
    h = settings[4]
    most = settings[5]
    bound = settings[6]
    bounded = settings[7]
    room = settings[8]
    at = 2 * n + 6
    rows = 0.0
    steps = 0.0
    rejected = 0.0
    alive = 1.0
    longest = end
    since = 2.0
    evaluations = 1.0
    norm = 1e-300
    rate(y, parameters, work, k1)
    for i in range(n):
        norm = norm + k1[i] * k1[i]
    for i in range(n):
        v[i] = k1[i] / sqrt(norm)
    while t < end and alive > 0.5:
        h = min(h, end - t)
        for i in range(n):
            z[i] = y[i] + h * 0.2 * k1[i]
        rate(z, parameters, work, k2)
        for i in range(n):
            z[i] = y[i] + h * (3.0 / 40.0 * k1[i] + 9.0 / 40.0 * k2[i])
        rate(z, parameters, work, k3)
        for i in range(n):
            z[i] = y[i] + h * (44.0 / 45.0 * k1[i] - 56.0 / 15.0 * k2[i] + 32.0 / 9.0 * k3[i])
        rate(z, parameters, work, k4)
        for i in range(n):
            z[i] = y[i] + h * (
                19372.0 / 6561.0 * k1[i] - 25360.0 / 2187.0 * k2[i]
                + 64448.0 / 6561.0 * k3[i] - 212.0 / 729.0 * k4[i]
            )  # fmt: skip
        rate(z, parameters, work, k5)
        for i in range(n):
            z[i] = y[i] + h * (
                9017.0 / 3168.0 * k1[i] - 355.0 / 33.0 * k2[i] + 46732.0 / 5247.0 * k3[i]
                + 49.0 / 176.0 * k4[i] - 5103.0 / 18656.0 * k5[i]
            )  # fmt: skip
        rate(z, parameters, work, k6)
        for i in range(n):
            z[i] = y[i] + h * (
                35.0 / 384.0 * k1[i] + 500.0 / 1113.0 * k3[i] + 125.0 / 192.0 * k4[i]
                - 2187.0 / 6784.0 * k5[i] + 11.0 / 84.0 * k6[i]
            )  # fmt: skip
        rate(z, parameters, work, k7)
        error = 0.0
        largest = 0.0
        for i in range(n):
            e = h * (
                71.0 / 57600.0 * k1[i] - 71.0 / 16695.0 * k3[i] + 71.0 / 1920.0 * k4[i]
                - 17253.0 / 339200.0 * k5[i] + 22.0 / 525.0 * k6[i] - 1.0 / 40.0 * k7[i]
            )  # fmt: skip
            e = e / (atol + rtol * max(abs(y[i]), abs(z[i])))
            error = error + e * e
            if i < bounded:
                largest = max(largest, abs(z[i]))
        error = sqrt(error / n)
        steps = steps + 1.0
        evaluations = evaluations + 6.0
        if error <= 1.0:
            if room > 0.5:
                out[at] = t
                for i in range(n):
                    out[at + 1 + i] = y[i]
                    out[at + 1 + n + i] = k1[i]
                    out[at + 1 + 2 * n + i] = h * (
                        87487479700.0 / 32700410799.0 * k3[i]
                        - 12715105075.0 / 11282082432.0 * k1[i]
                        - 10690763975.0 / 1880347072.0 * k4[i]
                        + 701980252875.0 / 199316789632.0 * k5[i]
                        - 1453857185.0 / 822651844.0 * k6[i]
                        + 69997945.0 / 29380423.0 * k7[i]
                    )  # fmt: skip
                at = at + 1 + 3 * n
                rows = rows + 1.0
            t = t + h
            if end - t < 1e-14 * end:
                t = end
            for i in range(n):
                y[i] = z[i]
                k1[i] = k7[i]
            h = h * min(5.0, 0.9 * max(error, 1e-10) ** -0.2)
            since = since + 1.0
            if since > 2.5:
                since = 0.0
                size = 0.0
                for i in range(n):
                    size = size + y[i] * y[i]
                size = 1e-7 * sqrt(size)
                for i in range(n):
                    z[i] = y[i] + size * v[i]
                rate(z, parameters, work, k2)
                evaluations = evaluations + 1.0
                norm = 0.0
                for i in range(n):
                    v[i] = k2[i] - k1[i]
                    norm = norm + v[i] * v[i]
                norm = sqrt(norm) + 1e-300
                for i in range(n):
                    v[i] = v[i] / norm
                longest = 1.6 * size / norm
            h = min(h, longest)
            if largest > bound:
                alive = 0.0
            if rows > room - 0.5 and room > 0.5:
                alive = 0.0
        else:
            rejected = rejected + 1.0
            h = h * max(0.2, 0.9 * error**-0.2) if error < 1e300 else 0.1 * h
        if steps >= most or h < 1e-14 * end:
            alive = 0.0
    for i in range(n):
        out[i] = y[i]
        out[n + i] = k1[i]
    out[2 * n] = t
    out[2 * n + 1] = h
    out[2 * n + 2] = steps
    out[2 * n + 3] = rejected
    out[2 * n + 4] = evaluations
    out[2 * n + 5] = rows


@lru_cache(maxsize=1)
def text() -> str:
    """The method as text, to be compiled with a flow."""
    return inspect.getsource(dormand_prince)


@dataclass(frozen=True)
class Steps:
    """Steps of a trajectory: their times (m + 1,), states and rates (m + 1, n), fifth terms (m, n).

    ``finished``: the end was reached; otherwise an entry passed the bound (``passed``), the step
    fell below rounding, or there were too many.
    """

    time: Array
    y: Array
    rate: Array
    fifth: Array
    finished: bool
    passed: bool
    evaluations: int

    @cached_property
    def _polynomials(self) -> Array:
        """Coefficients (5, m, n) of y in each step, in the share of the step that has passed."""
        before, moved = self.y[:-1], np.diff(self.y, axis=0)
        h = np.diff(self.time)[:, None]
        third = h * self.rate[:-1] - moved
        fourth, fifth = moved - h * self.rate[1:] - third, self.fifth
        quartic = -fourth - 2 * fifth
        return np.stack([before, third + moved, fourth + fifth - third, quartic, fifth])

    def at(self, times: ArrayLike) -> Array:
        """y (…, n) at any times, to order 4 between the steps."""
        times = np.asarray(times, float)
        i = np.searchsorted(self.time[1:-1], times, side="right")
        x = ((times - self.time[i]) / (self.time[i + 1] - self.time[i]))[..., None]
        *lower, highest = self._polynomials
        y = highest.take(i, 0)
        for coefficient in reversed(lower):
            y *= x
            y += coefficient.take(i, 0)
        return y


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
    room = max(1, min(ROOM, MOST_NUMBERS // (3 * n + 1)))
    solve = compiled.solver(dormand_prince.__name__, text(), SETTINGS)
    out = np.empty(2 * n + HEADER + room * (3 * n + 1))
    header, rows = out[: 2 * n + HEADER], out[2 * n + HEADER :].reshape(room, 3 * n + 1)
    now, y, left, evaluations = 0.0, start, most, 1
    h = first_step(compiled.bound("flow", parameters)(start), start, time, rtol, atol)
    parts: list[Array] = []
    while True:
        settings = (now, time, rtol, atol, h, left, bound, bounded, room)
        solve(y, settings, parameters, out)
        now, h, steps, _, called, count = header[2 * n :].tolist()
        y, slope = header[:n].copy(), header[n : 2 * n].copy()
        left, evaluations = left - int(steps), evaluations + int(called)
        parts.append(rows[: int(count)].copy())
        passed = not np.abs(y[:bounded]).max(initial=0.0) <= bound
        if now == time or passed or count < room or left <= 0:
            break
    table = np.concatenate(parts)
    states = np.concatenate([table[:, 1 : n + 1], y[None]])
    rates = np.concatenate([table[:, n + 1 : 2 * n + 1], slope[None]])
    times = np.append(table[:, 0], now)
    return Steps(times, states, rates, table[:, 2 * n + 1 :], now == time, passed, evaluations)


def first_step(rate: Array, y: Array, time: float, rtol: float, atol: float) -> float:
    """A hundredth of the time in which the state would change by its own size (Hairer, II.4)."""
    scale = atol + rtol * np.abs(y)
    size, change = (float(np.linalg.norm(x / scale)) for x in (y, rate))
    return min(time, 0.01 * size / change) if 0 < change < np.inf and size > 0 else 1e-6 * time
