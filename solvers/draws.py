"""Random starts as they are at a finite input dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def block_sizes(fraction: Array, dimension: int) -> list[int]:
    """How many of the N coordinates belong to each block: f_b N, rounded so that they sum to N."""
    edges = np.rint(np.cumsum(fraction) * dimension).astype(int)
    return np.diff(edges, prepend=0).tolist()


def random_overlaps(
    hidden: int, T: Array, sizes: list[int], norm: float, seed: int
) -> tuple[Array, Array]:
    """Q (L, K, K) and R (L, K, M) of learner vectors with J_ki iid N(0, norm²).

    Q = JJᵀ/N and R = JBᵀ/N per block, N the sum of the block sizes. The teacher's rows are
    B = √N · √T on the first M coordinates of a block: BBᵀ/N = T exactly, and the distribution of
    (Q, R) is that of any teacher with this overlap, because that of J is isotropic.
    """
    rng, N, M = np.random.default_rng(seed), sum(sizes), T.shape[-1]
    values, vectors = np.linalg.eigh(T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :] @ vectors.swapaxes(-1, -2)
    Q, R = np.empty((len(sizes), hidden, hidden)), np.empty((len(sizes), hidden, M))
    for block, size in enumerate(sizes):
        J = norm * rng.standard_normal((hidden, size))
        Q[block] = J @ J.T / N
        R[block] = J[:, :M] @ root[block] / np.sqrt(N)
    return Q, R
