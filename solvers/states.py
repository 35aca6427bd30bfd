"""What a macroscopic state is: alignments, specialization, label, and when two are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from theory.overlaps import Layout

Array = NDArray[np.float64]

LABELS = ("diverged", "unresolved", "unlearned", "symmetric", "partially-specialized", "specialized")
"""All labels a state may have, in the order in which they are tried."""


def fields(
    Q: Array, R: Array, parameters: Mapping[str, Any], layout: Layout
) -> tuple[Array, Array, Array]:
    """Overlaps of the local fields, Q (…, K, K), R (…, K, M), T (M, M): Σ_b λ_b X^b.

    Without structured inputs Q and R are returned as they are.
    """
    variance = np.atleast_1d(parameters["variance"])
    T = np.einsum("b,bmn->mn", variance, np.asarray(parameters["T"], float))
    if layout.blocks is None:
        return Q, R, T
    return tuple(np.einsum("b,...bij->...ij", variance, X) for X in (Q, R)) + (T,)


def cosines(Q: Array, R: Array, T: Array) -> Array:
    """ρ_kn = R_kn/√(Q_kk T_nn), shape (…, K, M); NaN where a norm vanishes."""
    square = np.diagonal(Q, axis1=-2, axis2=-1)[..., :, None] * np.diagonal(T)
    norm = np.sqrt(np.where(square > 0, square, np.nan))
    return R / norm


def specialization(Q: Array, R: Array, T: Array) -> float | None:
    """How far each learner unit is aligned with a teacher unit of its own; None if a norm vanishes.

    min(K, M) learner units are assigned to distinct teacher units so that Σ|ρ| is largest: the mean
    of |ρ| over the assigned pairs minus its mean over the other entries of the assigned rows
    (0 if there are none). Q (K, K), R (K, M), T (M, M) are those of the local fields.
    """
    alignment = np.abs(cosines(Q, R, T))
    if not np.isfinite(alignment).all():
        return None
    rows, columns = linear_sum_assignment(alignment, maximize=True)
    own, others = alignment[rows, columns], alignment.shape[1] - 1
    if not others:
        return float(own.mean())
    rest = (alignment[rows].sum() - own.sum()) / (len(rows) * others)
    return float(own.mean() - rest)


def label(Q: Array, R: Array, T: Array, change: float = 0.0) -> str:
    """The name of a state: one of ``LABELS``.

    ``change`` is the relative change of ε in another tenth of the time, at the final speed. A unit
    of vanishing norm counts as aligned with nothing. Entries of Q above 1e6 are divergence.
    """
    if diverged(Q):
        return "diverged"
    if change > 0.01:
        return "unresolved"
    alignment = np.abs(np.nan_to_num(cosines(Q, R, T), nan=0.0))
    if (alignment < 0.1).all():
        return "unlearned"
    value = specialization(Q, R, T) or 0.0
    if value < 0.1:
        return "symmetric"
    return "partially-specialized" if value < 0.7 else "specialized"


DIVERGENCE = 1e6
"""An entry of Q above this is a divergence."""


def diverged(Q: Array) -> bool:
    """Whether an entry of Q exceeds 1e6 or is not finite."""
    return not bool((np.abs(Q) <= DIVERGENCE).all())
