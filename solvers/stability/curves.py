"""Curves of a special point in two parameters: the boundary of a phase, by continuation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import Arrays, Tabular
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.stability.arclength import Curve, Node, Steps, node_at, walk
from solvers.stability.problem import moving_modes
from solvers.stability.steady import Steady
from solvers.stability.track import Sheet

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from solvers.experiment import Experiment
    from solvers.stability.branch import Branch, Diagram, Special

Array = NDArray[np.float64]

SINGULAR = 1e-5
"""A singular value below this share of the largest is zero at a special point."""
DIFFERENCE = 1e-5
"""Relative width of the differences that give the gradient of the critical growth rate."""


@dataclass(frozen=True, repr=False)
class SpecialCurve(Tabular):
    """Where a special point lies: ``first`` and ``second`` parameter (n,), and ε (n,) there.

    ``ends`` says why the curve ends on either side.
    """

    kind: str
    names: tuple[str, str]
    first: Array
    second: Array
    error: Array
    ends: tuple[str, str] = ("", "")

    @property
    def sentence(self) -> str:
        """Where the curve runs, in one sentence."""
        ranges = [f"{v.min():.6g} … {v.max():.6g}" for v in (self.first, self.second)]
        return (
            f"{self.kind}: {self.names[0]} {ranges[0]} over {self.names[1]} {ranges[1]}, "
            f"{len(self.first)} points"
        )

    @property
    def arrays(self) -> Arrays:
        """The curve along ``point``."""
        data = {name: ("point", getattr(self, name)) for name in ("first", "second", "error")}
        names = {"first_parameter": self.names[0], "second_parameter": self.names[1]}
        return Arrays.of(data, attrs={"kind": "special-curve", "special": self.kind, **names})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn continue --json`` prints them."""
        values = {name: getattr(self, name).tolist() for name in ("first", "second", "error")}
        return {"kind": self.kind, "parameters": list(self.names), **values,
                "ends": list(self.ends)}  # fmt: skip


@dataclass(frozen=True, repr=False)
class SpecialCurves(Tabular, Sequence[SpecialCurve]):
    """Curves of several special points of one diagram."""

    experiment: Experiment
    curves: tuple[SpecialCurve, ...]

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, index: Any) -> Any:
        return self.curves[index]

    @property
    def sentence(self) -> str:
        """The curves, one after the other."""
        return "; ".join(curve.sentence for curve in self) or "no curve"

    @property
    def arrays(self) -> Arrays:
        """All points of all curves along ``point``, with the number of their curve."""
        numbers = np.repeat(np.arange(len(self)), [len(c.first) for c in self])
        data = {
            name: ("point", np.concatenate([getattr(c, name) for c in self]))
            for name in ("first", "second", "error")
        }
        about = [{"kind": c.kind, "names": c.names, "ends": c.ends} for c in self]
        data["curve"] = "point", numbers
        return Arrays.of(data, attrs={"kind": "special-curves", "curves": json.dumps(about)})

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> SpecialCurves:
        """The curves that ``dataset`` was made of."""
        curves = []
        for number, about in enumerate(json.loads(dataset.attrs["curves"])):
            part = dataset.isel(point=np.flatnonzero(dataset["curve"].values == number))
            first, second, error = (part[name].values for name in ("first", "second", "error"))
            names, ends = tuple(about["names"]), tuple(about["ends"])
            curves.append(SpecialCurve(about["kind"], names, first, second, error, ends))
        return cls(experiment, tuple(curves))

    def plot(self) -> Figure:
        """The plane of the two parameters with the curves."""
        from solvers.plotting.branch import curves_figure

        return curves_figure(self)


def second_range(
    experiment: Experiment, key: str, low: float, high: float
) -> tuple[Steady, float, float]:
    """The flow with the second parameter of a curve, and the ends of its range, in order.

    Raises:
        ExperimentError: the key is no number of the experiment, or the range is none for it or
            does not contain the value of the experiment.
    """
    second = Steady(experiment, key)
    low, high = second.ends(low, high)
    if not low <= second.value <= high:
        raise ExperimentError(
            f"the range of {key} must contain the value of the experiment, {second.value:g}"
        )
    return second, low, high


