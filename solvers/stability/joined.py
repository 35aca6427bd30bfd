"""States in which some learner units are equal: J_k = J_l and w_k = w_l."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory.overlaps import Layout

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def coinciding(layout: Layout, y: Array, near: float) -> Indices:
    """For each learner unit, the first unit that it coincides with (K,).

    Units coincide when |J_k − J_l|² is below the share ``near`` of |J_k|² + |J_l|².
    """
    Q, _, w = layout.unpack(y)
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


def joined(layout: Layout, first: Indices, free: Indices) -> Array:
    """Orthonormal basis, in the coordinates ``free``, of the states with unit k = ``first[k]``."""
    label = np.arange(1.0, layout.size + 1)
    Q, R, w = layout.unpack(label)
    Q = Q[..., first, :][..., :, first]
    label = layout.pack(Q, R[..., first, :], w[first])[free]
    columns = [(label == value).astype(float) for value in np.unique(label)]
    return np.array([c / np.linalg.norm(c) for c in columns]).T
