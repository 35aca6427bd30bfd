"""Adams' method of variable order, in compiled loops, with an interpolant between its steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty
from numpy.typing import ArrayLike, NDArray

from solvers.results import Status

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]

SETTINGS = 8
"""Length of the settings of ``adams``."""
NUMBERS = 26
"""Numbers that ``adams`` keeps beside the state and its differences."""
COLUMNS = 16
"""The state and its differences, each of the state's size, come in front of these."""
ROOM = 1000
"""At most so many steps are recorded in one call; the user may interrupt between calls."""
MOST_NUMBERS = 2_000_000
"""A call records no more numbers than this."""
NODES = 4
"""Between two steps the solution is interpolated from the states and rates of so many."""
SHARPER = 0.1
"""The tolerances of the steps over those asked for, so that the error is some 10 × these."""


def adams(
    n: int, rate: Callable[..., None], state: Array, settings: Array, parameters: Array,
    work: Array, out: Array,
) -> None:  # fmt: skip
    """From ``state``, or from where the last call stopped, towards a time; each step is recorded.

    settings = (end, rtol, atol, first step, most steps, bound, bounded, room): integration ends
    where one of the first ``bounded`` entries passes the bound or is not a number, and stops where
    ``room`` steps are recorded (0: nothing is). out = (y, differences Φ_0 = dy/dt … Φ_13, direction
    of the fastest relaxation; time, next step, order, steps of the same length, starting, steps,
    rejected, evaluations, rows, fastest relaxation, steps since it was found; time since each of
    the last states), then for each row (time, y, dy/dt) at the end of a step. What stands there is
    taken up if the number of evaluations is not zero. ``rate(y, parameters, work, dy)`` is the
    flow. Compiled from this text; runs as it stands too.

    Predicts with the k last rates, corrects with one more (order k + 1), evaluates again. The
    step is controlled by the root mean square of the error of order k over atol + rtol·|y|; it is
    doubled, kept, or shortened, the order is the one with the smallest error. Steps do not grow
    beyond 0.85 of what is stable, min(2, 4.7·0.74^k) over the spectral radius, or what has decayed
    would stay at the tolerance; the radius comes from one step of the power method in eight steps.
    Sources: Shampine & Gordon, Computer Solution of Ordinary Differential Equations (1975), in the
    notation of Hairer, Nørsett & Wanner, Solving ODEs I, III.5 and III.7; the limits of stability
    by the roots of the method's polynomials.
    """
    y = empty(n)
    f = empty(n)
    z = empty(n)
    predicted = empty(n)
    total = empty(n)
    direction = empty(n)
    phi = empty(14 * n)
    star = empty(14 * n)
    past = empty(15)
    reach = empty(15)
    beta = empty(15)
    g = empty(15)
    c = empty(16)
    end = settings[0]
    rtol = settings[1]
    atol = settings[2]
    most = settings[4]
    bound = settings[5]
    bounded = settings[6]
    room = settings[7]
    at = 16 * n
    t = out[at]
    h = out[at + 1]
    k = int(out[at + 2])
    same = out[at + 3]
    starting = out[at + 4]
    steps = out[at + 5]
    rejected = out[at + 6]
    evaluations = out[at + 7]
    fastest = out[at + 9]
    since = out[at + 10]
    rows = 0.0
    for j in range(15):
        past[j] = out[at + 11 + j]
    for i in range(n):
        y[i] = out[i]
        direction[i] = out[15 * n + i]
    for i in range(14 * n):
        phi[i] = out[n + i]
    if evaluations < 0.5:
        for i in range(n):
            y[i] = state[i]
        rate(y, parameters, work, f)
        for i in range(14 * n):
            phi[i] = 0.0
        size = 1e-300
        for i in range(n):
            phi[i] = f[i]
            size += f[i] * f[i]
        for i in range(n):
            direction[i] = f[i] / sqrt(size)
        t = 0.0
        h = settings[3]
        k = 1
        same = 0.0
        starting = 1.0
        steps = 0.0
        rejected = 0.0
        evaluations = 1.0
        since = 8.0
        for j in range(15):
            past[j] = h * j
    last = past[1]
    failures = 0.0
    row = at + 26
    alive = 1.0
    while t < end and alive > 0.5:
        if h > end - t:
            h = end - t
        for j in range(16):
            c[j] = 1.0 / (j + 1.0)
        g[0] = 1.0
        beta[0] = 1.0
        for j in range(1, k + 2):
            reach[j] = h + past[j - 1]
            beta[j] = beta[j - 1] * reach[j] / past[j]
            ratio = h / reach[j]
            for q in range(k + 2 - j):
                c[q] = c[q] - c[q + 1] * ratio
            g[j] = c[0]
        for i in range(n):
            z[i] = 0.0
            total[i] = 0.0
        for j in range(k):
            factor = beta[j]
            share = h * g[j]
            for i in range(n):
                term = factor * phi[j * n + i]
                star[j * n + i] = term
                z[i] += share * term
                total[i] += term
        factor = beta[k]
        for i in range(n):
            z[i] += y[i]
            star[k * n + i] = factor * phi[k * n + i]
        rate(z, parameters, work, predicted)
        error = 0.0
        lower = 0.0
        lowest = 0.0
        below = (k - 1) * n
        under = below
        if k > 1:
            under = below - n
        for i in range(n):
            scale = 1.0 / (atol + rtol * max(abs(y[i]), abs(z[i])))
            first = predicted[i] - total[i]
            second = first + star[below + i]
            third = second + star[under + i]
            predicted[i] = first
            first = first * scale
            second = second * scale
            third = third * scale
            error += first * first
            lower += second * second
            lowest += third * third
        error = h * abs(g[k] - g[k - 1]) * sqrt(error / n)
        following = k
        if k > 1:
            lower = h * abs(g[k - 1] - g[k - 2]) * sqrt(lower / n)
        if k > 2:
            lowest = h * abs(g[k - 2] - g[k - 3]) * sqrt(lowest / n)
            if max(lower, lowest) <= error:
                following = k - 1
        if k == 2 and lower <= 0.5 * error:
            following = 1
        steps = steps + 1.0
        evaluations = evaluations + 1.0
        if error <= 1.0:
            share = h * g[k]
            largest = 0.0
            size = 1e-300
            for i in range(n):
                y[i] = z[i] + share * predicted[i]
                size += y[i] * y[i]
                if i < bounded:
                    largest = max(largest, abs(y[i]))
            rate(y, parameters, work, f)
            evaluations = evaluations + 1.0
            t = t + h
            if end - t < 1e-14 * end:
                t = end
            for i in range(n):
                total[i] = f[i]
                phi[i] = f[i]
            since = since + 1.0
            if since > 7.5:
                since = 0.0
                moved = 1e-7 * sqrt(size)
                for i in range(n):
                    z[i] = y[i] + moved * direction[i]
                rate(z, parameters, work, predicted)
                evaluations = evaluations + 1.0
                size = 1e-300
                for i in range(n):
                    direction[i] = predicted[i] - f[i]
                    size += direction[i] * direction[i]
                for i in range(n):
                    direction[i] = direction[i] / sqrt(size)
                fastest = sqrt(size) / moved
            for j in range(k + 1):
                for i in range(n):
                    total[i] = total[i] - star[j * n + i]
                    phi[(j + 1) * n + i] = total[i]
            for j in range(14):
                past[14 - j] = past[13 - j] + h
            same = same + 1.0 if h == last else 1.0
            last = h
            failures = 0.0
            if following < k or k == 12:
                starting = 0.0
            if starting > 0.5:
                k = k + 1
                h = 2.0 * h
            else:
                higher = 1e300
                stable = 0.85 * min(2.0, 4.7 * 0.74**k) / fastest
                if same > k + 0.5 and k < 12:
                    higher = 0.0
                    for i in range(n):
                        term = total[i] / (atol + rtol * abs(y[i]))
                        higher += term * term
                    higher = h * abs(g[k + 1] - g[k]) * sqrt(higher / n)
                    if k > 1 and lower <= min(error, higher):
                        following = k - 1
                if following < k:
                    k = k - 1
                    error = lower
                elif (higher < error and h < 0.74 * stable) and (k > 1 or higher < 0.5 * error):
                    k = k + 1
                    error = higher
                stable = 0.85 * min(2.0, 4.7 * 0.74**k) / fastest
                if (h > stable and k > 3) and lower * 2.0**k <= 0.5:
                    k = k - 1
                elif error * 2.0 ** (k + 1.0) <= 0.5:
                    h = min(2.0 * h, stable)
                elif error > 0.5:
                    h = h * max(0.5, min(0.9, (0.5 / error) ** (1.0 / (k + 1.0))))
            rows = rows + 1.0
            if room > 0.5:
                out[row] = t
                for i in range(n):
                    out[row + 1 + i] = y[i]
                    out[row + 1 + n + i] = f[i]
                row = row + 1 + 2 * n
                if rows > room - 0.5:
                    alive = 0.0
            if largest > bound:
                alive = 0.0
        else:
            rejected = rejected + 1.0
            starting = 0.0
            failures = failures + 1.0
            k = following
            h = 0.5 * h
            if failures > 2.5:
                k = 1
                h = 0.25 * h
        if steps >= most or h < 1e-14 * end:
            alive = 0.0
    for i in range(n):
        out[i] = y[i]
        out[15 * n + i] = direction[i]
    for i in range(14 * n):
        out[n + i] = phi[i]
    out[at] = t
    out[at + 1] = h
    out[at + 2] = k
    out[at + 3] = same
    out[at + 4] = starting
    out[at + 5] = steps
    out[at + 6] = rejected
    out[at + 7] = evaluations
    out[at + 8] = rows
    out[at + 9] = fastest
    out[at + 10] = since
    for j in range(15):
        out[at + 11 + j] = past[j]