def special_curves(diagram: Diagram, parameter: str, low: float, high: float) -> SpecialCurves:
    """The curves of the special points of a diagram at which stability is lost.

    Of all points where modes cross if there is none; the same point of two branches is one.

    Raises:
        ExperimentError: the second parameter, or the range of it, makes no sense.
    """
    second, low, high = second_range(diagram.experiment, parameter, low, high)
    found: list[SpecialCurve] = []
    points = [(b, s) for b in diagram for s in b.special_points if s.multiplicity]
    points = [(b, s) for b, s in points if s.critical] or points
    for branch, special in points:
        if any(_passes(curve, special.parameter, second.value, special.error) for curve in found):
            continue
        try:
            found.append(special_curve(branch, special, parameter, low, high))
        except NumericalFailure:
            continue
    return SpecialCurves(diagram.experiment, tuple(found))


def _passes(curve: SpecialCurve, first: float, second: float, error: float) -> bool:
    """Whether a curve goes through a point, up to the length of its steps."""
    before, after = curve.second[:-1] - second, curve.second[1:] - second
    at = np.flatnonzero(before * after <= 0)
    return any(
        min(abs(curve.first[i] - first), abs(curve.first[i + 1] - first))
        <= abs(curve.first[i + 1] - curve.first[i]) + 1e-7 * abs(first)
        and abs(curve.error[i] - error) <= abs(curve.error[i + 1] - curve.error[i]) + 1e-7
        for i in at
    )


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
    second, low, high = second_range(branch.experiment, parameter, low, high)
    span = branch.parameter.max() - branch.parameter.min()
    middle = special.parameter
    first_range = within or (middle - 10 * span, middle + 10 * span)
    system = _System(branch, branch.track.sheet, special, second, high - low)
    start = system.start(branch.track.points[special.position].node.X)
    along = np.zeros(len(start))
    along[-1] = 1.0
    corrected = system.curve.correct(start, along)
    first = corrected and node_at(system.curve, corrected[0], along, 0.0)
    if not first:
        raise NumericalFailure("the curve of the special point cannot be started", special)
    sides, ends = [], []
    for sign in (-1.0, 1.0):
        node = replace(first[0], tangent=sign * first[0].tangent)
        nodes, end = _side(system, node, (low, high), first_range, steps or Steps(count=400))
        sides.append(nodes)
        ends.append(end)
    nodes = [*reversed(sides[0]), first[0], *sides[1]]
    rows = [system.values(node.X) for node in nodes]
    values, others, errors = (np.array(column) for column in zip(*rows, strict=True))
    names = branch.name, parameter
    return SpecialCurve(special.kind, names, values, others, errors, (ends[0], ends[1]))


def _side(
    system: _System,
    start: Node,
    second: tuple[float, float],
    first: tuple[float, float],
    steps: Steps,
) -> tuple[list[Node], str]:
    """The nodes on one side of ``start``, and why there are no more."""
    nodes: list[Node] = []
    lower, upper = system.first.limits
    for node in walk(system.curve, start, steps):
        value, other, _ = system.values(node.X)
        for name, at, low, high in (
            (system.second.parameter, other, *second),
            (system.first.parameter, value, max(first[0], lower), min(first[1], upper)),
        ):
            if not low <= at <= high:
                return nodes, f"{name} reaches {low if at < low else high:.6g}"
        nodes.append(node)
    if len(nodes) >= steps.count:
        return nodes, f"{steps.count} points were computed"
    return nodes, "no further point was found: the point meets another one"


