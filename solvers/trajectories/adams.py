"""Adams' method of variable order, as text that is compiled together with a flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy import empty
from numpy.typing import NDArray

Array = NDArray[np.float64]

SETTINGS = 8
"""Length of the settings of ``adams``."""
NUMBERS = 26
"""Numbers that ``adams`` keeps beside the state and its differences."""
COLUMNS = 16
"""The state and its differences, each of the state's size, come in front of these."""
TIME, STEPS, REJECTED, EVALUATIONS, ROWS = 0, 5, 6, 7, 8
"""Where some of these numbers stand."""


def weigh(k: int, h: float, past: Array, g: Array, beta: Array) -> None:
    """The weights g_j of the differences in a step h, and their ratios β_j, for j ≤ k + 1."""
    c = empty(16)
    for j in range(16):
        c[j] = 1.0 / (j + 1.0)
    g[0] = 1.0
    beta[0] = 1.0
    for j in range(1, k + 2):
        reach = h + past[j - 1]
        beta[j] = beta[j - 1] * reach / past[j]
        for q in range(k + 2 - j):
            c[q] = c[q] - c[q + 1] * (h / reach)
        g[j] = c[0]


def predict(
    n: int, k: int, h: float, g: Array, beta: Array, y: Array, phi: Array, star: Array,
    total: Array, z: Array,
) -> None:  # fmt: skip
    """The predicted state z; Φ*_j = β_j Φ_j for j ≤ k, and their sum up to k − 1."""
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


def estimate(
    n: int, k: int, h: float, rtol: float, atol: float, g: Array, y: Array, z: Array, star: Array,
    excess: Array, errors: Array,
) -> None:  # fmt: skip
    """Errors of the orders k, k − 1 and k − 2, from the ``excess`` Φ_k at the predicted state.

    The root mean square over atol + rtol·|y|, 1 where it is at the tolerance.
    """
    first = 0.0
    second = 0.0
    third = 0.0
    below = (k - 1) * n
    under = below
    if k > 1:
        under = below - n
    for i in range(n):
        scale = 1.0 / (atol + rtol * max(abs(y[i]), abs(z[i])))
        a = excess[i] * scale
        b = a + star[below + i] * scale
        c = b + star[under + i] * scale
        first += a * a
        second += b * b
        third += c * c
    errors[0] = h * abs(g[k] - g[k - 1]) * sqrt(first / n)
    if k > 1:
        errors[1] = h * abs(g[k - 1] - g[k - 2]) * sqrt(second / n)
    if k > 2:
        errors[2] = h * abs(g[k - 2] - g[k - 3]) * sqrt(third / n)


def estimate_higher(
    n: int, k: int, h: float, rtol: float, atol: float, g: Array, y: Array, total: Array,
    errors: Array,
) -> None:  # fmt: skip
    """The error of the order k + 1, from Φ_{k+1} after a step."""
    error = 0.0
    for i in range(n):
        term = total[i] / (atol + rtol * abs(y[i]))
        error += term * term
    errors[3] = h * abs(g[k + 1] - g[k]) * sqrt(error / n)


def advance(
    n: int, k: int, h: float, f: Array, star: Array, phi: Array, total: Array, past: Array
) -> None:
    """The differences Φ_0 … Φ_{k+1} after a step, the last in ``total``, and the times ago."""
    for i in range(n):
        total[i] = f[i]
        phi[i] = f[i]
    for j in range(k + 1):
        for i in range(n):
            total[i] = total[i] - star[j * n + i]
            phi[(j + 1) * n + i] = total[i]
    for j in range(14):
        past[14 - j] = past[13 - j] + h


def begin(n: int, h: float, y: Array, f: Array, phi: Array, direction: Array, past: Array) -> None:
    """Differences at the start: as if the rate had always been what it is."""
    size = 1e-300
    for i in range(14 * n):
        phi[i] = 0.0
    for i in range(n):
        phi[i] = f[i]
        size += f[i] * f[i]
    for i in range(n):
        direction[i] = f[i] / sqrt(size)
    for j in range(15):
        past[j] = h * j


def longest(k: int, fastest: float) -> float:
    """0.85 of the longest stable step of order k where the fastest relaxation is at this rate.

    The limit is min(2, 4.7·0.74^k) over the rate, by the roots of the method's polynomials.
    """
    return 0.85 * min(2.0, 4.7 * 0.74**k) / fastest


