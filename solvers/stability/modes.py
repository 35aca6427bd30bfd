"""The modes of a fixed point: multiplets of eigenvalues, named by what they do to the units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.stability.problem import Problem, SignedPermutation, Spectrum, invariant_basis
from solvers.stability.symmetry import Units, replace_signs
from theory.overlaps import Layout

Array = NDArray[np.float64]

MULTIPLET = 1e-6
"""Eigenvalues closer than this share of the largest modulus are one multiplet."""

HALF = 0.5 - 1e-6
"""Share of a multiplet in a subspace from which on it is named by that."""


@dataclass(frozen=True)
class Mode:
    """One multiplet: its eigenvalue, growth rate, multiplicity and name.

    ``vectors`` (n, multiplicity) is an orthonormal basis of the real parts of its eigenvectors.
    """

    eigenvalue: complex
    growth: float
    multiplicity: int
    name: str
    vectors: Array

    def __str__(self) -> str:
        times = "" if self.multiplicity == 1 else f" ({self.multiplicity} times)"
        return f"{self.growth:+.6g}{times}: {self.name}"


@dataclass(frozen=True)
class Characters:
    """What a mode's name is read from: invariant subspaces, and who is aligned with whom (K, M)."""

    whole: Array
    unsigned: Array
    learner: Array
    teacher: Array
    aligned: NDArray[np.bool_]


def modes(problem: Problem, units: Units, y: Array, jacobian: Array) -> tuple[Mode, ...]:
    """All modes of the flow at the state y (coordinates that evolve come first), leading first."""
    free = np.arange(len(jacobian))
    decomposed = np.linalg.eig(jacobian)
    values: Spectrum = decomposed[0].astype(complex)
    vectors: Spectrum = decomposed[1].astype(complex)
    growth = problem.growth(values)
    order = np.argsort(-growth, kind="stable")
    near = MULTIPLET * np.abs(values).max(initial=1e-300)
    characters = _characters(units, y, free)
    clusters: list[list[int]] = []
    for i in order:
        value = values[i].real + 1j * abs(values[i].imag)
        for cluster in reversed(clusters):
            first = values[cluster[0]]
            if abs(first.real + 1j * abs(first.imag) - value) < near:
                cluster.append(int(i))
                break
        else:
            clusters.append([int(i)])
    found = []
    for cluster in clusters:
        chosen = vectors[:, cluster]
        span = np.linalg.svd(np.concatenate([chosen.real, chosen.imag], 1), full_matrices=False)[0]
        span = span[:, : len(cluster)]
        value = complex(values[cluster].real.mean(), np.abs(values[cluster].imag).mean())
        name = _name(units.layout, span, characters)
        if value.imag > near:
            name += ", oscillating"
        found.append(Mode(value, float(growth[cluster].mean()), len(cluster), name, span))
    return tuple(found)


def _characters(units: Units, y: Array, free: NDArray[np.intp]) -> Characters:
    K, n = units.layout.hidden, units.layout.hidden + units.layout.teacher_hidden
    plain = replace_signs(units)

    def basis(group: Sequence[SignedPermutation]) -> Array:
        return invariant_basis(group, len(free))

    def moving(some: range) -> list[SignedPermutation]:
        """The transpositions within ``some`` that fix y, all other units kept in place."""
        kept = []
        for u in some:
            for v in range(some.start, u):
                swap = [(u, v, 1), (v, u, 1), *((x, x, 1) for x in range(n) if x not in (u, v))]
                g = plain.isomorphism(y, y, swap)
                kept += [plain.action(g, free)] if g is not None else []
        return kept

    R = units.layout.unpack(y)[1].reshape(-1, K, n - K).sum(0)
    aligned = np.abs(R) > 0.1 * np.abs(R).max(initial=1e-6)
    whole = [units.action(g, free) for g in units.isotropy(y)[1]]
    unsigned = [plain.action(g, free) for g in plain.isotropy(y)[1]]
    return Characters(
        basis(whole), basis(unsigned), basis(moving(range(K))), basis(moving(range(K, n))), aligned
    )


def _name(layout: Layout, span: Array, characters: Characters) -> str:
    def share(basis: Array) -> float:
        return float(np.sum((basis.T @ span) ** 2)) / span.shape[1]

    if share(characters.whole) > HALF:
        return _invariant_name(layout, span, characters.aligned)
    aligned = characters.aligned
    if share(characters.unsigned) > HALF:
        if aligned.any():
            return _invariant_name(layout, span, aligned)
        return "choosing the sign of the overlap with the teacher"
    breaks_learners = share(characters.learner) < 0.5
    breaks_teachers = share(characters.teacher) < 0.5
    if breaks_learners and breaks_teachers:
        return "specialising: each learner unit towards its own teacher unit"
    if breaks_learners:
        return "breaking the symmetry among learner units"
    if breaks_teachers:
        return "preferring some teacher units to others"
    return "breaking the symmetry between pairs of learner and teacher units"


def _invariant_name(layout: Layout, span: Array, aligned: NDArray[np.bool_]) -> str:
    """The name of a symmetric mode, by the order parameters that carry most of its weight."""
    weight = np.sum(span**2, axis=1) / span.shape[1]
    full = np.zeros(layout.size)
    full[: len(weight)] = weight
    Q, R, w = layout.unpack(full)
    K, blocks = layout.hidden, layout.blocks or 1
    Q = Q.reshape(blocks, K, K)
    own = float(R[..., aligned].sum()) if aligned.any() else float(R.sum())
    diagonal = float(np.trace(Q, axis1=1, axis2=2).sum())
    parts = {
        "growing or shrinking norm": diagonal,
        "aligning learner units with each other": (float(Q.sum()) - diagonal) / 2,
        "growing or losing overlap with the teacher": own,
        "turning towards other teacher units": float(R.sum()) - own,
        "rescaling the head": float(w.sum()),
    }
    return max(parts, key=lambda name: parts[name])