class _System:
    """F = 0 and growth = 0 in the unknowns X = (z, λ, μ), scaled as those of the branch.

    Where branches of the same symmetry cross, that is singular. There F + βψ = 0, growth = 0 and
    φ·∂F/∂λ = 0 are solved for (z, λ, β, μ): φ is the left null vector of ∂F/∂z, ψ that at the
    start, and β = 0 on the curve (the unfolding of a transcritical point or a pitchfork).
    """

    def __init__(
        self, branch: Branch, sheet: Sheet, special: Special, second: Steady, unit: float
    ) -> None:
        self.special, self.second, self.unit = special, second, unit
        self.first = Steady(branch.experiment, branch.name)
        self.sheet = sheet
        self.size = sheet.right.shape[1] + 1
        self.curve = Curve(self._residual, self._jacobian, self._slope)
        self._flow_at = lru_cache(maxsize=8)(self._flow)
        self.unfolded: Array | None = None

    def start(self, X: Array) -> Array:
        """The unknowns at the point X = (z, λ) of the branch, where the curve starts."""
        U, singular, _ = np.linalg.svd(self.sheet.curve.jacobian(X))
        if self.special.kind == "branch-point" and singular[-1] < SINGULAR * singular[0]:
            self.unfolded = U[:, -1]
            X = np.append(X, 0.0)
        return np.append(X, 0.0)

    def _at(self, X: Array) -> tuple[Steady, Sheet]:
        return self._flow_at(self.second.value + self.unit * float(X[-1]))

    def _flow(self, other: float) -> tuple[Steady, Sheet]:
        steady = replace(self.first, moved=(self.second, other))
        return steady, replace(self.sheet, problem=steady.problem)

    def values(self, X: Array) -> tuple[float, float, float]:
        """Both parameters and ε."""
        steady, sheet = self._at(X)
        x, value = sheet.split(X[: self.size])
        other = self.second.value + self.unit * float(X[-1])
        return value, other, steady.error(x, value)

    def _conditions(self, X: Array) -> Array:
        """What vanishes beside F: the growth rate and, if unfolded, φ·∂F/∂λ."""
        steady, sheet = self._at(X)
        J = steady.problem.jacobian(*sheet.split(X[: self.size]))
        if not np.isfinite(J).all():
            return np.full(1 if self.unfolded is None else 2, np.nan)
        growth = self._growth(steady, sheet, J)
        if self.unfolded is None:
            return np.array([growth])
        left = np.linalg.svd(sheet.curve.jacobian(X[: self.size]))[0][:, -1]
        left = left * np.sign(left @ self.unfolded)
        return np.array([growth, left @ sheet.curve.slope(X[: self.size])])

    def _growth(self, steady: Steady, sheet: Sheet, J: Array) -> float:
        """Mean growth rate of the modes that cross: those closest to neutral."""
        eigenvalues = moving_modes(np.linalg.eigvals(J).astype(complex), sheet.neutral)
        growth = steady.problem.growth(eigenvalues)
        if self.special.kind in ("hopf", "neimark-sacker"):
            growth = growth[np.abs(np.imag(eigenvalues)) > 1e-8 * np.abs(eigenvalues).max()]
        return float(growth[np.argsort(np.abs(growth))[: self.special.multiplicity]].mean())

    def _residual(self, X: Array) -> Array:
        F = self._at(X)[1].curve.residual(X[: self.size])
        if self.unfolded is not None:
            F = F + X[-2] * self.unfolded
        return np.append(F, self._conditions(X))

    def _difference(self, X: Array, index: int) -> Array:
        step = np.zeros(len(X))
        step[index] = DIFFERENCE * (1 + np.abs(X).max())
        return (self._conditions(X + step) - self._conditions(X - step)) / (2 * step[index])

    def _jacobian(self, X: Array) -> Array:
        curve, inner, n = self._at(X)[1].curve, X[: self.size], self.size
        matrix = np.zeros((len(X) - 1, len(X) - 1))
        matrix[: n - 1, : n - 1] = curve.jacobian(inner)
        matrix[: n - 1, n - 1] = curve.slope(inner)
        if self.unfolded is not None:
            matrix[: n - 1, n] = self.unfolded
        matrix[n - 1 :, :n] = np.array([self._difference(X, i) for i in range(n)]).T
        return matrix

    def _slope(self, X: Array) -> Array:
        step = np.zeros(len(X))
        step[-1] = DIFFERENCE
        change = self._at(X + step)[1].curve.residual(X[: self.size])
        change = change - self._at(X - step)[1].curve.residual(X[: self.size])
        return np.append(change / (2 * DIFFERENCE), self._difference(X, len(X) - 1))
