"""Curves of a special point in two parameters: the boundary of a phase, by continuation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.arclength import Curve, Node, Steps, node_at, walk
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.steady import Steady
from solvers.track import Sheet

if TYPE_CHECKING:
    import xarray

    from solvers.branch import Branch, Special

Array = NDArray[np.float64]

DIFFERENCE = 1e-5
"""Relative width of the differences that give the gradient of the critical growth rate."""


@dataclass(frozen=True)
class SpecialCurve:
    """Where a special point lies: ``first`` and ``second`` parameter (n,), and ε (n,) there."""

    kind: str
    names: tuple[str, str]
    first: Array
    second: Array
    error: Array

    @property
    def dataset(self) -> xarray.Dataset:
        """The curve along ``point``."""
        import xarray

        data = {name: ("point", getattr(self, name)) for name in ("first", "second", "error")}
        names = {"first_parameter": self.names[0], "second_parameter": self.names[1]}
        return xarray.Dataset(data, attrs={"kind": "special-curve", "special": self.kind, **names})


def special_curve(
    branch: Branch,
    special: Special,
    parameter: str,
    low: float,
    high: float,
    *,
    within: tuple[float, float] | None = None,
    steps: Steps | None = None,
) -> SpecialCurve:
    """The curve that a special point of ``branch`` describes when a second parameter varies too.

    Solves F = 0 together with growth rate = 0 for the modes that cross there, by pseudo-arclength
    in both directions, within [``low``, ``high``] of the second parameter and ``within`` of the
    first (default: ten times the range of the branch).

    Raises:
        ExperimentError: the special point is not one where modes cross.
        NumericalFailure: the curve cannot be started.
    """
    if branch.track is None:
        raise ExperimentError("a branch that was read from a file must be computed again first")
    if special.multiplicity == 0:
        raise ExperimentError(
            f"a {special.kind} point has no modes that cross: it has no such curve"
        )
    second = Steady(branch.experiment, parameter)
    if not min(low, high) <= second.value <= max(low, high):
        raise ExperimentError(f"the range of {parameter} must contain its value {second.value:g}")
    span = branch.parameter.max() - branch.parameter.min()
    middle = special.parameter
    first_range = within or (middle - 10 * span, middle + 10 * span)
    system = _System(branch, branch.track.sheet, special, second, abs(high - low))
    start = np.append(branch.track.points[special.position].node.X, 0.0)
    along = np.zeros(len(start))
    along[-1] = 1.0
    corrected = system.curve.correct(start, along)
    first = corrected and node_at(system.curve, corrected[0], along, 0.0)
    if not first:
        raise NumericalFailure("the curve of the special point cannot be started", special)
    sides = []
    for sign in (-1.0, 1.0):
        node = replace(first[0], tangent=sign * first[0].tangent)
        sides.append(_side(system, node, (low, high), first_range, steps or Steps(count=400)))
    nodes = [*reversed(sides[0]), first[0], *sides[1]]
    rows = [system.values(node.X) for node in nodes]
    values, others, errors = (np.array(column) for column in zip(*rows, strict=True))
    names = branch.name, parameter
    return SpecialCurve(special.kind, names, values, others, errors)


def _side(
    system: _System,
    start: Node,
    second: tuple[float, float],
    first: tuple[float, float],
    steps: Steps,
) -> list[Node]:
    nodes = []
    for node in walk(system.curve, start, steps):
        value, other, _ = system.values(node.X)
        inside = min(second) <= other <= max(second) and first[0] <= value <= first[1]
        lower, upper = system.first.limits
        if not inside or not lower <= value <= upper:
            break
        nodes.append(node)
    return nodes


class _System:
    """F = 0 and growth = 0 in the unknowns X = (z, λ, μ), scaled as those of the branch."""

    def __init__(
        self, branch: Branch, sheet: Sheet, special: Special, second: Steady, unit: float
    ) -> None:
        self.special, self.second, self.unit = special, second, unit
        self.first = Steady(branch.experiment, branch.name)
        self.sheet = sheet
        self.curve = Curve(self._residual, self._jacobian, self._slope)

    def _at(self, X: Array) -> tuple[Steady, Sheet]:
        other = self.second.value + self.unit * float(X[-1])
        steady = replace(self.first, moved=(self.second, other))
        return steady, replace(self.sheet, problem=steady.problem)

    def values(self, X: Array) -> tuple[float, float, float]:
        """Both parameters and ε."""
        steady, sheet = self._at(X)
        x, value = sheet.split(X[:-1])
        other = self.second.value + self.unit * float(X[-1])
        return value, other, steady.error(x, value)

    def _growth(self, X: Array) -> float:
        """Mean growth rate of the modes that cross: those closest to neutral."""
        steady, sheet = self._at(X)
        problem = steady.problem
        eigenvalues = np.linalg.eigvals(problem.jacobian(*sheet.split(X[:-1]))).astype(complex)
        growth = problem.growth(eigenvalues)
        if self.special.kind in ("hopf", "neimark-sacker"):
            growth = growth[np.abs(np.imag(eigenvalues)) > 1e-8 * np.abs(eigenvalues).max()]
        return float(growth[np.argsort(np.abs(growth))[: self.special.multiplicity]].mean())

    def _residual(self, X: Array) -> Array:
        sheet = self._at(X)[1]
        return np.append(sheet.curve.residual(X[:-1]), self._growth(X))

    def _difference(self, X: Array, index: int) -> float:
        step = np.zeros(len(X))
        step[index] = DIFFERENCE * (1 + np.abs(X).max())
        return (self._growth(X + step) - self._growth(X - step)) / (2 * step[index])

    def _jacobian(self, X: Array) -> Array:
        sheet = self._at(X)[1]
        inner = X[:-1]
        matrix = np.empty((len(inner), len(inner)))
        matrix[:-1, :-1] = sheet.curve.jacobian(inner)
        matrix[:-1, -1] = sheet.curve.slope(inner)
        matrix[-1] = [self._difference(X, i) for i in range(len(inner))]
        return matrix

    def _slope(self, X: Array) -> Array:
        step = np.zeros(len(X))
        step[-1] = DIFFERENCE
        change = self._at(X + step)[1].curve.residual(X[:-1])
        change = change - self._at(X - step)[1].curve.residual(X[:-1])
        return np.append(change / (2 * DIFFERENCE), self._difference(X, len(X) - 1))