@lru_cache(maxsize=1)
def text() -> str:
    """The method as text, to be compiled with a flow."""
    return inspect.getsource(adams)


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

    def at(self, times: ArrayLike) -> Array:
        """y (…, n) at any times: the polynomial through states and rates of the nearest steps."""
        t, last = np.asarray(times, float), len(self.time)
        nodes = min(NODES, last)
        first = np.searchsorted(self.time, t, side="right") - nodes // 2
        near = np.minimum(np.maximum(first, 0), last - nodes)[..., None] + np.arange(nodes)
        x, of_y, of_rate = self.time[near], np.empty(near.shape), np.empty(near.shape)
        for j in range(nodes):
            basis, slope = np.ones(t.shape), np.zeros(t.shape)
            for m in range(nodes):
                if m != j:
                    width = 1 / (x[..., j] - x[..., m])
                    basis *= (t - x[..., m]) * width
                    slope += width
            moved = (t - x[..., j]) * basis**2
            of_y[..., j] = basis**2 - 2 * slope * moved
            of_rate[..., j] = moved
        y = of_y[..., None, :] @ self.y.take(near, 0)
        y += of_rate[..., None, :] @ self.rate.take(near, 0)
        return y[..., 0, :]


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
    rtol, atol = SHARPER * rtol, SHARPER * atol
    h = first_step(slope, start, time, rtol, atol)
    settings = time, rtol, atol, h, most, bound, bounded, room
    parts = [np.concatenate([[0.0], start, slope])[None]]
    status = None

    def record() -> None:
        taken, numbers[8] = rows[: int(numbers[8])].copy(), 0
        parts.append(taken)

    try:
        while status is None:
            solve(start, settings, parameters, out)
            full = numbers[8] == room
            record()
            if not np.abs(header[:bounded]).max(initial=0.0) <= bound:
                status = Status.diverged
            elif numbers[0] == time:
                status = Status.success
            elif not full or numbers[5] >= most:
                status = Status.not_converged
    except KeyboardInterrupt:
        record()
        status = Status.interrupted
    table = np.concatenate(parts)
    y, rates = table[:, 1 : n + 1], table[:, n + 1 :]
    return Steps(table[:, 0], y, rates, status, int(numbers[7]))


def first_step(rate: Array, y: Array, time: float, rtol: float, atol: float) -> float:
    """A step whose error is small to first order, if the rate changed by its own size in α = 1."""
    size = float(np.sqrt(np.mean((rate / (atol + rtol * np.abs(y))) ** 2)))
    return min(time, 0.25 * np.sqrt(0.5 / size)) if 0 < size < np.inf else 1e-6 * time
