"""One branch of zeros of a ``Problem``, followed in both directions within its symmetry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvers.stability.arclength import Curve, Node, Steps, node_at, walk
from solvers.stability.families import ISOLATED, NULL, Family, neutral_modes
from solvers.stability.problem import Problem, Spectrum

Array = NDArray[np.float64]

FAR = 1e3
"""Overlaps beyond this are taken to grow without bounds."""
EDGE = -1e-8
"""A margin below this is unphysical."""
ROUGH = 1e-9
"""A start where the equations are off by more is corrected first."""
SAME = 1e-12
"""Values of the parameter closer than this share of its range are the same."""


@dataclass(frozen=True)
class Point:
    """A zero x (n,) at a value of the parameter, with its spectrum and its margin to unphysical."""

    parameter: float
    x: Array
    eigenvalues: Spectrum
    unstable: int
    margin: float
    node: Node


@dataclass(frozen=True)
class SpecialPoint:
    """Where the character of a branch changes.

    ``kind``: "fold", "branch-point", "hopf", "period-doubling", "neimark-sacker" or "unphysical"
    (end of physicality). ``multiplicity`` counts the modes that cross together; ``unstable`` the
    unstable modes before and after, in the direction of the branch; ``position`` is its place among
    the points of the branch.
    """

    kind: str
    parameter: float
    x: Array
    multiplicity: int
    unstable: tuple[int, int]
    node: Node
    position: int = 0

    @property
    def critical(self) -> bool:
        """Whether the branch is stable on one side only."""
        return min(self.unstable) == 0 < max(self.unstable)


@dataclass(frozen=True)
class Sheet:
    """The curve of zeros x = origin + right z in the coordinates X = (z, (λ − shift)/unit).

    ``neutral`` is the number of modes that are neutral all along: they neither grow nor cross.
    """

    problem: Problem
    origin: Array
    right: Array
    left: Array
    shift: float
    unit: float
    neutral: int = 0

    @property
    def curve(self) -> Curve:
        """The equations leftᵀ F/rate = 0."""
        return Curve(self._residual, self._jacobian, self._slope)

    def split(self, X: Array) -> tuple[Array, float]:
        """(x, λ) of X."""
        return self.origin + self.right @ X[:-1], self.shift + self.unit * float(X[-1])

    def join(self, x: Array, parameter: float) -> Array:
        """X of (x, λ)."""
        return np.append(self.right.T @ (x - self.origin), (parameter - self.shift) / self.unit)

    def _residual(self, X: Array) -> Array:
        x, parameter = self.split(X)
        with np.errstate(invalid="ignore", over="ignore"):  # the corrector rejects such trials
            F = self.problem.residual(x, parameter) / self.problem.rate(parameter)
            return self.left.T @ F

    def _jacobian(self, X: Array) -> Array:
        x, parameter = self.split(X)
        J = (self.problem.jacobian(x, parameter).T / self.problem.rate(parameter)).T
        return self.left.T @ J @ self.right

    def _slope(self, X: Array) -> Array:
        x, parameter = self.split(X)
        return self.left.T @ self.problem.scaled_slope(x, parameter, self.unit) * self.unit

    def point(self, node: Node) -> Point:
        """Everything about the zero at ``node``."""
        x, parameter = self.split(node.X)
        eigenvalues = self.problem.spectrum(self.problem.jacobian(x, parameter))
        unstable = self.problem.unstable(eigenvalues, self.neutral)
        margin = self.problem.margin(x, parameter)
        return Point(parameter, x, eigenvalues, unstable, margin, node)


def sheet(problem: Problem, x: Array, parameter: float, unit: float) -> Sheet:
    """The sheet through x: all zeros with its symmetry, across their family if they have one."""
    basis = problem.invariant(x, parameter)
    J = (problem.jacobian(x, parameter).T / problem.rate(parameter)).T
    U, singular, rows = np.linalg.svd(basis.T @ J @ basis)
    kept = singular > NULL * singular.max(initial=1e-300)
    right, left = (basis, basis) if kept.all() else (basis @ rows[kept].T, basis @ U[:, kept])
    return Sheet(problem, x.copy(), right, left, parameter, unit)


@dataclass(frozen=True)
class Track:
    """The points of one branch in order, its special points, and why it ends on either side."""

    sheet: Sheet
    points: tuple[Point, ...]
    special_points: tuple[SpecialPoint, ...]
    ends: tuple[str, str]
    origin: str = "start"
    family: Family = ISOLATED

    @property
    def parameters(self) -> Array:
        """The parameter at each point (n,)."""
        return np.array([p.parameter for p in self.points])


@dataclass(frozen=True)
class Window:
    """The range of the parameter, and the step lengths (parameter range = 1)."""

    low: float
    high: float
    steps: Steps = field(default_factory=Steps)

    @property
    def unit(self) -> float:
        """The length of the range."""
        return self.high - self.low


def both_ways(
    problem: Problem, x: Array, parameter: float, window: Window, family: Family = ISOLATED
) -> Track:
    """The branch through the zero x, followed in both directions."""
    field = sheet(problem, x, parameter, window.unit)
    start = initial_node(field, x, parameter)
    if start is None:
        point = field.point(Node(field.join(x, parameter), np.zeros(field.right.shape[1] + 1), 0.0))
        reason = "the branch has no direction here: the Jacobian is singular"
        return Track(field, (point,), (), (reason, reason), family=family)
    forward, forward_end = one_way(field, start, window)
    closed = forward_end == CLOSED
    turned = replace(start, tangent=-start.tangent)
    backward, backward_end = ([], CLOSED) if closed else one_way(field, turned, window)
    points = [*(reverse(p) for p in reversed(backward)), field.point(start), *forward]
    field = replace(field, neutral=min(neutral_modes(p.eigenvalues) for p in points))
    points = [replace(p, unstable=problem.unstable(p.eigenvalues, field.neutral)) for p in points]
    return Track(field, tuple(points), (), (backward_end, forward_end), family=family)


CLOSED = "the branch closes on itself"


def reverse(point: Point) -> Point:
    """The point with its tangent turned round."""
    node = point.node
    return replace(point, node=replace(node, tangent=-node.tangent))


def initial_node(field: Sheet, x: Array, parameter: float) -> Node | None:
    """The node at x, with the tangent towards a larger parameter."""
    X, curve = field.join(x, parameter), field.curve
    along = np.zeros(len(X))
    along[-1] = 1.0
    if np.abs(curve.residual(X)).max(initial=0.0) > ROUGH:
        corrected = curve.correct(X, along)
        X = X if corrected is None else corrected[0]
    found = node_at(curve, X, along, 0.0)
    return None if found is None else found[0]


def one_way(field: Sheet, start: Node, window: Window) -> tuple[list[Point], str]:
    """The points after ``start`` in the direction of its tangent, and why there are no more."""
    points: list[Point] = []
    name, before = field.problem.name, start
    for node in walk(field.curve, start, window.steps):
        parameter = field.split(node.X)[1]
        if not window.low <= parameter <= window.high:
            bound = window.low if parameter < window.low else window.high
            last = _at_parameter(field, before, node, bound)
            points += [field.point(last)] if last is not None else []
            return points, f"{name} reaches {bound:.6g}"
        point = field.point(node)
        points.append(point)
        if point.margin < EDGE:
            return points, f"the states beyond {name} = {parameter:.6g} are unphysical"
        if np.abs(point.x).max() > FAR:
            return points, f"the overlaps grow beyond all bounds near {name} = {parameter:.6g}"
        if len(points) > 8 and _returns(start, before, node):
            return points, CLOSED
        before = node
    last = points[-1].parameter if points else field.split(start.X)[1]
    if len(points) >= window.steps.count:
        return points, f"{window.steps.count} points were computed"
    return points, f"no further point was found beyond {name} = {last:.8g}"


def _returns(start: Node, before: Node, node: Node) -> bool:
    away, ahead = start.X - before.X, node.X - before.X
    length = float(ahead @ ahead)
    along = float(away @ ahead) / length
    miss = np.linalg.norm(away - along * ahead)
    return bool(
        0 <= along <= 1 and miss < 0.05 * np.sqrt(length) and node.tangent @ start.tangent > 0.9
    )


def _at_parameter(field: Sheet, before: Node, beyond: Node, bound: float) -> Node | None:
    """The node between two others at which the parameter equals ``bound``."""
    target = (bound - field.shift) / field.unit
    share = (target - before.X[-1]) / (beyond.X[-1] - before.X[-1])
    guess = before.X + share * (beyond.X - before.X)
    guess[-1] = target
    fixed = np.zeros(len(guess))
    fixed[-1] = 1.0
    corrected = field.curve.correct(guess, fixed)
    if corrected is None:
        return None
    X = corrected[0]
    X[-1] = target
    found = node_at(field.curve, X, before.tangent, float(np.linalg.norm(X - before.X)))
    return None if found is None else found[0]


def state_at(track: Track, parameter: float) -> list[Array]:
    """The states of the branch at a value of the parameter (none, one, or several past a fold)."""
    near = SAME * track.sheet.unit
    found = [p.x for p in track.points if abs(p.parameter - parameter) <= near]
    for a, b in pairwise(track.points):
        before, after = a.parameter - parameter, b.parameter - parameter
        if min(abs(before), abs(after)) > near and before * after < 0:
            node = _at_parameter(track.sheet, a.node, b.node, parameter)
            if node is not None:
                found.append(track.sheet.split(node.X)[0])
    return found
