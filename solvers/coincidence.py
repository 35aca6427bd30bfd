"""Learner units that coincide: J_k = J_l and w_k = w_l stay equal for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.newton import find_root
from solvers.steady import Steady

Array = NDArray[np.float64]

NEAR = 1e-5
"""Units with |J_k − J_l|² below this share of |J_k|² + |J_l|² may coincide."""
NEUTRAL = 1e-6
"""Growth rates below this share of the largest entry of the Jacobian are none."""


def coinciding(steady: Steady, x: Array, value: float, near: float = NEAR) -> Array:
    """For each learner unit, the first unit that it coincides with (K,)."""
    layout = steady.experiment.layout
    Q, _, w = layout.unpack(steady.state(x, value))
    total = Q.reshape(-1, *Q.shape[-2:]).sum(0)
    norms = np.diag(total)
    first = np.arange(layout.hidden)
    for k in range(layout.hidden):
        for other in range(k):
            scale = norms[k] + norms[other]
            apart = scale - 2 * total[k, other]
            if scale > 1e-8 and apart < near * scale and abs(w[k] - w[other]) < near:
                first[k] = first[other]
                break
    return first


def settle(steady: Steady, x: Array, value: float, tolerance: float) -> Array:
    """The zero x of the flow, with units that coincide to 1e-5 made equal if that is a zero too.

    Where the flow neither joins nor parts such units the zero is degenerate, and Newton's method
    ends within the square root of rounding only; among states with equal units it is regular.
    """
    first = coinciding(steady, x, value)
    if len(np.unique(first)) == len(first):
        return x
    basis = _joined(steady, first)
    problem = steady.problem
    scale = max(float(np.abs(problem.jacobian(x, value)).max()), 1e-300)
    root = find_root(
        lambda z: basis.T @ problem.residual(basis @ z, value) / scale,
        lambda z: basis.T @ problem.jacobian(basis @ z, value) @ basis / scale,
        basis.T @ x,
        tolerance=tolerance,
    )
    joined = basis @ root.x
    residual = np.abs(problem.residual(joined, value)).max()
    close = np.abs(joined - x).max() < 1e-2 * (1 + np.abs(x).max())
    return joined if root.converged and residual <= tolerance and close else x


def splitting_rate(steady: Steady, x: Array, value: float) -> float:
    """The largest growth rate of |J_k − J_l|²/N among learner units k, l that coincide at x.

    D = Q_kk + Q_ll − 2Q_kl is a left eigenvector of the Jacobian where J_k = J_l. Minus infinity if
    no two units of finite norm coincide, 0 if D is conserved.
    """
    layout = steady.experiment.layout
    first = coinciding(steady, x, value, near=1e-9)
    J = steady.problem.jacobian(x, value)
    shape = ((layout.blocks,) if layout.blocks else ()) + (layout.hidden, layout.hidden)
    largest = -np.inf
    for k, other in enumerate(first):
        if k == other:
            continue
        D = np.zeros(shape)
        D[..., k, k] = D[..., other, other] = 1.0
        D[..., k, other] = D[..., other, k] = -2.0
        empty = np.zeros((*shape[:-1], layout.teacher_hidden))
        row = layout.pack(D, empty, np.zeros(layout.hidden))[steady.free]
        rate = float(row @ J @ row / (row @ row))
        largest = max(largest, rate if abs(rate) > NEUTRAL * float(np.abs(J).max()) else 0.0)
    return largest


def _joined(steady: Steady, first: Array) -> Array:
    """Orthonormal basis of the states in which unit k equals unit ``first[k]``."""
    layout = steady.experiment.layout
    label = np.arange(1.0, layout.size + 1)
    Q, R, w = layout.unpack(label)
    Q = Q[..., first, :][..., :, first]
    label = layout.pack(Q, R[..., first, :], w[first])[steady.free]
    columns = [(label == value).astype(float) for value in np.unique(label)]
    return np.array([c / np.linalg.norm(c) for c in columns]).T