def adapted(k: int, h: float, error: float, stable: float) -> float:
    """The next step: doubled, kept, or shortened; what grows stays within what is stable."""
    step = h
    if error * 2.0 ** (k + 1.0) <= 0.5:
        step = min(2.0 * h, stable)
    elif error > 0.5:
        step = h * max(0.5, min(0.9, (0.5 / error) ** (1.0 / (k + 1.0))))
    return step


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
    step is controlled by the error of order k; the order is the one with the smallest error. Steps
    do not grow beyond what is stable, or what has decayed would stay at the tolerance; the fastest
    relaxation comes from one step of the power method in eight steps. Sources: Shampine & Gordon,
    Computer Solution of Ordinary Differential Equations (1975), in the notation of Hairer, Nørsett
    & Wanner, Solving ODEs I, III.5 and III.7.
    """
    y = empty(n)
    f = empty(n)
    z = empty(n)
    excess = empty(n)
    total = empty(n)
    direction = empty(n)
    phi = empty(14 * n)
    star = empty(14 * n)
    past = empty(15)
    beta = empty(15)
    g = empty(15)
    errors = empty(4)
    end = settings[0]
    rtol = settings[1]
    atol = settings[2]
    most = settings[4]
    bounded = settings[6]
    room = settings[7]
    at = 16 * n
    row = at + 26
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
    failures = 0.0
    alive = 1.0
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
        h = settings[3]
        k = 1
        starting = 1.0
        evaluations = 1.0
        since = 8.0
        begin(n, h, y, f, phi, direction, past)
    last = past[1]
    while t < end and alive > 0.5:
        h = min(h, end - t)
        weigh(k, h, past, g, beta)
        predict(n, k, h, g, beta, y, phi, star, total, z)
        rate(z, parameters, work, excess)
        for i in range(n):
            excess[i] = excess[i] - total[i]
        estimate(n, k, h, rtol, atol, g, y, z, star, excess, errors)
        error = errors[0]
        lower = errors[1]
        falls = 0.0
        if k > 2 and max(lower, errors[2]) <= error:
            falls = 1.0
        if k == 2 and lower <= 0.5 * error:
            falls = 1.0
        steps = steps + 1.0
        evaluations = evaluations + 1.0
        if error <= 1.0:
            size = 1e-300
            largest = 0.0
            for i in range(n):
                y[i] = z[i] + h * g[k] * excess[i]
                size += y[i] * y[i]
                if i < bounded:
                    largest = max(largest, abs(y[i]))
            rate(y, parameters, work, f)
            evaluations = evaluations + 1.0
            t = t + h
            if end - t < 1e-14 * end:
                t = end
            advance(n, k, h, f, star, phi, total, past)
            same = same + 1.0 if h == last else 1.0
            last = h
            failures = 0.0
            rows = rows + 1.0
            if room > 0.5:
                out[row] = t
                for i in range(n):
                    out[row + 1 + i] = y[i]
                    out[row + 1 + n + i] = f[i]
                row = row + 1 + 2 * n
            if largest > settings[5] or (room > 0.5 and rows > room - 0.5):
                alive = 0.0
            since = since + 1.0
            if since > 7.5:
                since = 0.0
                moved = 1e-7 * sqrt(size)
                for i in range(n):
                    z[i] = y[i] + moved * direction[i]
                rate(z, parameters, work, excess)
                evaluations = evaluations + 1.0
                size = 1e-300
                for i in range(n):
                    direction[i] = excess[i] - f[i]
                    size += direction[i] * direction[i]
                for i in range(n):
                    direction[i] = direction[i] / sqrt(size)
                fastest = sqrt(size) / moved
            if falls > 0.5 or k == 12:
                starting = 0.0
            errors[3] = 1e300
            if starting < 0.5 and (same > k + 0.5 and k < 12):
                estimate_higher(n, k, h, rtol, atol, g, y, total, errors)
                if k > 1 and lower <= min(error, errors[3]):
                    falls = 1.0
            if starting > 0.5:
                k = k + 1
                h = 2.0 * h
            else:
                higher = errors[3]
                stable = longest(k, fastest)
                if falls > 0.5:
                    k = k - 1
                    error = lower
                elif (higher < error and h < 0.74 * stable) and (k > 1 or higher < 0.5 * error):
                    k = k + 1
                    error = higher
                stable = longest(k, fastest)
                if (h > stable and k > 3) and lower * 2.0**k <= 0.5:
                    k = k - 1
                else:
                    h = adapted(k, h, error, stable)
        else:
            rejected = rejected + 1.0
            starting = 0.0
            failures = failures + 1.0
            if falls > 0.5:
                k = k - 1
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
    parts = (weigh, predict, estimate, estimate_higher, advance, begin, longest, adapted, adams)
    return "\n\n".join(inspect.getsource(part) for part in parts)
