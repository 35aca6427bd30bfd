"""Special points of a branch: noticed between two points, located on the branch itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers.stability.arclength import advance, node_at
from solvers.stability.problem import Spectrum, moving_modes
from solvers.stability.track import EDGE, Point, Sheet, SpecialPoint, Track

Array = NDArray[np.float64]

REACH = ((6e-3, 1e-8), (1e-3, 1e-5), (6e-3, 1e-5))
"""Distances of the points from which a crossing is interpolated, relative to 1 + max|X|, each with
the share of the values by which they may miss a polynomial of lower degree."""
BOTH_SIDES = np.array([-1.0, -0.7, -0.3, 0.3, 0.7, 1.0])
ONE_SIDE = np.array([0.2, 0.3, 0.45, 0.6, 0.8, 1.0])
"""Where those points lie; the margin to unphysical is smooth on the physical side only."""
TOGETHER = 1e-6
"""Crossings closer than this share of a step happen together."""
NEAR, NEUTRAL = 0.2, 1e-8
"""Shares of the largest eigenvalue: growth rates that may change sign in a step; those of modes
that stay neutral along a family."""
NUDGES = (0.0, 1e-4, -1e-4, 1e-3, -1e-3, 1e-2, -1e-2)
"""Shares of a step by which a crossing is missed first where the equations are singular at it."""
TURNED = 1e-6
"""The tangent's component along the parameter at what counts as a fold."""
CENTRED = 4
"""Times that a crossing is interpolated again about its last place."""
DEEPEST = 12
"""Halvings of a step in which modes cross in opposite directions."""


def with_special_points(track: Track) -> Track:
    """The branch with its special points, which stand among its points; no unphysical ends."""
    specials: list[SpecialPoint] = []
    points: list[Point] = []
    refined = [p for a, b in pairwise(track.points) for p in _refined(track.sheet, a, b)]
    for a, b in pairwise([*refined, track.points[-1]]):
        if a.margin >= EDGE:
            points.append(a)
        for special in special_points(track.sheet, a, b):
            specials.append(replace(special, position=len(points)))
            point = track.sheet.point(special.node)
            points.append(replace(point, unstable=min(special.unstable)))
    if track.points[-1].margin >= EDGE or len(track.points) == 1:
        points.append(track.points[-1])
    return replace(track, points=tuple(points), special_points=tuple(specials))


def _refined(field: Sheet, a: Point, b: Point, depth: int = 0) -> list[Point]:
    """a, and points before b that part crossings of modes in opposite directions."""
    if depth == DEEPEST or not _opposite_crossings(field, a, b):
        return [a]
    reached = advance(field.curve, a.node, _length(a, b) / 2)
    if reached is None:
        return [a]
    middle = field.point(reached[0])
    return [*_refined(field, a, middle, depth + 1), *_refined(field, middle, b, depth + 1)]


def _opposite_crossings(field: Sheet, a: Point, b: Point) -> bool:
    """Whether some modes seem to become unstable between two points, and others stable.

    Modes are followed by their eigenvectors: the diagonal of V⁻¹ J_b V, with J_a = V Λ V⁻¹.
    """
    problem = field.problem
    growth, scale = problem.growth(a.eigenvalues), np.abs(a.eigenvalues).max(initial=0.0)
    grows, decays = growth[growth > NEUTRAL * scale], -growth[growth < -NEUTRAL * scale]
    if not (grows.size and decays.size) or grows.min() + decays.min() > NEAR * scale:
        return False
    J, after = (problem.jacobian(p.x, p.parameter) for p in (a, b))
    change = float(np.linalg.norm(after - J))
    if max(grows.min(), decays.min()) > change:
        return False
    values, vectors = np.linalg.eig(J)
    try:
        moved = np.diagonal(np.linalg.solve(vectors, after @ vectors))
    except np.linalg.LinAlgError:
        return False
    before, then = problem.growth(values.astype(complex)), problem.growth(moved.astype(complex))
    moving = np.abs(before) > NEUTRAL * scale
    return bool((moving & (before < 0) & (then > 0)).any() and ((before > 0) & (then < 0)).any())


def _between_nodes(a: Point, b: Point, s: float) -> tuple[Array, Array]:
    """The cubic through two points along their tangents, at the share s, and its direction.

    Where branches cross, points along a's tangent alone would be taken to the other branch.
    """
    away = b.node.X - a.node.X
    size = float(np.linalg.norm(away))
    first, last = size * a.node.tangent - away, away - size * b.node.tangent
    X = a.node.X + s * away + s * (1 - s) * ((1 - s) * first + s * last)
    slope = away + (1 - s) * (1 - 3 * s) * first + s * (2 - 3 * s) * last
    return X, slope / np.linalg.norm(slope)


