"""Escape from a plateau: predicted from the fixed point it lingers at, and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers import states
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure, Plateau, Trajectory
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.fixed_points import fixed_point_near
from solvers.stability.steady import Steady
from solvers.trajectories.plateau import ESCAPED

Array = NDArray[np.float64]

LINEAR = 1e-3
"""Deviations below this share of the fixed point's largest overlap follow the linearised flow."""


@dataclass(frozen=True)
class Escape:
    """How long a start near an unstable fixed point stays there.

    ``predicted`` is the time until the specialization exceeds 0.3: ``linear`` of it by the
    linearised flow, until the deviation from the fixed point has grown to ``LINEAR``, and the
    rest, which is the same for every smaller start, by the flow. ``rate`` is the growth rate of
    the leading mode and ``amplitude`` the initial deviation along it. ``uncertainty`` is the
    change of the prediction when the linear stage ends at half the deviation. ``linearised`` is
    the time by the linearised flow alone. ``measured`` and ``relative_error`` compare with a
    trajectory, if there is one.
    """

    predicted: float
    linear: float
    rate: float
    amplitude: float
    uncertainty: float
    linearised: float
    measured: float | None = None

    @property
    def relative_error(self) -> float | None:
        """(predicted − measured)/measured."""
        return None if self.measured is None else self.predicted / self.measured - 1

    @property
    def linearised_error(self) -> float | None:
        """(linearised − measured)/measured: what the linearised flow alone misses."""
        return None if self.measured is None else self.linearised / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, as ``macrodyn run --json`` prints them."""
        return {
            "rate": self.rate, "amplitude": self.amplitude, "linearised": self.linearised,
            "predicted": self.predicted, "measured": self.measured,
            "linearised_error": self.linearised_error, "relative_error": self.relative_error,
        }  # fmt: skip


@dataclass(frozen=True)
class Lingering:
    """A plateau of a trajectory with the fixed point it lingers at, and the escape from there.

    ``distance`` is the largest difference of an overlap at the slowest point of the plateau.
    """

    plateau: Plateau
    fixed_point: FixedPoint
    distance: float
    escape: Escape | None

    @property
    def sentence(self) -> str:
        """Which fixed point it is, and the escape predicted and measured, in one sentence."""
        point = self.fixed_point
        many = f"{point.unstable} direction{'s' * (point.unstable != 1)}"
        kind = "stable" if point.stable else f"unstable in {many}"
        text = f"lingers at a {point.label} fixed point ({kind}, error {point.error:.6g})"
        if self.escape is not None and self.escape.linearised_error is not None:
            text += (
                f"; by its linearised flow, of rate {self.escape.rate:.4g}, the escape is at "
                f"{self.escape.linearised:.5g} ({self.escape.linearised_error:+.1%})"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn run --json`` prints them."""
        point = self.fixed_point
        return {
            "fixed_point": {
                "Q": point.Q.tolist(), "R": point.R.tolist(), "w": point.w.tolist(),
                "error": point.error, "unstable": point.unstable, "label": point.label,
                "distance": self.distance,
            },
            "escape": self.escape and self.escape.to_dict(),
        }  # fmt: skip


def predict_escape(point: FixedPoint, Q: Array, R: Array, w: Array) -> Escape:
    """The escape from an unstable fixed point, started at (Q, R, w) near it.

    Raises:
        ExperimentError: the fixed point is stable, or the start has no part along a growing mode.
    """
    if point.stable:
        raise ExperimentError("a stable fixed point is not escaped from")
    steady = Steady(point.experiment)
    deviation = steady.experiment.layout.pack(Q, R, w)[steady.free] - point.x
    J = steady.problem.jacobian(point.x, 0.0)
    rate, amplitude = _leading(J, deviation)
    if amplitude < 1e-14 * (1 + np.abs(point.x).max()):
        raise ExperimentError("the start has no part along a growing mode: it never escapes")
    scale = LINEAR * float(np.abs(point.x).max())
    times = [_two_stages(steady, point, J, deviation, level) for level in (scale, scale / 2)]
    (linear, rest), (other_linear, other_rest) = times
    predicted = linear + rest
    uncertainty = abs(other_linear + other_rest - predicted)
    alone = _linearised(steady, point, J, deviation, rate)
    return Escape(predicted, linear, rate, amplitude, uncertainty, alone)


def _leading(J: Array, deviation: Array) -> tuple[float, float]:
    """Growth rate of the leading mode, and the size of the deviation's part in growing modes."""
    values, vectors = np.linalg.eig(J)
    growing = np.real(values) > 1e-10 * np.abs(values).max()
    parts = np.linalg.lstsq(vectors, deviation.astype(complex), rcond=None)[0]
    part = np.real(vectors[:, growing] @ parts[growing])
    return float(np.real(values).max()), float(np.abs(part).max(initial=0.0))


