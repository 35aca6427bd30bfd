"""Continuous families of fixed points: their dimension, their spectra, and a member of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.stability.newton import find_root
from solvers.stability.problem import Problem, Spectrum
from theory.overlaps import PHYSICAL_TOLERANCE

Array = NDArray[np.float64]

NULL = 1e-7
"""Eigenvalues and singular values below this share of the largest are zero in a family."""
STEP = 3e-2
"""Length of the steps along a family, relative to 1 + max|x|."""
SAME = 3e-5
"""Eigenvalues closer than this share of the largest are the same."""
MOVES = 40
"""Steps along a family towards the member that is wanted."""


class Family(NamedTuple):
    """The manifold of fixed points through one of them.

    ``dimension`` is 0 for an isolated point. ``varies`` tells whether the spectrum differs between
    members: it does not where a symmetry of the flow, such as a rotation of linear units, makes the
    family, and then stability and special points are those of all members.
    """

    dimension: int = 0
    varies: bool = False


ISOLATED = Family()


def family_at(problem: Problem, x: Array, value: float, jacobian: Array) -> Family:
    """The family of the fixed point x.

    Its tangent space consists of the null directions of the Jacobian along which a step can be
    corrected back onto a fixed point without returning to x.
    """
    null, scale = _null_space(jacobian)
    if scale == 0:
        return Family(len(x))
    if not null.shape[1]:
        return Family()
    spectrum = np.linalg.eigvals(jacobian).astype(complex)
    length, moves, varies = STEP * (1 + float(np.abs(x).max())), np.zeros((null.shape[1],) * 2), []
    for i, direction in enumerate(null.T):
        root = _corrected(problem, x + length * direction, value, scale)
        if root is not None:
            moves[i] = (root - x) @ null / length
            found = np.linalg.eigvals(problem.jacobian(root, value)).astype(complex)
            varies.append(moves[i, i] > 0.5 and _differ(spectrum, found))
    dimension = int((np.linalg.svd(moves, compute_uv=False) > 0.5).sum())
    return Family(dimension, dimension > 0 and any(varies))


def neutral_modes(eigenvalues: Spectrum) -> int:
    """How many modes are neutral: those of a family, and those that decay algebraically."""
    sizes = np.abs(eigenvalues)
    return int((sizes < NULL * sizes.max(initial=0.0)).sum())


def has_null_directions(problem: Problem, x: Array, value: float) -> bool:
    """Whether the Jacobian at x is singular."""
    return _null_space(problem.jacobian(x, value))[0].shape[1] > 0


def nearest_member(problem: Problem, x: Array, value: float, target: Array) -> Array:
    """The member of the family of x that is nearest to ``target``, reached along the family."""
    share = 1.0
    for _ in range(MOVES):
        null, scale = _null_space(problem.jacobian(x, value))
        towards = null @ (null.T @ (target - x))
        size, longest = np.abs(towards).max(initial=0.0), 0.2 * (1 + np.abs(x).max())
        if size < 1e-9 or scale == 0 or share < 1e-2:
            break
        y = _corrected(problem, x + share * min(1.0, longest / size) * towards, value, scale)
        nearer = y is not None and np.linalg.norm(y - target) < np.linalg.norm(x - target)
        if y is None or not nearer or problem.margin(y, value) < -PHYSICAL_TOLERANCE:
            share /= 2
        else:
            x = y
    return x


def _null_space(jacobian: Array) -> tuple[Array, float]:
    """Orthonormal basis (n, d) of the null directions, and the largest singular value."""
    _, singular, rows = np.linalg.svd(jacobian)
    scale = float(singular.max(initial=0.0))
    return rows[singular < NULL * scale].T, scale


def _corrected(problem: Problem, x: Array, value: float, scale: float) -> Array | None:
    root = find_root(
        lambda x: problem.residual(x, value) / scale,
        lambda x: problem.jacobian(x, value) / scale,
        x,
    )
    return root.x if root.converged else None


def _differ(one: Spectrum, other: Spectrum) -> bool:
    distance = np.abs(one[:, None] - other)
    return bool(max(distance.min(0).max(), distance.min(1).max()) > SAME * np.abs(one).max())
