"""Pseudo-arclength steps along a curve G(X) = 0 of n equations in n + 1 unknowns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]

EASY = 6
"""A corrector that needs no more steps than this lets the next step be longer."""
SLOW = 0.1
"""A step that reduces G by less than this calls for a new Jacobian."""
TOLERANCE = 1e-11
"""Largest entry of G at a point of the curve."""


@dataclass(frozen=True)
class Curve:
    """G: X (n+1,) → (n,), its derivative (n, n) by the first n unknowns and (n,) by the last."""

    residual: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    slope: Callable[[Array], Array]

    def correct(
        self,
        guess: Array,
        tangent: Array,
        slope: Array | None = None,
        steps: int = 20,
        *,
        exact: bool = False,
    ) -> tuple[Array, int] | None:
        """The point of the curve in the hyperplane through ``guess`` normal to ``tangent``.

        Newton's method on the bordered system; the Jacobian is renewed only where convergence is
        slow, and the last column is ``slope`` (by default that at the guess). None if it does not
        converge. Beside the point stands the number of steps that were needed. ``exact`` goes on to
        rounding, for points where G is almost singular.
        """
        X, size = guess.copy(), np.inf
        F, slope = self.residual(X), self.slope(X) if slope is None else slope
        matrix = None
        for count in range(steps):
            if not (np.isfinite(F).all() and np.isfinite(slope).all()):
                return None
            if matrix is None:
                matrix = _bordered(self.jacobian(X), slope, tangent)
            step = _solved(matrix, np.append(F, tangent @ (X - guess)))
            if step is None:
                return None
            X = X - step
            F = self.residual(X)
            last, size = size, float(np.abs(F).max(initial=0.0))
            small = np.abs(step).max(initial=0.0) < 1e-6 * (1 + np.abs(X).max())
            if size <= TOLERANCE and (small or size == 0):
                X = self._to_rounding(X, F, matrix, guess, tangent) if exact else X
                return X, count + 1
            if count > 4 and not size < 2 * last:
                return None
            if not size < SLOW * last:
                matrix = None
        return None

    def _to_rounding(
        self, X: Array, F: Array, matrix: Array, guess: Array, tangent: Array
    ) -> Array:
        size = float(np.abs(F).max(initial=0.0))
        while size > 0:
            step = _solved(matrix, np.append(F, tangent @ (X - guess)))
            if step is None:
                break
            trial = X - step
            F = self.residual(trial)
            new = float(np.abs(F).max(initial=0.0))
            if not new < 0.5 * size:
                break
            X, size = trial, new
        return X

    def tangent(self, X: Array, along: Array, slope: Array) -> Array | None:
        """The unit tangent at X that points ``along`` (a vector not normal to the curve)."""
        right = np.zeros(len(X))
        right[-1] = 1.0
        t = _solved(_bordered(self.jacobian(X), slope, along), right)
        return None if t is None else t / np.linalg.norm(t)


def _bordered(J: Array, slope: Array, row: Array) -> Array:
    matrix = np.empty((len(row), len(row)))
    matrix[:-1, :-1], matrix[:-1, -1], matrix[-1] = J, slope, row
    return matrix


def _solved(matrix: Array, right: Array) -> Array | None:
    if not np.isfinite(matrix).all():
        return None
    # LAPACK's solver itself: around systems this small, checks cost ten times more
    _, _, solution, failed = scipy.linalg.lapack.dgesv(matrix, right)
    return solution if failed == 0 and np.isfinite(solution).all() else None


@dataclass(frozen=True)
class Steps:
    """Length of the steps along a curve, relative to 1 + max|X|, and how many there may be."""

    first: float = 1e-2
    smallest: float = 1e-8
    largest: float = 5e-2
    count: int = 2000


@dataclass(frozen=True)
class Node:
    """A point of a curve, its unit tangent, the arclength of the step that led to it, and ∂G/∂λ."""

    X: Array
    tangent: Array
    step: float
    slope: Array | None = None


def walk(curve: Curve, start: Node, steps: Steps) -> Iterator[Node]:
    """The nodes that follow ``start``; ends when a step of the smallest length fails.

    A step is halved when the corrector fails or the tangent turns by more than 20 degrees, and
    lengthened while the corrector converges fast.
    """
    node, length = start, steps.first
    for _ in range(steps.count):
        while (reached := _straight(curve, node, length)) is None:
            length /= 2
            if length < steps.smallest:
                return
        node, effort = reached
        yield node
        if effort <= EASY:
            length = min(length * 1.4, steps.largest * (1 + float(np.abs(node.X).max())))


def _straight(curve: Curve, node: Node, length: float) -> tuple[Node, int] | None:
    """A step after which the tangent has turned by less than 20 degrees.

    The column ∂G/∂λ of the last node serves at first; it changes sign where branches cross.
    """
    for renewed in (False, True):
        reached = advance(curve, node, length, renewed=renewed)
        if reached is not None and reached[0].tangent @ node.tangent > 0.94:
            return reached
    return None


def advance(
    curve: Curve, node: Node, length: float, *, exact: bool = False, renewed: bool = False
) -> tuple[Node, int] | None:
    """The node at distance ``length`` along the tangent, and the corrector's effort."""
    guess = node.X + length * node.tangent
    slope = None if exact or renewed else node.slope
    corrected = curve.correct(guess, node.tangent, slope, exact=exact)
    if corrected is None:
        return None
    return node_at(curve, corrected[0], node.tangent, length, corrected[1])


def node_at(
    curve: Curve, X: Array, along: Array, step: float, effort: int = 0
) -> tuple[Node, int] | None:
    """The node at a point X of the curve, its tangent ``along`` a given direction."""
    slope = curve.slope(X)
    tangent = curve.tangent(X, along, slope)
    return None if tangent is None else (Node(X, tangent, step, slope), effort)
