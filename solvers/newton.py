"""Zeros of a vector field: damped Newton steps with a Levenberg-Marquardt shift, and deflation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SINGULAR = 1e-9
"""Singular values below this share of the largest are a null space in the final Newton steps."""


@dataclass(frozen=True)
class Root:
    """Where the iteration ended: x (n,), max|F|, and whether that is a zero."""

    x: Array
    residual: float
    converged: bool
    steps: int


def find_root(
    residual: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    start: Array,
    *,
    known: Sequence[Array] = (),
    tolerance: float = 1e-11,
    steps: int = 80,
    radius: float = 1e4,
) -> Root:
    """A zero of F from ``start``, away from the ``known`` ones.

    Steps solve (JᵀJ + μ) δ = −JᵀF with μ ∝ |F|, which keeps quadratic convergence at a manifold of
    zeros; known zeros a are deflated, F → F · Π(1 + 1/|x − a|²), which rescales the step only
    (Farrell, Birkisson & Funke 2015). Near a zero, Newton steps of minimal norm until rounding.
    A residual that is not finite (outside the domain of F) rejects the step. Gives up beyond
    ``radius``.
    """
    x = np.array(start, float)
    F = residual(x)
    shift, count = 1.0, 0
    if not np.isfinite(F).all():
        return Root(x, np.inf, False, 0)
    while np.abs(F).max(initial=0.0) > 1e-7 and count < steps:
        count += 1
        J = jacobian(x)
        size = float(np.linalg.norm(F))
        step = _shifted_step(J, F, shift * size)
        step = step * _deflation_factor(x, step, known)
        trial = x + step
        G = residual(trial)
        merit = _merit(trial, G, known)
        if np.isfinite(merit) and merit < _merit(x, F, known):
            x, F, shift = trial, G, max(shift / 5, 1e-12)
        else:
            shift *= 6
        if shift > 1e12 or np.abs(x).max(initial=0.0) > radius:
            break
    return _polish(residual, jacobian, x, F, tolerance, count)


def _shifted_step(J: Array, F: Array, mu: float) -> Array:
    normal = J.T @ J
    normal[np.diag_indices_from(normal)] += mu * max(1e-12, float(normal.trace()) / len(F))
    try:
        return -np.linalg.solve(normal, J.T @ F)
    except np.linalg.LinAlgError:
        return -np.linalg.lstsq(J, F, rcond=SINGULAR)[0]


def _polish(
    residual: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    x: Array,
    F: Array,
    tolerance: float,
    count: int,
) -> Root:
    size = float(np.abs(F).max(initial=0.0))
    while 0 < size <= 1e-5 and count < 200:
        trial = x - np.linalg.lstsq(jacobian(x), F, rcond=SINGULAR)[0]
        G = residual(trial)
        new = float(np.abs(G).max(initial=0.0))
        if not new < 0.9 * size:
            break
        x, F, size, count = trial, G, new, count + 1
    return Root(x, size, size <= tolerance, count)


def _merit(x: Array, F: Array, known: Sequence[Array]) -> float:
    size = float(np.linalg.norm(F))
    for a in known:
        size *= 1 + 1 / max(float(np.sum((x - a) ** 2)), 1e-300)
    return size


def _deflation_factor(x: Array, step: Array, known: Sequence[Array]) -> float:
    """1/(1 − δ·∇ln m), m = Π(1 + 1/|x − a|²): the deflated Newton step is this times δ."""
    slope = 0.0
    for a in known:
        away = x - a
        square = max(float(away @ away), 1e-300)
        slope -= 2 * float(away @ step) / (square * (square + 1))
    factor = 1 / (1 - slope) if abs(1 - slope) > 1e-3 else 1e3
    return float(np.sign(factor) * min(abs(factor), 1e3))
