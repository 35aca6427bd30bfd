"""Many trajectories of one flow in one call: Adams' method in compiled loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvers.trajectories.adams import (
    COLUMNS,
    NUMBERS,
    REJECTED,
    SETTINGS,
    STEPS,
    TIME,
    adams,
    text,
)
from solvers.trajectories.steps import settings_of

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
    n, solve = compiled.layout.size, compiled.solver(adams.__name__, text(), SETTINGS)
    out = np.zeros((count, COLUMNS * n + NUMBERS))
    for i in range(count):
        y, p = starts[i % len(starts)], given[i % len(given)]
        limits = most_steps, bound, n, 0
        solve(y, settings_of(compiled.rhs(y, p), y, time, rtol, atol, limits), p, out[i])
    numbers = out[:, COLUMNS * n :]
    steps, rejected = numbers[:, [STEPS, REJECTED]].astype(int).T
    return Bundle(out[:, :n], numbers[:, TIME], steps, rejected)
