"""Special points of a branch: noticed between two points, located on the branch itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from solvers.arclength import advance
from solvers.problem import Spectrum
from solvers.track import EDGE, Point, Sheet, SpecialPoint, Track

Array = NDArray[np.float64]

REACH = 1e-3
"""Distance of the points from which a crossing is interpolated, relative to 1 + max|X|."""
BOTH_SIDES = np.array([-1.0, -0.7, -0.3, 0.3, 0.7, 1.0])
ONE_SIDE = np.array([0.2, 0.3, 0.45, 0.6, 0.8, 1.0])
"""Where those points lie; the margin to unphysical is smooth on the physical side only."""
TOGETHER = 1e-6
"""Crossings closer than this share of a step happen together."""


def with_special_points(track: Track) -> Track:
    """The branch with its special points, which stand among its points; no unphysical ends."""
    specials: list[SpecialPoint] = []
    points: list[Point] = []
    for a, b in pairwise(track.points):
        if a.margin >= EDGE:
            points.append(a)
        for special in special_points(track.sheet, a, b):
            specials.append(replace(special, position=len(points)))
            point = track.sheet.point(special.node)
            points.append(replace(point, unstable=min(special.unstable)))
    if track.points[-1].margin >= EDGE or len(track.points) == 1:
        points.append(track.points[-1])
    return replace(track, points=tuple(points), special_points=tuple(specials))


def special_points(field: Sheet, a: Point, b: Point) -> list[SpecialPoint]:
    """What happens between two successive points, in order."""
    length = float(np.linalg.norm(b.node.X - a.node.X))
    length = float((b.node.X - a.node.X) @ a.node.tangent) or length

    def at(h: float) -> Point | None:
        """The point at arclength h, or next to it if the equations are singular right there."""
        for near in (h, h + 1e-11 * length, h - 1e-11 * length):
            reached = advance(field.curve, a.node, near, exact=True)
            if reached is not None:
                return field.point(reached[0])
        return None

    def locate(test: Callable[[Point], float]) -> tuple[float, Point] | None:
        return _locate(test, at, (a, b), length)

    found: list[tuple[float, SpecialPoint]] = []
    fold = None
    if a.node.tangent[-1] * b.node.tangent[-1] < 0:
        fold = locate(lambda p: float(p.node.tangent[-1]))
        if fold is not None:
            found.append((fold[0], _special("fold", fold[1], 1, (a.unstable, b.unstable))))
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
    return np.sort(field.problem.growth(eigenvalues))[::-1]


def _kind(field: Sheet, point: Point) -> str:
    """The kind of crossing, by the eigenvalue that is closest to neutral."""
    problem = field.problem
    value = point.eigenvalues[np.argmin(np.abs(problem.growth(point.eigenvalues)))]
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
        point = at(h)
        if point is None:
            raise _NoPoint
        seen[h] = point
        return test(point)

    try:
        h = float(brentq(value, 0.0, length, xtol=1e-15, rtol=1e-13, maxiter=100))  # type: ignore[arg-type]
    except _NoPoint:
        return None
    point = seen.get(h) or at(h)
    return None if point is None else (h, point)


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
    itself and leave the square root of rounding; at a distance they do not. Unchanged if the
    test function is not smooth there.
    """
    h, rough = crossing
    width = min(length / 2, REACH * (1 + float(np.abs(rough.node.X).max())))
    points = [at(h + width * offset) for offset in offsets]
    if any(p is None for p in points):
        return crossing
    near = [p for p in points if p is not None]
    fit = np.polynomial.polynomial.polyfit
    values = np.array([test(p) for p in near])
    smooth = np.polynomial.polynomial.polyval(offsets, fit(offsets, values, 4))
    coefficients = fit(offsets, values, 5)
    roots = np.polynomial.polynomial.polyroots(coefficients)
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (np.abs(roots) < 0.5)]
    if len(real) != 1 or np.abs(smooth - values).max() > 1e-5 * np.abs(values).max():
        return crossing

    def value(rows: list[Array]) -> Array:
        return np.polynomial.polynomial.polyval(real[0], fit(offsets, np.array(rows), 5))

    tangent = value([p.node.tangent for p in near])
    node = replace(
        rough.node, X=value([p.node.X for p in near]), tangent=tangent / np.linalg.norm(tangent)
    )
    return h + width * float(real[0]), field.point(node)


class _NoPoint(ArithmeticError):
    """The corrector failed at a trial point."""
