"""Ensemble: what finite-N runs of the algorithm give, run by run, with mean and standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import Arrays, Tabular
from solvers.results import State, Status

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from solvers.experiment import Experiment
    from theory.overlaps import Layout

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Ensemble(Tabular):
    """Order parameters of independent finite-N runs from the same overlaps.

    ``runs[name]`` holds Q (runs, n, K, K), R (runs, n, K, M), w (runs, n, K), error (runs, n) and
    further observables (runs, n); with structured inputs a block axis stands before K of Q and R.
    ``Q``, ``R``, ``w``, ``error`` are means over the runs, ``standard_error[name]`` that of the
    mean (zero for a single run). ``time`` is steps / N, or steps in the population regime.
    """

    experiment: Experiment
    layout: Layout
    dimension: int
    seed: int
    time: Array
    runs: Mapping[str, Array]
    status: Status = Status.success
    message: str = ""
    warnings: tuple[str, ...] = ()
    steps: int = 0
    seconds: float = 0.0

    @cached_property
    def mean(self) -> dict[str, Array]:
        """The mean over runs of each quantity, (n, …)."""
        return {name: values.mean(axis=0) for name, values in self.runs.items()}

    @cached_property
    def standard_error(self) -> dict[str, Array]:
        """The standard error of each mean, (n, …)."""
        count = self.count
        if count == 1:
            return {name: np.zeros_like(values) for name, values in self.mean.items()}
        return {
            name: values.std(axis=0, ddof=1) / np.sqrt(count) for name, values in self.runs.items()
        }

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        spread = self.final_standard_error.error
        return (
            f"{self.status} at time {self.time[-1]:g}, {self.count} runs at N = {self.dimension}, "
            f"error {self.final.error:.6g} ± {spread:.2g}"
        )

    @property
    def count(self) -> int:
        """The number of runs."""
        return len(self.runs["w"])

    @property
    def Q(self) -> Array:
        """Mean of JJᵀ/N."""
        return self.mean["Q"]

    @property
    def R(self) -> Array:
        """Mean of JBᵀ/N."""
        return self.mean["R"]

    @property
    def w(self) -> Array:
        """Mean head."""
        return self.mean["w"]

    @property
    def error(self) -> Array:
        """Mean of ε at the runs' overlaps."""
        return self.mean["error"]

    @property
    def final(self) -> State:
        """The mean state at the last recorded time."""
        return State(self.Q[-1], self.R[-1], self.w[-1], float(self.error[-1]))

    @property
    def final_standard_error(self) -> State:
        """The standard errors of ``final``."""
        e = self.standard_error
        return State(e["Q"][-1], e["R"][-1], e["w"][-1], float(e["error"][-1]))

    @property
    def steps_per_second(self) -> float:
        """Outer steps of single runs per second."""
        return self.steps * self.count / self.seconds if self.seconds else 0.0

    @property
    def arrays(self) -> Arrays:
        """Per-run values, means and standard errors."""
        block = ("block",) if self.layout.blocks else ()
        axes = {
            "Q": ("time", *block, "learner", "learner_other"),
            "R": ("time", *block, "learner", "teacher"),
            "w": ("time", "learner"),
        }
        units, variables = {"units": "1"}, {}
        for name, values in self.runs.items():
            over = axes.get(name, ("time",))
            error = f"{name}_standard_error"
            variables[name] = (over, self.mean[name], {"long_name": f"mean of {name}", **units})
            variables[error] = (over, self.standard_error[name], {"long_name": error, **units})
            variables[f"{name}_runs"] = (("run", *over), values, {"long_name": name, **units})
        streaming = self.experiment.rule.regime == "streaming"
        unit = "outer updates / N" if streaming else "outer steps"
        time = ("time", self.time, {"long_name": "time α" if streaming else "step", "units": unit})
        return Arrays.of(variables, {"time": time}, self._attributes())

    def _attributes(self) -> dict[str, Any]:
        return {
            "kind": "ensemble",
            "dimension": self.dimension,
            "seed": self.seed,
            "status": str(self.status),
            "message": self.message,
            "warnings": json.dumps(self.warnings, ensure_ascii=False),
            "quantities": json.dumps(list(self.runs)),
            "steps": self.steps,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> Ensemble:
        """The ensemble that ``dataset`` was made of."""
        attributes = dataset.attrs
        names = json.loads(attributes["quantities"])
        return cls(
            experiment=experiment,
            layout=experiment.layout,
            dimension=int(attributes["dimension"]),
            seed=int(attributes["seed"]),
            time=dataset["time"].values,
            runs={name: dataset[f"{name}_runs"].values for name in names},
            status=Status(attributes["status"]),
            message=attributes["message"],
            warnings=tuple(json.loads(attributes["warnings"])),
            steps=int(attributes["steps"]),
            seconds=float(attributes["seconds"]),
        )

    def plot(self) -> Figure:
        """Error and overlaps along time, points with error bars."""
        from solvers.plotting.trajectory import ensemble_figure

        return ensemble_figure(self)
