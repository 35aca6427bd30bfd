"""Starts that are exactly symmetric, and the smallest asymmetry of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from solvers.states import Configuration, Correspondence, match

Array = NDArray[np.float64]


def symmetric_start(
    Q: Array,
    R: Array,
    w: Array,
    T: Array,
    head_mean: Array,
    head_covariance: Array,
    parity: int,
    heads: Array | None = None,
) -> str | None:
    """A sentence on the symmetries of the start that the flow keeps for ever; None without any.

    Relabellings or flips of the learner units alone, or of the teacher units alone, under which
    the numbers given (and, for the teacher, the distribution of tasks) are invariant exactly. A
    simultaneous relabelling of both does not stop a unit from specialising, and is not reported.
    Q (…, K, K), R (…, K, M), T (…, M, M); ``parity`` −1 for odd g, +1 for even, else 0.
    """
    signs = (1, -1) if parity else (1,)
    learner = Configuration.of_learner(Q, R, w, parity)
    teacher = _teacher(R, T, head_mean, head_covariance, parity)

    def keeps_tasks(g: Correspondence) -> bool:
        return heads is None or _same_rows(heads, _relabelled(heads, g, parity))

    found = _clauses(_orbits(learner, signs), "learner")
    found += _clauses(_orbits(teacher, signs, keeps_tasks), "teacher")
    if not found:
        return None
    return (
        f"The start is exactly symmetric: {'; '.join(found)}. The flow keeps this for ever, and "
        "what an integrator shows as breaking it is rounding. Draw a start as of a finite dimension"
        ", --set 'initial.random={norm=0.5, dimension=1000, seed=0}', or give distinct overlaps."
    )


def _teacher(R: Array, T: Array, mean: Array, covariance: Array, parity: int) -> Configuration:
    M = R.shape[-1]
    columns = np.moveaxis(R.reshape(-1, *R.shape[-2:]), 2, 0).reshape(M, -1)
    T, covariance, mean = T.reshape(-1, M, M), covariance[None], mean[:, None]
    if parity < 0:
        none = np.zeros((0, M, M))
        return Configuration(
            np.concatenate([T, covariance]), np.hstack([columns, mean]), mean[:, :0], none
        )
    return Configuration(T, columns, mean, covariance)


def _relabelled(heads: Array, g: Correspondence, parity: int) -> Array:
    moved = np.empty_like(heads)
    for m, (n, sign) in enumerate(g):
        moved[:, n] = heads[:, m] * (sign if parity < 0 else 1)
    return moved


def _same_rows(a: Array, b: Array) -> bool:
    return sorted(map(tuple, (a + 0.0).tolist())) == sorted(map(tuple, (b + 0.0).tolist()))


def _orbits(
    x: Configuration,
    signs: tuple[int, ...],
    allowed: Callable[[Correspondence], bool] = lambda g: True,
) -> tuple[list[set[int]], set[int]]:
    """Classes of interchangeable units, and the units that may be flipped."""
    n = len(x.signed)
    own = np.diagonal(np.concatenate([x.pairs, x.plain_pairs]), axis1=1, axis2=2)
    fits = (own[:, :, None] == own[:, None, :]).all(axis=0)
    fits &= (x.plain[:, None] == x.plain).all(axis=-1)
    alike = {s: fits & (s * x.signed[:, None] == x.signed).all(axis=-1) for s in signs}

    def symmetric(k: int, l: int, s: int) -> bool:
        g = match(x, x, signs, fixed=(k, l, s)) if alike[s][k, l] else None
        return g is not None and allowed(g)

    classes: list[set[int]] = [{k} for k in range(n)]
    for k, l in np.argwhere(np.triu(np.logical_or.reduce(list(alike.values())), 1)).tolist():
        apart = not any({k, l} <= c for c in classes)
        if apart and any(symmetric(k, l, s) for s in signs):
            merged = {j for c in classes if c & {k, l} for j in c}
            classes = [c for c in classes if not c & merged] + [merged]
    flipped = {k for k in range(n) if -1 in signs and symmetric(k, k, -1)}
    return [c for c in classes if len(c) > 1], flipped


def _clauses(orbits: tuple[list[set[int]], set[int]], whose: str) -> list[str]:
    classes, flipped = orbits
    clauses = [f"{whose} units {_listed(c)} are interchangeable" for c in classes]
    if flipped:
        unit = "units" if len(flipped) > 1 else "unit"
        clauses.append(f"changing the sign of {whose} {unit} {_listed(flipped)} leaves it as it is")
    return clauses


def _listed(units: Iterable[int]) -> str:
    names = [str(k + 1) for k in sorted(units)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def smallest_asymmetry(Q: Array, R: Array, w: Array) -> float | None:
    """The smallest difference in the start that may have to grow for the symmetry to break.

    The least non-zero value among |R_kn| and the differences of R, of w and of the diagonal of Q
    between units; None if all of these vanish. Differences below 1e-15 of the largest entry are
    rounding and do not count.
    """
    diagonal = np.diagonal(Q, axis1=-2, axis2=-1).reshape(-1, Q.shape[-1])
    groups = [np.abs(R).ravel(), R.ravel(), w, *diagonal]
    differences = [np.abs(R).ravel(), *(np.diff(np.sort(x)) for x in groups)]
    scale = max(float(np.abs(x).max()) for x in (Q, R, w))
    gaps = [gap for gap in np.concatenate(differences).tolist() if gap > 1e-15 * scale]
    return min(gaps, default=None)