def _two_stages(
    steady: Steady, point: FixedPoint, J: Array, deviation: Array, level: float
) -> tuple[float, float]:
    """Time of the linear stage, up to a deviation of ``level``, and of the stage that follows."""
    rate = float(np.linalg.eigvals(J).real.max())

    def grown(time: float) -> Array:
        return scipy.linalg.expm(J * time) @ deviation

    size = float(np.abs(deviation).max())
    linear = 0.0
    if size < level:
        excess: Callable[[float], float] = lambda t: np.log(np.abs(grown(t)).max() / level)  # noqa: E731
        upper = np.log(level / size) / rate + 1 / rate
        while excess(upper) < 0:
            upper += 2 / rate
        linear = float(scipy.optimize.brentq(excess, 0.0, upper, xtol=1e-10 * upper))
    return linear, _passage(steady, point.x + grown(linear), rate)


def _specialization(steady: Steady, x: Array) -> float:
    experiment = steady.experiment
    Q, R, _ = experiment.layout.unpack(steady.state(x, 0.0))
    fields = states.fields(Q, R, experiment.parameters, experiment.layout)
    return states.specialization(*fields) or 0.0


def _linearised(
    steady: Steady, point: FixedPoint, J: Array, deviation: Array, rate: float
) -> float:
    """Time until the specialization of the linearised flow exceeds 0.3; infinity if never."""
    step = 0.25 / rate
    moved = scipy.linalg.expm
    forward = moved(J * step)
    for count in range(400):
        if _specialization(steady, point.x + forward @ deviation) > ESCAPED:
            start = deviation
            excess: Callable[[float], float] = (  # noqa: E731
                lambda t: _specialization(steady, point.x + moved(J * t) @ start) - ESCAPED  # noqa: B023
            )
            within = float(scipy.optimize.brentq(excess, 0.0, step)) if excess(0.0) < 0 else 0.0
            return count * step + within
        deviation = forward @ deviation
    return np.inf


def _passage(steady: Steady, start: Array, rate: float) -> float:
    """Time that the flow takes from ``start`` to a specialization of 0.3."""

    def excess(_: float, x: Array) -> float:
        return _specialization(steady, x) - ESCAPED

    excess.terminal = True  # type: ignore[attr-defined]
    if excess(0.0, start) >= 0:
        return 0.0
    solution = scipy.integrate.solve_ivp(
        lambda _, x: steady.problem.residual(x, 0.0),
        (0.0, 200 / rate),
        start,
        method="DOP853",
        events=excess,
        rtol=1e-9,
        atol=1e-13,
    )
    if solution.status != 1:
        raise NumericalFailure(
            "The flow does not specialise after leaving the fixed point: no escape time exists.",
            solution,
        )
    return float(solution.t_events[0][0])


def lingering(trajectory: Trajectory) -> tuple[Lingering, ...]:
    """For each plateau of a trajectory, the fixed point it lingers at and the escape from it.

    The fixed point is reached by Newton's method from the slowest stored point of the plateau. The
    prediction propagates the linearised flow from there; it is None at a stable fixed point, after
    the escape, for maps, and where a cubature makes the flow costly. Plateaus without a fixed
    point nearby are left out.
    """
    experiment, found = trajectory.experiment, []
    states_along = experiment.layout.pack(trajectory.Q, trajectory.R, trajectory.w)
    p = experiment.parameters
    for plateau in trajectory.plateaus:
        inside = (trajectory.time >= plateau.start) & (trajectory.time <= plateau.end)
        indices = np.flatnonzero(inside)
        if not len(indices):
            continue
        speeds = [np.abs(experiment.compiled.rhs(states_along[i], p)).max() for i in indices]
        slowest = int(indices[int(np.argmin(speeds))])
        start = trajectory.Q[slowest], trajectory.R[slowest], trajectory.w[slowest]
        try:
            point = fixed_point_near(experiment, *start)
        except NumericalFailure:
            continue
        distance = float(np.abs(point.y - states_along[slowest]).max())
        found.append(
            Lingering(plateau, point, distance, _compare(trajectory, point, start, slowest))
        )
    return tuple(found)


def _compare(
    trajectory: Trajectory, point: FixedPoint, start: tuple[Array, Array, Array], index: int
) -> Escape | None:
    reached = trajectory.escape_time
    if point.stable or reached is None or reached <= trajectory.time[index]:
        return None
    steady = Steady(trajectory.experiment)
    if steady.problem.discrete or steady.costly:
        return None
    try:
        escape = predict_escape(point, *start)
    except (ExperimentError, NumericalFailure):
        return None
    since = float(trajectory.time[index])
    return replace(
        escape,
        predicted=escape.predicted + since,
        linearised=escape.linearised + since,
        measured=reached,
    )