def _length(a: Point, b: Point) -> float:
    """The arclength of the step from a to b."""
    away = b.node.X - a.node.X
    return float(away @ a.node.tangent) or float(np.linalg.norm(away))


def special_points(field: Sheet, a: Point, b: Point) -> list[SpecialPoint]:
    """What happens between two successive points, in order."""
    length = _length(a, b)

    def at(h: float) -> Point | None:
        """The point at arclength h, or next to it if the equations are singular right there."""
        for near in (h, h + 1e-11 * length, h - 1e-11 * length):
            guess, tangent = _between_nodes(a, b, near / length)
            corrected = field.curve.correct(guess, tangent, exact=True)
            reached = corrected and node_at(field.curve, corrected[0], tangent, near)
            if reached:
                return field.point(reached[0])
        return None

    def locate(test: Callable[[Point], float]) -> tuple[float, Point] | None:
        return _locate(test, at, (a, b), length)

    found: list[tuple[float, SpecialPoint]] = []
    fold = None
    if a.node.tangent[-1] * b.node.tangent[-1] < 0:
        fold = locate(lambda p: float(p.node.tangent[-1]))
        if fold is not None:
            fold = _interpolated(field, lambda p: float(p.node.tangent[-1]), at, fold, length)
        if fold is not None and abs(fold[1].node.tangent[-1]) < TURNED:
            kind = "branch-point" if _more_symmetric(field, fold[1]) else "fold"
            found.append((fold[0], _special(kind, fold[1], 1, (a.unstable, b.unstable))))
    for h, point, modes in _crossings(field, a, b, locate, at, length):
        if fold is not None and abs(h - fold[0]) < 1e-3 * length and modes == 1:
            continue
        kind = _kind(field, point)
        found.append((h, _special(kind, point, modes, (a.unstable, b.unstable))))
    if (a.margin < EDGE) != (b.margin < EDGE):
        level = 0.0 if max(a.margin, b.margin) > 1e-10 else EDGE
        edge = locate(lambda p: p.margin - level)
        if edge is not None:
            inside = ONE_SIDE if b.margin > a.margin else -ONE_SIDE
            edge = _interpolated(field, lambda p: p.margin - level, at, edge, length, inside)
            found.append((edge[0], _special("unphysical", edge[1], 0, (a.unstable, b.unstable))))
    found.sort(key=lambda item: item[0])
    return _count(found, a.unstable, b.unstable)


def _more_symmetric(field: Sheet, point: Point) -> bool:
    """Whether the state has symmetries that the branch breaks: it turns back into its own image."""
    return field.problem.invariant(point.x, point.parameter).shape[1] < field.right.shape[1]


def _special(kind: str, point: Point, modes: int, unstable: tuple[int, int]) -> SpecialPoint:
    return SpecialPoint(kind, point.parameter, point.x, modes, unstable, point.node)


def _count(found: list[tuple[float, SpecialPoint]], before: int, after: int) -> list[SpecialPoint]:
    """The special points with the unstable counts on their two sides."""
    up = 1 if after > before else -1
    result, count = [], before
    changing = [s for _, s in found if s.kind != "unphysical"]
    total = sum(s.multiplicity for s in changing)
    for _, special in found:
        step = up * special.multiplicity if total == abs(after - before) else 0
        if special.kind == "unphysical":
            step = 0
        elif len(changing) == 1:
            step = after - before
        result.append(replace(special, unstable=(count, count + step)))
        count += step
    return result


def _crossings(
    field: Sheet,
    a: Point,
    b: Point,
    locate: Callable[[Callable[[Point], float]], tuple[float, Point] | None],
    at: Callable[[float], Point | None],
    length: float,
) -> list[tuple[float, Point, int]]:
    """The places where modes change stability: (arclength, point, number of modes)."""
    low, high = sorted((a.unstable, b.unstable))
    found: list[tuple[float, Point, int]] = []
    for index in range(low, high):

        def test(point: Point, i: int = index) -> float:
            return float(_ordered(field, point.eigenvalues)[i])

        crossing = locate(test)
        if crossing is None:
            continue
        crossing = _interpolated(field, test, at, crossing, length)
        for j, (h, point, modes) in enumerate(found):
            if abs(h - crossing[0]) < TOGETHER * length:
                found[j] = (h, point, modes + 1)
                break
        else:
            found.append((*crossing, 1))
    return found


def _ordered(field: Sheet, eigenvalues: Spectrum) -> Array:
    """Growth rates, the largest first, of the modes that are not neutral all along."""
    return np.sort(field.problem.growth(moving_modes(eigenvalues, field.neutral)))[::-1]


