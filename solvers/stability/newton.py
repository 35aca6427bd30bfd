"""Zeros of a vector field: damped Newton steps with a Levenberg-Marquardt shift, and deflation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.errors import DomainError

Array = NDArray[np.float64]

SINGULAR = 1e-9
"""Singular values below this share of the largest are a null space in the final Newton steps."""
PATIENCE = 15
"""Steps within which |F| must halve."""


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
    steps: int = 60,
    radius: float = 1e4,
) -> Root:
    """A zero of F from ``start``, away from the ``known`` ones.

    Steps solve (JᵀJ + μ) δ = −JᵀF with μ ∝ |F|, which keeps quadratic convergence at a manifold of
    zeros; known zeros a are deflated, F → F · Π(1 + 1/|x − a|²), which rescales the step only
    (Farrell, Birkisson & Funke 2015). Near a zero, Newton steps of minimal norm until rounding.
    A residual that is not finite (outside the domain of F) rejects the step. Gives up beyond
    ``radius``, and where F has no Jacobian.
    """
    x = np.array(start, float)
    F = residual(x)
    if not np.isfinite(F).all():
        return Root(x, np.inf, False, 0)
    try:
        if len(known):
            return _deflated(residual, jacobian, x, known, tolerance, steps)
        return _damped(residual, jacobian, x, F, tolerance, steps, radius)
    except (DomainError, ArithmeticError, np.linalg.LinAlgError):
        return Root(x, np.inf, False, 0)


def _damped(
    residual: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    x: Array,
    F: Array,
    tolerance: float,
    steps: int,
    radius: float,
) -> Root:
    """Steps that are as short as they must be for |F| to fall."""
    shift, count, best = 1.0, 0, [float(np.linalg.norm(F))]
    while np.abs(F).max(initial=0.0) > 1e-7 and count < steps:
        count += 1
        trial = x + _shifted_step(jacobian(x), F, shift * best[-1])
        G = residual(trial)
        size = float(np.linalg.norm(G))
        if size < best[-1]:
            x, F, shift = trial, G, max(shift / 5, 1e-12)
        else:
            shift *= 6
        best.append(min(best[-1], size) if np.isfinite(size) else best[-1])
        stalled = count > PATIENCE and best[-1] > 0.5 * best[-PATIENCE]
        if stalled or np.abs(x).max(initial=0.0) > radius:
            break
    return _polish(residual, jacobian, x, F, tolerance, count)


def _deflated(
    residual: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    x: Array,
    known: Sequence[Array],
    tolerance: float,
    steps: int,
) -> Root:
    """Full Newton steps on the deflated system, which must not be damped to pass known zeros."""
    F, count = residual(x), 0
    while np.abs(F).max(initial=0.0) > 1e-6 and count < steps:
        count += 1
        step = _shortest(jacobian(x), F)
        step = step * _deflation_factor(x, step, known)
        longest = 1 + float(np.abs(x).max(initial=0.0))
        x = x + step * min(1.0, longest / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        F = residual(x)
        if not np.isfinite(F).all():
            return Root(x, np.inf, False, count)
    return _polish(residual, jacobian, x, F, tolerance, count)


def _shifted_step(J: Array, F: Array, mu: float) -> Array:
    normal = J.T @ J
    normal[np.diag_indices_from(normal)] += mu * max(1e-12, float(normal.trace()) / len(F))
    try:
        return -np.linalg.solve(normal, J.T @ F).astype(float, copy=False)
    except np.linalg.LinAlgError:
        return _shortest(J, F)


def _shortest(J: Array, F: Array) -> Array:
    """The shortest of the steps δ that minimise |Jδ + F|."""
    if not np.isfinite(J).all():  # LAPACK would complain on the standard output
        raise np.linalg.LinAlgError("the Jacobian is not finite")
    return -np.linalg.lstsq(J, F, rcond=SINGULAR)[0].astype(float, copy=False)


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
        trial = x + _shortest(jacobian(x), F)
        G = residual(trial)
        new = float(np.abs(G).max(initial=0.0))
        if not new < 0.9 * size:
            break
        x, F, size, count = trial, G, new, count + 1
    return Root(x, size, size <= tolerance, count)


def _deflation_factor(x: Array, step: Array, known: Sequence[Array]) -> float:
    """1/(1 − δ·∇ln m), m = Π(1 + 1/|x − a|²): the deflated Newton step is this times δ."""
    slope = 0.0
    for a in known:
        away = x - a
        square = max(float(away @ away), 1e-300)
        slope -= 2 * float(away @ step) / (square * (square + 1))
    factor = 1 / (1 - slope) if abs(1 - slope) > 1e-3 else 1e3
    return float(np.sign(factor) * min(abs(factor), 1e3))
