"""Permutations and sign flips of units that leave a state, or the whole problem, unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from solvers.stability.problem import SignedPermutation
from theory.overlaps import Layout

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""States closer than this (relative to their largest entry) count as equal."""


@dataclass(frozen=True)
class Relabelling:
    """Unit v (learners first, then teachers) goes to ``image[v]`` with the sign ``sign[v]``."""

    image: tuple[int, ...]
    sign: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """What distinguishes the units apart from the state: the head, the teacher and the tasks.

    ``fixed`` (K+M, K+M, f) holds every matrix between units that a relabelling must preserve, and
    ``marks`` (K+M, g) every vector (the head if it does not learn, u0). ``heads`` (t, M) is a
    finite task set, preserved as a set. ``signs`` tells whether a sign flip is a symmetry (odd g),
    ``tolerance`` how closely (relative to the largest entry) a symmetry must preserve a state.
    """

    layout: Layout
    fixed: Array
    marks: Array
    signs: bool
    heads: Array | None = None
    teachers_move: bool = True
    tolerance: float = TOLERANCE

    def features(self, y: Array) -> tuple[Array, Array]:
        """Matrices (n, n, f) and vectors (n, g) that a symmetry of the state y preserves."""
        K, n = self.layout.hidden, self.layout.hidden + self.layout.teacher_hidden
        Q, R, w = self.layout.unpack(y)
        state = np.zeros((n, n, self.layout.blocks or 1))
        state[:K, :K] = np.moveaxis(Q.reshape(-1, K, K), 0, -1)
        state[:K, K:] = np.moveaxis(R.reshape(-1, K, n - K), 0, -1)
        state[K:, :K] = np.swapaxes(state[:K, K:], 0, 1)
        head = np.concatenate([w, np.zeros(n - K)])[:, None]
        return np.concatenate([state, self.fixed], -1), np.concatenate([head, self.marks], -1)

    def isomorphism(
        self,
        y: Array,
        other: Array,
        start: Sequence[tuple[int, int, int]] = (),
        teachers: bool | None = None,
    ) -> Relabelling | None:
        """A relabelling that carries y to ``other``; ``start`` prescribes (unit, image, sign).

        None if there is none. ``teachers`` False keeps the teacher units in place.
        """
        return next(self._search(y, other, start, teachers), None)

    def _search(
        self, y: Array, other: Array, start: Sequence[tuple[int, int, int]], teachers: bool | None
    ) -> Iterator[Relabelling]:
        K, n = self.layout.hidden, self.layout.hidden + self.layout.teacher_hidden
        A, a = self.features(y)
        B, b = self.features(other)
        near = self.tolerance * (1 + max(np.abs(A).max(), np.abs(a).max(initial=0.0)))
        move = self.teachers_move if teachers is None else teachers
        given = {v: (u, s) for v, u, s in start}
        order = sorted(range(n), key=lambda v: (v not in given, v < K))
        image, sign = np.full(n, -1), np.ones(n)

        def choices(v: int) -> Iterator[tuple[int, int]]:
            if v in given:
                yield given[v]
                return
            if v >= K and not move:
                yield v, 1
                return
            units = range(K) if v < K else range(K, n)
            yield from ((v, 1), *((u, 1) for u in units if u != v))
            if self.signs:
                yield from ((v, -1), *((u, -1) for u in units if u != v))

        def extend(depth: int) -> Iterator[Relabelling]:
            if depth == n:
                found = Relabelling(tuple(map(int, image)), tuple(map(int, sign)))
                if self._keeps_heads(found, near):
                    yield found
                return
            v, done = order[depth], order[:depth]
            for u, s in choices(v):
                if u in image[done] or np.abs(a[v] - s * b[u]).max(initial=0.0) > near:
                    continue
                if np.abs(A[v, v] - B[u, u]).max() > near:
                    continue
                seen = A[v, done] - (s * sign[done])[:, None] * B[u, image[done]]
                if np.abs(seen).max(initial=0.0) > near:
                    continue
                image[v], sign[v] = u, s
                yield from extend(depth + 1)
                image[v] = -1

        yield from extend(0)

    def _keeps_heads(self, g: Relabelling, near: float) -> bool:
        if self.heads is None:
            return True
        K = self.layout.hidden
        moved = np.empty_like(self.heads)
        for m in range(self.heads.shape[1]):
            moved[:, g.image[K + m] - K] = g.sign[K + m] * self.heads[:, m]
        distance = np.abs(moved[:, None] - self.heads[None]).max(-1)
        return bool((distance.min(1) < near).all())

    def isotropy(self, y: Array, teachers: bool | None = None) -> tuple[int, list[Relabelling]]:
        """Order and generators of the group that leaves y fixed, by a chain of stabilisers."""
        K, n = self.layout.hidden, self.layout.hidden + self.layout.teacher_hidden
        generators: list[Relabelling] = []
        kept: list[tuple[int, int, int]] = []
        order = 1
        for v in [*range(K, n), *range(K)]:
            orbit = 0
            for u in range(K) if v < K else range(K, n):
                for s in (1, -1) if self.signs else (1,):
                    g = self.isomorphism(y, y, [*kept, (v, u, s)], teachers)
                    if g is not None:
                        orbit += 1
                        if (u, s) != (v, 1):
                            generators.append(g)
            order *= orbit
            kept.append((v, v, 1))
        return order, generators

    def copies(self, y: Array) -> int:
        """Number of states that the symmetries of the problem make of y, up to learner labels."""
        layout = self.layout
        Q, R, w = layout.unpack(np.zeros(layout.size))
        learns = not self.marks[: layout.hidden].any()
        blank = layout.pack(Q, R, w if learns else layout.unpack(y)[2])
        orders = [
            self.isotropy(state, teachers)[0] for state in (blank, y) for teachers in (None, False)
        ]
        return orders[0] * orders[3] // (orders[1] * orders[2])

    def action(self, g: Relabelling, free: NDArray[np.intp]) -> SignedPermutation:
        """How g acts on the coordinates ``free`` of the state vector."""
        layout, K = self.layout, self.layout.hidden
        label = np.arange(1.0, layout.size + 1)
        Q, R, w = layout.unpack(label)
        order = np.argsort(g.image)  # the unit that arrives at each place
        signs = np.array(g.sign, float)[order]
        rows, columns = order[:K], order[K:] - K
        Q = Q[..., rows, :][..., :, rows] * np.outer(signs[:K], signs[:K])
        R = R[..., rows, :][..., :, columns] * np.outer(signs[:K], signs[K:])
        moved = layout.pack(Q, R, w[rows] * signs[:K])[free]
        place = np.full(layout.size, -1)
        place[free] = np.arange(len(free))
        return SignedPermutation(place[np.abs(moved).astype(int) - 1], np.sign(moved))


