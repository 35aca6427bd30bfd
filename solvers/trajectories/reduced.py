"""Trajectories of compiled reductions: a few order parameters, for any number of units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import Arrays, Tabular
from solvers.results import NumericalFailure, Status, stored_times
from solvers.states import DIVERGENCE
from solvers.trajectories.paths import iterate, solve

if TYPE_CHECKING:
    import xarray

    from theory.reduced import CompiledReduction

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class ReducedTrajectory(Tabular):
    """A trajectory of reduced order parameters: ``y`` (times, parameters), named by ``names``.

    ``made`` says of what: rule, ansatz, activation, parameters, the digest of the source.
    """

    time: Array
    y: Array
    error: Array
    names: tuple[str, ...]
    status: Status
    message: str
    evaluations: Mapping[str, int]
    made: Mapping[str, Any]

    def __getitem__(self, name: str) -> Array:
        """One order parameter along the trajectory."""
        return self.y[:, self.names.index(name)]

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        last = ", ".join(f"{name} {self[name][-1]:.6g}" for name in self.names)
        return f"{self.status} at time {self.time[-1]:g}, {last}, error {self.error[-1]:.6g}"

    @property
    def arrays(self) -> Arrays:
        """The order parameters and ε by name, along time."""
        data = {name: ("time", self[name]) for name in self.names} | {"error": ("time", self.error)}
        attributes = {
            "kind": "reduced-trajectory", "status": str(self.status), "message": self.message,
            "evaluations": json.dumps(dict(self.evaluations)), "names": json.dumps(self.names),
            "made": json.dumps(dict(self.made)),
        }  # fmt: skip
        return Arrays.of(data, {"time": ("time", self.time)}, attributes)

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: None = None) -> ReducedTrajectory:
        """The trajectory that ``dataset`` was made of; no experiment belongs to it."""
        attributes = dataset.attrs
        names = tuple(json.loads(attributes["names"]))
        y = np.stack([dataset[name].values for name in names], axis=1)
        return cls(
            dataset["time"].values, y, dataset["error"].values, names,
            Status(attributes["status"]), attributes["message"],
            json.loads(attributes["evaluations"]), json.loads(attributes["made"]),
        )  # fmt: skip


def integrate_reduction(
    flow: CompiledReduction, start: Mapping[str, float] | Sequence[float],
    parameters: Mapping[str, float], time: float, *, method: str = "LSODA",
    rtol: float = 1e-8, atol: float = 1e-12, points: int = 400, throw: bool = True,
) -> ReducedTrajectory:  # fmt: skip
    """The reduced flow from ``start`` up to ``time``, by LSODA with the exact Jacobian.

    The cost does not depend on the numbers of units K and M. A map (regime population) is
    iterated. Where a plateau is left, both tolerances must lie well below the asymmetry of the
    start, R − S.

    Raises:
        ValueError: ``start`` does not give the order parameters ``flow.names``.
        NumericalFailure: the status is not success; ``.result`` holds what was computed. With
            ``throw=False`` that is returned instead.

    >>> from theory.reduced import compile_reduction
    >>> from theory.rules import Sgd
    >>> flow = compile_reduction(Sgd(outer_rate=0.5), "site-symmetric", backend="numpy")
    >>> p = flow.parameters(K=2, head_mean=1.0)
    >>> start = {"Q": 0.2, "C": 0.0, "R": 0.02, "S": 0.0, "w": 1.0}
    >>> run = integrate_reduction(flow, start, p, 1000.0)
    >>> round(float(run["R"][-1]), 4)
    1.0
    """
    if isinstance(start, Mapping):
        start = [start[name] for name in flow.names] if set(start) == set(flow.names) else []
    begin = np.asarray(start, float)
    if begin.shape != (len(flow.names),):
        raise ValueError(f"start must give {', '.join(flow.names)}")
    rate, jacobian, error = (flow.bound(n, parameters) for n in ("flow", "jacobian", "error"))
    pairs = np.array([name[0] in "QCD" for name in flow.names])

    def bounded(y: Array) -> bool:
        return bool(np.abs(y[pairs]).max() < DIVERGENCE)

    if discrete := flow.rule.regime == "population":
        path = iterate(rate, begin, int(time), bounded)
    else:
        path = solve(rate, jacobian, begin, time, bounded, method, rtol, atol)
    times = stored_times(path.end, points, "linear", discrete)
    y = path.at(times)
    errors = np.array([error(state)[0] for state in y])
    result = ReducedTrajectory(
        times, y, errors, flow.names, path.status, path.message, path.evaluations,
        flow.description | {"parameters": dict(parameters)},
    )  # fmt: skip
    if throw and path.status is not Status.success:
        raise NumericalFailure(path.message, result)
    return result
