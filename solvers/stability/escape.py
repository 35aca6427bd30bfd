"""Escape from a plateau: predicted from the fixed point it lingers at, and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers import states
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.steady import Steady
from solvers.trajectories.integrate import path_from
from solvers.trajectories.paths import Path
from solvers.trajectories.plateau import escape_time, root

Array = NDArray[np.float64]
Flow = Callable[[float, Array], Array]

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
    grown = _linear_flow(J, steady.problem.residual(point.x, 0.0))
    if amplitude < 1e-14 * (1 + np.abs(point.x).max()):
        raise ExperimentError("the start has no part along a growing mode: it never escapes")
    scale = LINEAR * float(np.abs(point.x).max())
    times = [
        _two_stages(steady, point, grown, deviation, level, rate) for level in (scale, scale / 2)
    ]
    (linear, rest), (other_linear, other_rest) = times
    predicted = linear + rest
    uncertainty = abs(other_linear + other_rest - predicted)
    alone = _linearised(steady, point, grown, deviation, rate)
    return Escape(predicted, linear, rate, amplitude, uncertainty, alone)


def _leading(J: Array, deviation: Array) -> tuple[float, float]:
    """Growth rate of the leading mode, and the size of the deviation's part in growing modes."""
    values, vectors = np.linalg.eig(J)
    growing = np.real(values) > 1e-10 * np.abs(values).max()
    parts = np.linalg.lstsq(vectors, deviation.astype(complex), rcond=None)[0]
    part = np.real(vectors[:, growing] @ parts[growing])
    return float(np.real(values).max()), float(np.abs(part).max(initial=0.0))


def _linear_flow(J: Array, F: Array) -> Flow:
    """(t, d) → the solution at t of ẋ = F + J x from d (F vanishes at a fixed point)."""
    n = len(F)
    generator = np.zeros((n + 1, n + 1))
    generator[:n, :n], generator[:n, n] = J, F
    return lambda time, d: (scipy.linalg.expm(generator * time) @ np.append(d, 1.0))[:n]


def _two_stages(
    steady: Steady, point: FixedPoint, grown: Flow, deviation: Array, level: float, rate: float
) -> tuple[float, float]:
    """Time of the linear stage, up to a deviation of ``level``, and of the stage that follows."""
    size = float(np.abs(deviation).max())
    linear = 0.0
    if size < level:

        def excess(times: Array) -> Array:
            sizes = [np.abs(grown(time, deviation)).max() for time in times]
            return np.log(np.array(sizes) / level)

        upper = np.log(level / size) / rate + 1 / rate
        while excess(np.array([upper])) < 0:
            upper += 2 / rate
        linear = root(excess, 0.0, upper)
    return linear, _passage(steady, point.x + grown(linear, deviation), rate)


def _specializations(steady: Steady, x: Array) -> Array:
    """The specialization of each state x (n, d)."""
    experiment = steady.experiment
    Q, R, _ = experiment.layout.unpack(steady.state(x, 0.0))
    return states.specializations(*states.fields(Q, R, experiment.parameters, experiment.layout))


def _linearised(
    steady: Steady, point: FixedPoint, grown: Flow, deviation: Array, rate: float
) -> float:
    """Time until the specialization of the linearised flow exceeds 0.3; infinity if never."""

    def specialized(times: Array) -> Array:
        return _specializations(steady, np.array([point.x + grown(t, deviation) for t in times]))

    for begin in range(0, 100, 10):
        times = np.linspace(begin / rate, (begin + 10) / rate, 41)
        escape = escape_time(times, specialized(times), specialized)
        if escape is not None:
            return escape
    return np.inf


def _passage(steady: Steady, start: Array, rate: float) -> float:
    """Time that the flow takes from ``start`` to a specialization of 0.3."""
    experiment, y = steady.experiment, steady.state(start, 0.0)
    for time in np.array([4.0, 20.0, 200.0]) / rate:
        path = path_from(experiment, y, time, experiment.parameters, [])

        def specialized(times: Array, path: Path = path) -> Array:
            return _specializations(steady, path.at(times)[:, steady.free])

        escape = escape_time(path.mesh, specialized(path.mesh), specialized)
        if escape is not None:
            return escape
    raise NumericalFailure(
        "The flow does not specialise after leaving the fixed point: no escape time exists.", start
    )
