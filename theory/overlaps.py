"""The order parameters (Q, R, w) as one vector, and what makes them physical."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where each order parameter stands in the state vector.

    y = [Q of each block, lower triangle row by row, once per pair | R of each block, row by row |
    w], of length L(K(K+1)/2 + KM) + K. ``blocks`` is L for structured inputs, else None.
    """

    hidden: int
    teacher_hidden: int
    blocks: int | None = None

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows k and columns l ≤ k of the stored entries of Q."""
        return np.tril_indices(self.hidden)

    @cached_property
    def _square(self) -> NDArray[np.intp]:
        """Where the entries of Q, (K, K) or (L, K, K), stand in y."""
        rows, columns = self.pairs
        square = np.empty((self.hidden, self.hidden), int)
        square[rows, columns] = square[columns, rows] = np.arange(len(rows))
        if self.blocks is None:
            return square
        return square + len(rows) * np.arange(self.blocks)[:, None, None]

    @cached_property
    def _cross(self) -> tuple[int, int]:
        """Where R begins and ends in y."""
        k, m, n = self.hidden, self.teacher_hidden, self.blocks or 1
        return n * k * (k + 1) // 2, n * k * (k + 1) // 2 + n * k * m

    @property
    def size(self) -> int:
        """Length of y."""
        return self._cross[1] + self.hidden

    def pack(self, Q: ArrayLike, R: ArrayLike, w: ArrayLike) -> Array:
        """y from Q (…, K, K), R (…, K, M), w (…, K); structured inputs: Q and R (…, L, K, ·)."""
        Q, R, w = (np.asarray(x, float) for x in (Q, R, w))
        lead = w.shape[:-1]
        rows, columns = self.pairs
        parts = (Q[..., rows, columns].reshape(*lead, -1), R.reshape(*lead, -1), w)
        return np.concatenate(parts, axis=-1)

    def unpack(self, y: ArrayLike) -> tuple[Array, Array, Array]:
        """Q, R, w from y (…, size): the inverse of ``pack``."""
        y = np.asarray(y, float)
        first, last = self._cross
        R = y[..., first:last].reshape(*y.shape[:-1], *self._square.shape[:-1], -1)
        return y.take(self._square, -1), R, y[..., last:]


def field_covariance(Q: ArrayLike, R: ArrayLike, T: ArrayLike) -> Array:
    """C = [[Q, R], [Rᵀ, T]], the covariance (…, K+M, K+M) of the local fields (h, b)."""
    Q, R, T = (np.asarray(x, float) for x in (Q, R, T))
    K, M = R.shape[-2:]
    C = np.empty((*R.shape[:-2], K + M, K + M))
    C[..., :K, :K], C[..., :K, K:] = Q, R
    C[..., K:, :K], C[..., K:, K:] = R.swapaxes(-1, -2), T
    return C


PHYSICAL_TOLERANCE = 1e-8
"""The smallest eigenvalue of C may fall below zero by this share of Tr C."""


def margin(Q: ArrayLike, R: ArrayLike, T: ArrayLike) -> float:
    """The smallest eigenvalue of C over Tr C, of any block and in any of the states.

    All blocks' trace: a block whose overlaps vanish keeps the rounding of the others. Minus
    infinity where an entry is not finite.
    """
    C = field_covariance(Q, R, T)
    if not np.isfinite(C).all():
        return -np.inf
    return float((np.linalg.eigvalsh(C)[..., 0] / _size(C, T)).min())


def _size(C: Array, T: ArrayLike) -> Array:
    scale = np.trace(C, axis1=-2, axis2=-1)
    return scale.sum(-1, keepdims=True) if np.ndim(T) == 3 else scale


def is_physical(Q: ArrayLike, R: ArrayLike, T: ArrayLike) -> bool:
    """Whether every (block's) C is positive semidefinite to within 1e-8 · Tr C."""
    C = field_covariance(Q, R, T)
    if not np.isfinite(C).all():
        return False
    diagonal = np.einsum("...cc->...c", C)  # a view
    diagonal += PHYSICAL_TOLERANCE * _size(C, T)[..., None]
    try:
        np.linalg.cholesky(C)  # several times faster than the eigenvalues
    except np.linalg.LinAlgError:
        return margin(Q, R, T) >= -PHYSICAL_TOLERANCE
    return True
