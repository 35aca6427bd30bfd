"""Where the search for fixed points starts: ansätze, finite-N draws, slow points of paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from solvers.problem import Problem
from solvers.steady import Steady

Array = NDArray[np.float64]

ANSATZE = 80
"""Alignment patterns that are tried, at most."""


def structured(steady: Steady, value: float, rng: np.random.Generator) -> Iterator[Array]:
    """States whose learner units are aligned with nothing, one, a pair or all teacher units.

    J = A B + orthogonal part, with the rows of A from these patterns: all combinations while there
    are few, a sample of them for larger K and M.
    """
    layout = steady.experiment.layout
    K, M = layout.hidden, layout.teacher_hidden
    rows = _patterns(M)
    first = [tuple(1 + np.arange(K) % M), (0,) * K, (M + 1,) * K]
    first += [
        (*range(1, r + 1), *[rest] * (K - r)) for r in range(1, min(K, M)) for rest in (0, M + 1, r)
    ]
    count = 1.0
    for i in range(K):
        count *= (len(rows) + i) / (i + 1)
    if count <= ANSATZE:
        rest = list(combinations_with_replacement(range(len(rows)), K))
    else:
        rest = [tuple(sorted(rng.integers(len(rows), size=K))) for _ in range(ANSATZE - len(first))]
    scales = ((1.0, 1e-3), (0.6, 0.05), (1.5, 2.0))
    choices = list(dict.fromkeys([*first, *rest]))
    for number, choice in enumerate(choices):
        A = rows[list(choice)]
        for scale, orthogonal in scales if number < len(first) else (scales[number % 3],):
            yield _state(steady, value, scale * A, orthogonal * np.eye(K), rng)


def drawn(steady: Steady, value: float, rng: np.random.Generator, count: int) -> Iterator[Array]:
    """States of networks of finite dimension, at norms from 0.1 to 4."""
    layout = steady.experiment.layout
    K, M = layout.hidden, layout.teacher_hidden
    for norm in np.geomspace(0.1, 4.0, count):
        dimension = int(rng.choice([4, 20, 100])) + K + M
        J = norm * rng.standard_normal((K, dimension)) / np.sqrt(dimension)
        A, perpendicular = J[:, :M] * np.sqrt(dimension / (M + K)), J[:, M:]
        yield _state(steady, value, A, perpendicular @ perpendicular.T, rng)


def slow_points(
    problem: Problem, starts: list[Array], value: float, time: float
) -> tuple[list[Array], int]:
    """The slowest points of the trajectories from ``starts``, and how many of these diverge."""
    found, diverged = [], 0
    for start in starts:
        path = _trajectory(problem, start, value, time)
        if not np.isfinite(path[-1]).all() or np.abs(path[-1]).max(initial=0.0) > 1e5:
            diverged += 1
            continue
        speed = np.array([np.abs(problem.residual(x, value)).max(initial=0.0) for x in path])
        inner = (speed[1:-1] <= speed[:-2]) & (speed[1:-1] < speed[2:])
        found += [path[i + 1] for i in np.flatnonzero(inner)] + [path[-1]]
    return found, diverged


def _trajectory(problem: Problem, start: Array, value: float, time: float) -> Array:
    def rhs(_: float, x: Array) -> Array:
        return problem.residual(x, value)

    if problem.discrete:
        path = [start]
        for _ in range(int(min(time, 20_000))):
            path.append(path[-1] + rhs(0.0, path[-1]))
            if not np.abs(path[-1]).max(initial=0.0) < 1e6:
                break
        return np.array(path)[:: max(1, len(path) // 400)]

    leaving: Callable[[float, Array], float] = lambda _, x: 1e6 - float(np.abs(x).max())  # noqa: E731
    leaving.terminal = True  # type: ignore[attr-defined]
    times = np.concatenate([[0.0], np.geomspace(time * 1e-4, time, 300)])
    ended = solve_ivp(
        rhs,
        (0.0, time),
        start,
        method="DOP853",
        t_eval=times,
        rtol=1e-7,
        atol=1e-12,
        events=leaving,
    )
    path = ended.y.T if ended.y.size else start[None]
    return np.concatenate([path, ended.y_events[0]]) if ended.status == 1 else path


def _patterns(M: int) -> Array:
    """Rows of A: 0, each teacher unit, all of them, their negatives, differences of two."""
    eye = np.eye(M)
    rows = [np.zeros(M), *eye, np.ones(M) / M, *(-eye), -np.ones(M) / M]
    rows += [(eye[i] - eye[j]) / 2 for i in range(M) for j in range(i)]
    return np.array(rows)


def _state(
    steady: Steady, value: float, A: Array, orthogonal: Array, rng: np.random.Generator
) -> Array:
    """Coordinates of the state with J = A B + a part orthogonal to B, R = A T, Q = A T Aᵀ + it."""
    layout, p = steady.experiment.layout, steady.parameters(value)
    K, M = layout.hidden, layout.teacher_hidden
    T, fraction = np.reshape(p["T"], (-1, M, M)), np.atleast_1d(p["fraction"])
    R, Q = A @ T, A @ T @ A.T + fraction[:, None, None] * orthogonal
    if layout.blocks is None:
        Q, R = Q[0], R[0]
    w = steady.state(np.zeros(len(steady.free)), value)[-K:]
    if len(steady.free) == layout.size:
        start = layout.unpack(steady.experiment.initial_state())[2]
        mean = np.asarray(p["head_mean"])
        guesses = (start, np.resize(mean, K), np.zeros(K), rng.standard_normal(K))
        w = guesses[rng.integers(len(guesses))]
    return layout.pack(Q, R, w)[steady.free]
