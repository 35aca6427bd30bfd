"""Where tasks come from: the distribution of the teacher's head, and its moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TaskDistribution:
    """Head u ~ N(head_mean, head_covariance), or uniform on the rows of ``heads`` (n, M).

    Labels carry noise of standard deviation ``label_noise``; every task's representation is
    B + representation_spread · Z with Z fresh standard normal.
    """

    head_mean: Array
    head_covariance: Array
    heads: Array | None = None
    label_noise: float = 0.0
    representation_spread: float = 0.0

    @property
    def mean(self) -> Array:
        """E[u], shape (M,)."""
        return self.head_mean if self.heads is None else self.heads.mean(axis=0)

    @property
    def covariance(self) -> Array:
        """Cov[u], shape (M, M)."""
        if self.heads is None:
            return self.head_covariance
        return np.cov(self.heads, rowvar=False, bias=True).reshape(2 * self.heads.shape[1:])

    @property
    def second_moment(self) -> Array:
        """U = E[û ûᵀ] of the homogeneous task vector û = (1, u), shape (M+1, M+1)."""
        mean = np.concatenate([[1.0], self.mean])
        moment = np.outer(mean, mean)
        moment[1:, 1:] += self.covariance
        return moment

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """``size`` heads, shape (size, M)."""
        if self.heads is not None:
            return self.heads[rng.integers(len(self.heads), size=size)]
        values, vectors = np.linalg.eigh(self.head_covariance)
        scale = vectors * np.sqrt(np.maximum(values, 0.0))
        return self.head_mean + rng.standard_normal((size, len(self.head_mean))) @ scale.T
