"""Fixed points at which learner units coincide: made exact, and whether the units would part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.stability.joined import coinciding, joined
from solvers.stability.newton import find_root
from solvers.stability.steady import Steady

Array = NDArray[np.float64]

NEAR = 1e-5
"""Units with |J_k − J_l|² below this share of |J_k|² + |J_l|² may coincide."""
NEUTRAL = 1e-6
"""Growth rates below this share of the largest entry of the Jacobian are none."""


def settle(steady: Steady, x: Array, value: float, tolerance: float) -> Array:
    """The zero x of the flow, with units that coincide to 1e-5 made equal if that is a zero too.

    Where the flow neither joins nor parts such units the zero is degenerate, and Newton's method
    ends within the square root of rounding only; among states with equal units it is regular.
    """
    layout, problem = steady.experiment.layout, steady.problem
    first = coinciding(layout, steady.state(x, value), NEAR)
    if len(np.unique(first)) == len(first):
        return x
    basis, rate = joined(layout, first, steady.free), problem.rate(value)
    root = find_root(
        lambda z: basis.T @ (problem.residual(basis @ z, value) / rate),
        lambda z: basis.T @ (problem.jacobian(basis @ z, value).T / rate).T @ basis,
        basis.T @ x,
        tolerance=tolerance,
    )
    found = basis @ root.x
    residual = np.abs(problem.residual(found, value)).max()
    close = np.abs(found - x).max() < 1e-2 * (1 + np.abs(x).max())
    return found if root.converged and residual <= tolerance and close else x


def splitting_rate(steady: Steady, x: Array, value: float) -> float:
    """The largest growth rate of |J_k − J_l|²/N among learner units k, l that coincide at x.

    D = Q_kk + Q_ll − 2Q_kl is a left eigenvector of the Jacobian where J_k = J_l. Minus infinity if
    no two units of finite norm coincide, 0 if D is conserved.
    """
    layout = steady.experiment.layout
    first = coinciding(layout, steady.state(x, value), 1e-9)
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
