"""Where the search for fixed points starts: ansätze, finite-N draws, slow points of paths."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from solvers.results import Status
from solvers.stability.problem import Problem
from solvers.stability.steady import Steady
from solvers.states import DIVERGENCE
from solvers.trajectories.paths import Path, iterate, solve

Array = NDArray[np.float64]

ANSATZE = 80
"""Alignment patterns that are tried, at most."""
POINTS, STEPS, ORBIT = 400, 2000, 20_000
"""Points of a trajectory that are looked at, steps of an integrator and of a map, at most."""


def structured(
    steady: Steady, value: float, rng: np.random.Generator, few: bool = False
) -> Iterator[Array]:
    """States whose learner units are aligned with nothing, one, a pair or all teacher units.

    J = A B + orthogonal part, with the rows of A from these patterns: all combinations while there
    are few, a sample of them for larger K and M, only the most likely ones if ``few``.
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
    choices = list(dict.fromkeys(first if few else [*first, *rest]))
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
        if path.status is Status.interrupted:
            raise KeyboardInterrupt
        if path.status is Status.diverged:
            diverged += 1
            continue
        times = path.mesh[:: 1 + len(path.mesh) // POINTS]
        states = path.at(times)
        speed = np.abs(np.diff(states, axis=0)).max(1) / np.diff(times)
        inner = (speed[1:-1] <= speed[:-2]) & (speed[1:-1] < speed[2:])
        found += [*states[1 + np.flatnonzero(inner)], states[-1]]
    return found, diverged


def _trajectory(problem: Problem, start: Array, value: float, time: float) -> Path:
    def rate(x: Array) -> Array:
        return problem.residual(x, value)

    def jacobian(x: Array) -> Array:
        return problem.jacobian(x, value)

    def bounded(x: Array) -> bool:
        return bool(np.abs(x).max(initial=0.0) < DIVERGENCE)

    if problem.discrete:
        return iterate(rate, start, int(min(time, ORBIT)), bounded)
    return solve(rate, jacobian, start, time, bounded, rtol=1e-6, atol=1e-12, most=STEPS)


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
