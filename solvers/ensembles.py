"""Many trajectories of one flow in one call: Dormand and Prince's method in compiled loops."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bundle:
    """End states (n, size) of n trajectories, the times reached and the steps taken (n,).

    ``time`` falls short of what was asked for where a trajectory left all bounds or took more
    than the allowed number of steps.
    """

    y: Array
    time: Array
    steps: NDArray[np.int64]
    rejected: NDArray[np.int64]


def dormand_prince(
    n: int, rate: Callable[..., None], state: Array, settings: Array, parameters: Array,
    work: Array, out: Array,
) -> None:  # fmt: skip
    """From ``state`` to ``settings[0]`` by the pair of order 5(4) of Dormand and Prince (1980).

    settings = (end, rtol, atol, first step, most steps, bound); out = (y, time, steps, rejected).
    ``rate(y, parameters, work, dy)`` is the flow. Compiled from this text; runs as it stands too.
    The step is controlled by the root mean square of the error over atol + rtol·|y|, and a
    trajectory ends where an entry passes the bound or is not a number.
    """
    k1 = empty(n)
    k2 = empty(n)
    k3 = empty(n)
    k4 = empty(n)
    k5 = empty(n)
    k6 = empty(n)
    k7 = empty(n)
    z = empty(n)
    y = empty(n)
    for i in range(n):
        y[i] = state[i]
    end = settings[0]
    rtol = settings[1]
    atol = settings[2]
    h = settings[3]
    most = settings[4]
    bound = settings[5]
    t = 0.0
    steps = 0.0
    rejected = 0.0
    alive = 1.0
    rate(y, parameters, work, k1)
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
            largest = max(largest, abs(z[i]))
        error = sqrt(error / n)
        steps = steps + 1.0
        if error <= 1.0:
            t = t + h
            if end - t < 1e-14 * end:
                t = end
            for i in range(n):
                y[i] = z[i]
                k1[i] = k7[i]
            h = h * min(5.0, 0.9 * max(error, 1e-10) ** -0.2)
            if largest > bound:
                alive = 0.0
        else:
            rejected = rejected + 1.0
            h = h * max(0.2, 0.9 * error**-0.2) if error < 1e300 else 0.1 * h
        if steps >= most or h < 1e-14 * end:
            alive = 0.0
    for i in range(n):
        out[i] = y[i]
    out[n] = t
    out[n + 1] = steps
    out[n + 2] = rejected


def ensemble(
    compiled: CompiledFlow,
    starts: ArrayLike,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    time: float,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    most_steps: int = 100_000,
    bound: float = 1e6,
) -> Bundle:
    """Integrate every start (n, size), or one start at every set of parameters, to ``time``.

    ``starts`` and ``parameters`` pair up; a single one goes with all of the other. The error of
    the end states is some 10² × rtol. Takes one core.

    Raises:
        UnsupportedError: the flow has no compiled loops, or the extra ``fast`` is missing.
        ValueError: the numbers of starts and parameters differ, or time is discrete.
    """
    if compiled.discrete:
        raise ValueError("a population map is iterated, not integrated")
    starts = np.atleast_2d(np.asarray(starts, float))
    given = [parameters] if isinstance(parameters, Mapping) else list(parameters)
    count = max(len(starts), len(given))
    if {len(starts), len(given)} - {1, count}:
        raise ValueError(f"{len(starts)} starts do not pair up with {len(given)} parameters")
    settings = [time, rtol, atol, 1e-3 * min(time, 1.0), most_steps, bound]
    solve = compiled.solver(inspect.getsource(dormand_prince), len(settings))
    rows = [
        solve(y, settings, p)
        for y, p in zip(
            starts if len(starts) == count else np.broadcast_to(starts, (count, starts.shape[1])),
            given if len(given) == count else given * count,
            strict=True,
        )
    ]
    out = np.array(rows)
    return Bundle(out[:, :-3], out[:, -3], out[:, -2].astype(int), out[:, -1].astype(int))
