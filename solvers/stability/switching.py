"""The branches that meet at a branch point, kernels of several dimensions included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from solvers.stability.arclength import node_at
from solvers.stability.problem import Problem
from solvers.stability.track import (
    EDGE,
    Point,
    Sheet,
    SpecialPoint,
    Track,
    Window,
    one_way,
    sheet,
    state_at,
)

Array = NDArray[np.float64]

ELEMENTS = 2000
"""Elements of the symmetry group that are looked at, at most."""
SUBSPACES = 150
"""Fixed subspaces of the kernel that are intersected, at most."""
RADII = (1e-2, 3e-3, 3e-2)
"""Distances from the branch point at which the other branches are sought."""


def branches_from(track: Track, special: SpecialPoint, window: Window) -> list[Track]:
    """The other branches through a branch point, each followed away from it.

    In the kernel of the Jacobian the directions are tried that a subgroup of the point's symmetry
    singles out (equivariant branching lemma: Golubitsky, Stewart & Schaeffer 1988), and the whole
    kernel if it has one dimension. Within the states of the direction's own symmetry the kernel is
    one-dimensional, and the new branch is regular.
    """
    problem = track.sheet.problem
    kernel = null_space(problem, special)
    found: list[Track] = []
    for direction in directions(problem, special, kernel):
        for towards in (direction, -direction):
            new = _branch(track, special, towards, window)
            if new is None or any(_equivalent(problem, new, other) for other in found):
                continue
            found.append(new)
    return found


def null_space(problem: Problem, special: SpecialPoint) -> Array:
    """Orthonormal basis (n, m) of the kernel of the Jacobian at a branch point."""
    J = problem.jacobian(special.x, special.parameter)
    rows = np.linalg.svd(J)[2]
    return rows[len(rows) - special.multiplicity :].T


def directions(problem: Problem, special: SpecialPoint, kernel: Array) -> list[Array]:
    """Unit vectors of the kernel that a subgroup of the symmetry of x singles out, up to sign."""
    if kernel.shape[1] == 1:
        return [kernel[:, 0]]
    generators = problem.symmetries(special.x, special.parameter)
    elements = _closure([kernel.T @ g(kernel) for g in generators])
    spaces: dict[bytes, Array] = {}
    for matrix in elements:
        _keep(spaces, _fixed(matrix - np.eye(len(matrix))))
    for one, other in combinations(list(spaces.values())[:SUBSPACES], 2):
        if min(one.shape[1], other.shape[1]) > 1:
            meet = _fixed(np.vstack([_outside(one), _outside(other)]))
            _keep(spaces, meet)
    axes = [space[:, 0] for space in spaces.values() if space.shape[1] == 1]
    return [kernel @ axis for axis in _inequivalent(axes, elements)]


def _closure(generators: Sequence[Array]) -> list[Array]:
    """The group that the matrices generate, up to ``ELEMENTS`` of its elements."""
    if not generators:
        return []
    size = len(generators[0])
    found = {_key(np.eye(size)): np.eye(size)}
    frontier = [np.eye(size)]
    while frontier and len(found) < ELEMENTS:
        fresh = []
        for matrix in frontier:
            for g in generators:
                product = g @ matrix
                if found.setdefault(_key(product), product) is product:
                    fresh.append(product)
        frontier = fresh
    return list(found.values())


def _key(matrix: Array) -> bytes:
    return (np.round(matrix, 5) + 0.0).tobytes()


def _fixed(matrix: Array) -> Array:
    _, singular, rows = np.linalg.svd(matrix)
    rank = int((singular > 1e-6).sum())
    return rows[rank:].T


def _outside(space: Array) -> Array:
    return np.eye(len(space)) - space @ space.T


def _keep(spaces: dict[bytes, Array], space: Array) -> None:
    if space.shape[1] and len(spaces) < 4 * SUBSPACES:
        spaces.setdefault(_key(space @ space.T), space)


def _inequivalent(axes: list[Array], elements: Sequence[Array]) -> Iterator[Array]:
    kept: list[Array] = []
    for axis in axes:
        images = np.array([g @ axis for g in elements])
        if not any(np.abs(np.abs(images @ other) - 1).min() < 1e-6 for other in kept):
            kept.append(axis)
            yield axis


def _branch(track: Track, special: SpecialPoint, direction: Array, window: Window) -> Track | None:
    problem, unit = track.sheet.problem, window.unit
    for radius in RADII:
        length = radius * (1 + float(np.abs(special.x).max()))
        field = sheet(problem, special.x + length * direction, special.parameter, unit)
        field = Sheet(problem, special.x, field.right, field.left, special.parameter, unit)
        normal = _normal(track, special, field, direction)
        corrected = field.curve.correct(length * normal, normal, steps=30)
        if corrected is None:
            continue
        X = corrected[0]
        x, parameter = field.split(X)
        near = np.linalg.norm(X) < 10 * length
        if not near or problem.margin(x, parameter) < EDGE:
            continue
        found = node_at(field.curve, X, normal, length)
        if found is None:
            continue
        start = replace(found[0], tangent=found[0].tangent * np.sign(found[0].tangent @ X))
        if not window.low <= parameter <= window.high:
            return None
        points, end = one_way(field, start, window)
        first = field.point(start)
        if not points:
            continue
        origin = f"{special.kind} at {problem.name} = {special.parameter:.8g}"
        return Track(field, (first, *points), (), (origin, end), origin)
    return None


def _normal(track: Track, special: SpecialPoint, field: Sheet, direction: Array) -> Array:
    """The unit vector in X-space along ``direction``, normal to the branch that is left."""
    x_tangent = track.sheet.right @ special.node.tangent[:-1]
    old = np.append(field.right.T @ x_tangent, special.node.tangent[-1])
    new = np.append(field.right.T @ direction, 0.0)
    new = new - (new @ old) / (old @ old) * old
    return new / np.linalg.norm(new)


def _equivalent(problem: Problem, track: Track, other: Track) -> bool:
    """Whether the two branches, both leaving the same point, are images of each other."""
    return any(
        problem.equivalent(point.x, x, point.parameter)
        for point in probes(track)
        for x in state_at(other, point.parameter)
    )


def probes(track: Track) -> list[Point]:
    """Points all along a branch, that tell it from others."""
    last = len(track.points) - 1
    return [track.points[i] for i in sorted({min(3, last), *(last * n // 4 for n in range(1, 5))})]


def contains(tracks: Sequence[Track], x: Array, parameter: float) -> bool:
    """Whether a state, up to symmetry, lies on one of the branches."""
    return any(
        track.sheet.problem.equivalent(x, found, parameter)
        for track in tracks
        for found in state_at(track, parameter)
    )
