"""What a macroscopic state is: alignments, specialization, label, and when two are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from theory.overlaps import Layout

Array = NDArray[np.float64]

LABELS = (
    "diverged",
    "unresolved",
    "unlearned",
    "symmetric",
    "partially-specialized",
    "specialized",
)
"""All labels a state may have, in the order in which they are tried."""
FAILED = "failed"
"""The label of a point whose computation broke off; its message says why."""
ALL_LABELS = (*LABELS, FAILED)
MOST_TRIED = 24
"""Up to so many assignments of units are all tried, for many states at once."""


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
    mixed = "b,...bij->...ij"
    return np.einsum(mixed, variance, Q), np.einsum(mixed, variance, R), T


def cosines(Q: Array, R: Array, T: Array) -> Array:
    """ρ_kn = R_kn/√(Q_kk T_nn), shape (…, K, M); NaN where a norm vanishes."""
    square = np.diagonal(Q, axis1=-2, axis2=-1)[..., :, None] * np.diagonal(T)
    norm = np.sqrt(np.where(square > 0, square, np.nan))
    return R / norm


def specializations(Q: Array, R: Array, T: Array) -> Array:
    """How far each learner unit is aligned with a teacher unit of its own: (…), NaN if undefined.

    min(K, M) learner units are assigned to distinct teacher units so that Σ|ρ| is largest: the mean
    of |ρ| over the assigned pairs minus its mean over the other entries of the assigned rows
    (0 if there are none). Q (…, K, K), R (…, K, M), T (M, M) are those of the local fields; a norm
    that vanishes leaves it undefined.
    """
    alignment = np.abs(cosines(Q, R, T))
    rows, columns = _assignments(alignment)
    own = np.take_along_axis(alignment, rows[..., None], -2)
    paired = np.take_along_axis(own, columns[..., None], -1)[..., 0].sum(-1)
    count, others = rows.shape[-1], alignment.shape[-1] - 1
    rest = (own.sum((-2, -1)) - paired) / max(count * others, 1)
    return paired / count - rest if others else paired / count


def _assignments(alignment: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns (…, min(K, M)) of the assignment with the largest sum.

    Where the largest entries of all rows lie in columns of their own, they are it; else few
    assignments are all tried.
    """
    *lead, K, M = alignment.shape
    few, many = min(K, M), max(K, M)
    flat = alignment.reshape(-1, K, M)
    flat = np.where(np.isnan(flat), 0.0, flat)
    flat = flat if K <= M else flat.swapaxes(-1, -2)
    fixed, found = np.arange(few), flat.argmax(-1)
    open_ = (np.diff(np.sort(found, -1), axis=-1) == 0).any(-1)
    if math.perm(many, few) <= MOST_TRIED:
        chosen = _permutations(many, few)
        found[open_] = chosen[flat[open_][:, fixed, chosen].sum(-1).argmax(-1)]
    else:
        for i in np.flatnonzero(open_):
            found[i] = scipy.optimize.linear_sum_assignment(flat[i], maximize=True)[1]
    found = found.reshape(*lead, few)
    fixed = np.broadcast_to(fixed, found.shape)
    return (fixed, found) if K <= M else (found, fixed)


@cache
def _permutations(many: int, few: int) -> NDArray[np.intp]:
    return np.array(list(permutations(range(many), few)))


def partners(Q: Array, R: Array, T: Array) -> NDArray[np.intp]:
    """Which learner and teacher units ``specializations`` pairs: (…, 2, min(K, M))."""
    return np.stack(_assignments(np.abs(cosines(Q, R, T))), axis=-2)


def specialization(Q: Array, R: Array, T: Array) -> float | None:
    """``specializations`` of one state; None if a norm vanishes."""
    value = float(specializations(Q, R, T))
    return None if math.isnan(value) else value


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


Correspondence = tuple[tuple[int, int], ...]
"""For each unit the unit it corresponds to and the sign, ((l, s), …)."""
Chosen = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Configuration:
    """What a relabelling of n units acts on.

    ``pairs`` (p, n, n) turn with the signs of both units, ``signed`` (n, d) with the unit's own,
    ``plain`` (n, d) and ``plain_pairs`` (p, n, n) with none.
    """

    pairs: Array
    signed: Array
    plain: Array
    plain_pairs: Array

    @classmethod
    def of_learner(cls, Q: Array, R: Array, w: Array, parity: int) -> Configuration:
        """That of the learner units; the head turns with J for an odd g (parity −1) only."""
        K, M = R.shape[-2:]
        rows, head = np.moveaxis(R.reshape(-1, K, M), 1, 0).reshape(K, -1), w[:, None]
        signed, plain = (np.hstack([rows, head]), head[:, :0]) if parity < 0 else (rows, head)
        return cls(Q.reshape(-1, K, K), signed, plain, np.zeros((0, K, K)))