def _kind(field: Sheet, point: Point) -> str:
    """The kind of crossing, by the eigenvalue that is closest to neutral."""
    problem = field.problem
    moving = moving_modes(point.eigenvalues, field.neutral)
    value = moving[np.argmin(np.abs(problem.growth(moving)))]
    scale = np.abs(point.eigenvalues).max(initial=1e-300)
    if abs(value.imag) > 1e-6 * scale:
        return "neimark-sacker" if problem.discrete else "hopf"
    if problem.discrete and value.real < -1:
        return "period-doubling"
    return "branch-point"


def _locate(
    test: Callable[[Point], float],
    at: Callable[[float], Point | None],
    ends: tuple[Point, Point],
    length: float,
) -> tuple[float, Point] | None:
    """The arclength and the point between two others where ``test`` vanishes."""
    values = test(ends[0]), test(ends[1])
    if not values[0] * values[1] < 0:
        return None
    seen: dict[float, Point] = {}

    def value(h: float) -> float:
        if h in (0.0, length):
            return values[0] if h == 0.0 else values[1]
        for nudge in NUDGES:
            near = h + nudge * length
            point = at(near) if 0 < near < length else None
            if point is not None:
                seen[near] = point
                return test(point)
        raise _NoPoint

    try:
        h = float(scipy.optimize.brentq(value, 0.0, length, xtol=1e-15, rtol=1e-13, maxiter=100))  # type: ignore[arg-type]
    except _NoPoint:
        return _between({0.0: ends[0], **seen, length: ends[1]}, test)
    point = seen.get(h) or at(h)
    return _between({0.0: ends[0], **seen, length: ends[1]}, test) if point is None else (h, point)


def _between(
    seen: dict[float, Point], test: Callable[[Point], float]
) -> tuple[float, Point] | None:
    """A first guess, for ``_interpolated``, where the equations are singular at the zero itself."""
    for (h, a), (then, b) in pairwise(sorted(seen.items(), key=lambda item: item[0])):
        before, after = test(a), test(b)
        if before * after < 0:
            return h + (then - h) * before / (before - after), a
    return None


def _interpolated(
    field: Sheet,
    test: Callable[[Point], float],
    at: Callable[[float], Point | None],
    crossing: tuple[float, Point],
    length: float,
    offsets: Array = BOTH_SIDES,
) -> tuple[float, Point]:
    """The crossing from a polynomial through points at some distance on both sides.

    Where a mode of the branch's own symmetry crosses, the equations are singular at the point
    itself and leave the square root of rounding; at a distance they do not. Repeated where the
    first guess was not in the middle. Unchanged if the test function is not smooth there.
    """
    for _ in range(CENTRED):
        better = next(filter(None, (_once(field, test, at, crossing, r, length, offsets)
                                    for r in REACH)), None)  # fmt: skip
        if better is None:
            break
        shift, crossing = better
        if shift < 0.05:
            break
    return crossing


def _once(
    field: Sheet,
    test: Callable[[Point], float],
    at: Callable[[float], Point | None],
    crossing: tuple[float, Point],
    reach: tuple[float, float],
    length: float,
    offsets: Array,
) -> tuple[float, tuple[float, Point]] | None:
    """The crossing interpolated about its last place, and how far off the middle it was."""
    h, rough = crossing
    width = min(length / 2, reach[0] * (1 + float(np.abs(rough.node.X).max())))
    points = [p for p in map(at, h + width * offsets) if p is not None]
    if len(points) < len(offsets):
        return None
    root = _root(np.array([test(p) for p in points]), offsets, reach[1])
    if root is None:
        return None
    weights = _lagrange(offsets, root)
    tangent = weights @ [p.node.tangent for p in points]
    X = weights @ [p.node.X for p in points]
    node = replace(rough.node, X=X, tangent=tangent / np.linalg.norm(tangent))
    return abs(root), (h + width * root, field.point(node))


def _root(values: Array, offsets: Array, roughness: float) -> float | None:
    """The zero next to 0 of the polynomial through the values; None if they are not smooth."""
    fit = np.polynomial.polynomial.polyfit
    smooth = np.polynomial.polynomial.polyval(offsets, fit(offsets, values, 4))
    roots = np.polynomial.polynomial.polyroots(fit(offsets, values, 5))
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (np.abs(roots) < 0.5)]
    if len(real) != 1 or np.abs(smooth - values).max() > roughness * np.abs(values).max():
        return None
    return float(real[0])


def _lagrange(offsets: Array, at: float) -> Any:
    """Weights of the values at the offsets in their polynomial's value at a point."""
    away = offsets[:, None] - offsets
    return np.array(
        [np.prod((at - np.delete(offsets, i)) / np.delete(away[i], i)) for i in range(len(offsets))]
    )


class _NoPoint(ArithmeticError):
    """The corrector failed at a trial point."""
