"""What a solver hands back: values, a status with a sentence, and how to get the data out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers import states
from solvers.arrays import Arrays, Tabular

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from solvers.experiment import Experiment
    from theory.overlaps import Layout

Array = NDArray[np.float64]


class Status(StrEnum):
    """How a computation ended."""

    success = "success"
    diverged = "diverged"
    unphysical = "unphysical"
    not_converged = "not-converged"
    interrupted = "interrupted"


class NumericalFailure(RuntimeError):
    """A computation that ended badly; ``result`` holds what there is of it."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class State:
    """One macroscopic state: Q (K, K), R (K, M) (a leading block axis if structured), w (K,), ε."""

    Q: Array
    R: Array
    w: Array
    error: float


@dataclass(frozen=True)
class Plateau:
    """An interval of time in which the error hardly moves; ``error`` is its level."""

    start: float
    end: float
    error: float

    @property
    def length(self) -> float:
        """The time spent on it."""
        return self.end - self.start


@dataclass(frozen=True, repr=False)
class Trajectory(Tabular):
    """The order parameters along time.

    ``time`` (n,) counts α = outer updates / N, or outer steps in the population regime.
    Q (n, K, K), R (n, K, M) (with a block axis second for structured inputs), w (n, K), error (n,).
    ``plateaus``, ``escape_time`` and ``speed`` (|d ln ε/dα| at the end) are taken from the dense
    solution, not from the stored points.
    """

    experiment: Experiment
    layout: Layout
    time: Array
    Q: Array
    R: Array
    w: Array
    error: Array
    observables: Mapping[str, Array] = field(default_factory=dict)
    status: Status = Status.success
    message: str = ""
    warnings: tuple[str, ...] = ()
    plateaus: tuple[Plateau, ...] = ()
    escape_time: float | None = None
    speed: float = 0.0
    evaluations: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        return (
            f"{self.status} at time {self.time[-1]:g}, {self.label}, error {self.error[-1]:.6g}"
        )

    @property
    def final(self) -> State:
        """The last stored state."""
        return State(self.Q[-1], self.R[-1], self.w[-1], float(self.error[-1]))

    @cached_property
    def specializations(self) -> Array:
        """The specialization at each stored time, (n,); NaN where a norm vanishes."""
        fields = states.fields(self.Q, self.R, self.experiment.parameters, self.layout)
        return states.specializations(*fields)

    @property
    def specialization(self) -> float | None:
        """The specialization of the final state; None if a norm vanishes."""
        value = float(self.specializations[-1])
        return None if np.isnan(value) else value

    @property
    def label(self) -> str:
        """What the final state is, in the words of ``states.LABELS``."""
        if self.status is Status.diverged:
            return "diverged"
        Q, R, T = states.fields(self.Q[-1], self.R[-1], self.experiment.parameters, self.layout)
        return states.label(Q, R, T, change=self.speed * float(self.time[-1]) / 10)

    @property
    def arrays(self) -> Arrays:
        """Everything along time, with units."""
        block = ("block",) if self.layout.blocks else ()
        steps = self.experiment.rule.regime == "population"
        unit = "outer steps" if steps else "outer updates / N"
        variables = {
            "Q": (("time", *block, "learner", "learner_other"), self.Q, "learner overlaps JJᵀ/N"),
            "R": (("time", *block, "learner", "teacher"), self.R, "learner-teacher overlaps JBᵀ/N"),
            "w": (("time", "learner"), self.w, "head of the learner"),
            "error": ("time", self.error, "½E[(f − y)²] on new data, after the rule's adaptation"),
            "specialization": (
                "time",
                self.specializations,
                "alignment of units with own teachers",
            ),
            **{
                n: (_axes(n, values), values, "observable")
                for n, values in self.observables.items()
            },
        }
        described = {
            name: (dimensions, values, {"long_name": text, "units": "1"})
            for name, (dimensions, values, text) in variables.items()
        }
        time = ("time", self.time, {"long_name": "time α" if not steps else "step", "units": unit})
        return Arrays.of(described, {"time": time}, self._attributes())

    def _attributes(self) -> dict[str, Any]:
        plateaus = [[p.start, p.end, p.error] for p in self.plateaus]
        return {
            "kind": "trajectory",
            "status": str(self.status),
            "message": self.message,
            "warnings": json.dumps(self.warnings, ensure_ascii=False),
            "plateaus": json.dumps(plateaus),
            "escape_time": json.dumps(self.escape_time),
            "speed": self.speed,
            "observables": json.dumps(list(self.observables), ensure_ascii=False),
            "evaluations": json.dumps(dict(self.evaluations)),
            "seconds": json.dumps(dict(self.seconds)),
        }

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> Trajectory:
        """The trajectory that ``dataset`` was made of."""
        attributes = dataset.attrs
        names = ("time", "Q", "R", "w", "error")
        return cls(
            experiment=experiment,
            layout=experiment.layout,
            **{name: dataset[name].values for name in names},
            observables={n: dataset[n].values for n in json.loads(attributes["observables"])},
            status=Status(attributes["status"]),
            message=attributes["message"],
            warnings=tuple(json.loads(attributes["warnings"])),
            plateaus=tuple(Plateau(*row) for row in json.loads(attributes["plateaus"])),
            escape_time=json.loads(attributes["escape_time"]),
            speed=float(attributes["speed"]),
            evaluations=json.loads(attributes["evaluations"]),
            seconds=json.loads(attributes["seconds"]),
        )

    def plot(self, ensemble: Any = None) -> Figure:
        """The figure of the run: error, overlaps, plateaus, and a simulation if one is given."""
        from solvers.plotting.trajectory import trajectory_figure

        return trajectory_figure(self, ensemble)


def _axes(name: str, values: Array) -> tuple[str, ...]:
    """Names of the axes of an observable: time, then its own."""
    return ("time", *(f"{name}_{axis}" for axis in range(values.ndim - 1)))


def stored_times(end: float, points: int, spacing: str, whole: bool = False) -> Array:
    """``points`` times from 0 to ``end``, both included; whole numbers for steps, each once.

    Logarithmic spacing runs from end/10⁶ (from the first step) to the end, after 0 itself.
    """
    if end == 0:
        return np.zeros(1)
    if spacing == "log" and points > 2:
        first = 1.0 if whole else 1e-6 * end
        times = np.append(0.0, np.geomspace(first, end, points - 1))
        times[-1] = end
    else:
        times = np.linspace(0.0, end, points)
    return np.unique(np.round(times)) if whole else times