def describe(units: Units, y: Array) -> str:
    """The residual symmetry group in words, e.g. "S2 of learner units × S2 of teacher units"."""
    K, n = units.layout.hidden, units.layout.hidden + units.layout.teacher_hidden
    order = units.isotropy(y)[0]
    if order == 1:
        return "none"
    unsigned = replace_signs(units)
    total, plain = unsigned.isotropy(y)
    learner = _transposition_classes(unsigned, y, range(K))
    teacher = _transposition_classes(unsigned, y, range(K, n))
    parts = [f"S{size} of learner units" for size in learner]
    parts += [f"S{size} of teacher units" for size in teacher]
    joint = total // prod(map(factorial, learner + teacher))
    if joint > 1:
        moved = len({v for g in plain for v in range(K) if g.image[v] != v})
        name = f"S{moved}" if joint == factorial(moved) else f"order {joint}"
        parts.append(f"{name} of learner and teacher units together" if moved else name)
    if order > total:
        parts.append(f"sign flips (order {order // total})")
    return " × ".join(parts)


def replace_signs(units: Units) -> Units:
    """The same units without sign flips."""
    return replace(units, signs=False)


def _transposition_classes(units: Units, y: Array, among: range) -> list[int]:
    classes: list[list[int]] = []
    n = units.layout.hidden + units.layout.teacher_hidden
    for v in among:
        for members in classes:
            u = members[0]
            swap = [(v, u, 1), (u, v, 1), *((x, x, 1) for x in range(n) if x not in (u, v))]
            if units.isomorphism(y, y, swap) is not None:
                members.append(v)
                break
        else:
            classes.append([v])
    return [len(members) for members in classes if len(members) > 1]