def match(
    a: Configuration,
    b: Configuration,
    signs: tuple[int, ...] = (1, -1),
    tolerance: float = 0.0,
    fixed: tuple[int, int, int] | None = None,
) -> Correspondence | None:
    """A relabelling, with signs, that carries configuration a into b to within ``tolerance``.

    ``fixed`` = (k, l, s) demands that unit k of a becomes s times unit l of b. None if there is no
    such relabelling. Found by backtracking, unit by unit: exhaustive, and immediate unless many
    units are alike.
    """
    n = len(a.signed)

    def fits(k: int, l: int, s: int, chosen: Chosen) -> bool:
        units, images, turns = zip(*((j, *chosen[j]) for j in chosen), (k, l, s), strict=True)
        turn, before, after = s * np.array(turns), list(units), list(images)
        return all(
            bool((np.abs(x - y) <= tolerance).all())
            for x, y in (
                (s * a.signed[k], b.signed[l]),
                (a.plain[k], b.plain[l]),
                (turn * a.pairs[:, k, before], b.pairs[:, l, after]),
                (a.plain_pairs[:, k, before], b.plain_pairs[:, l, after]),
            )
        )

    def extend(order: list[int], chosen: Chosen) -> Correspondence | None:
        if not order:
            return tuple(chosen[k] for k in range(n))
        k, taken = order[0], {m for m, _ in chosen.values()}
        for l in sorted(set(range(n)) - taken, key=lambda l: l != k):
            for s in signs:
                if fits(k, l, s, chosen):
                    found = extend(order[1:], {**chosen, k: (l, s)})
                    if found:
                        return found
        return None

    if fixed is None:
        return extend(list(range(n)), {})
    k, l, s = fixed
    if s not in signs or not fits(k, l, s, {}):
        return None
    return extend([j for j in range(n) if j != k], {k: (l, s)})


def equivalent(
    a: tuple[Array, Array, Array],
    b: tuple[Array, Array, Array],
    parity: int = -1,
    tolerance: float = 1e-8,
) -> bool:
    """Whether states (Q, R, w) are one up to a permutation of the units with their heads and,
    for an odd activation (parity −1), sign flips of J_k with w_k; every entry to ``tolerance``.

    parity +1: an even activation, where J_k alone may be flipped; 0: neither.
    """
    first, second = (Configuration.of_learner(Q, R, w, parity) for Q, R, w in (a, b))
    signs = (1, -1) if parity else (1,)
    return match(first, second, signs, tolerance) is not None


def canonical(Q: Array, R: Array, w: Array, parity: int = -1) -> tuple[Array, Array, Array]:
    """The equivalent state in which unit k is the one assigned to teacher unit k, and R_kk ≥ 0.

    The assignment is the one with the largest Σ|R_kn|/√Q_kk; unassigned units follow, the largest
    Q_kk first, with their largest R_kn positive. With structured inputs the blocks' sums decide.
    Only a convention for display and storage: it is not continuous where units are alike
    (``equivalent`` is what compares states).
    """
    whole_Q, whole_R = (X if X.ndim == 2 else X.sum(axis=0) for X in (Q, R))
    norms = np.diagonal(whole_Q)
    weight = np.abs(whole_R) / np.sqrt(np.where(norms > 0, norms, np.inf))[:, None]
    rows, columns = scipy.optimize.linear_sum_assignment(weight, maximize=True)
    assigned = list(rows[np.argsort(columns)])
    rest = [k for k in np.argsort(-norms, kind="stable") if k not in set(assigned)]
    order = np.array(assigned + rest)
    own = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    deciding = [whole_R[k, own.get(k, np.abs(whole_R[k]).argmax())] or w[k] for k in order.tolist()]
    sign = np.where(np.array(deciding) < 0, -1.0, 1.0) if parity else np.ones(len(order))
    flipped = sign if parity < 0 else 1.0
    return (
        Q[..., order[:, None], order] * np.outer(sign, sign),
        R[..., order, :] * sign[:, None],
        w[order] * flipped,
    )
