"""What the rows have in common: orbits with the observables of linear networks, and slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.experiment import Experiment
from solvers.linear import subspace_distance, unlearned
from solvers.results import Trajectory
from solvers.trajectories.integrate import integrate

Array = NDArray[np.float64]


def _distance(Q: Array, R: Array, w: Array, T: Array) -> float:
    return subspace_distance(Q, R, T)


def _unlearned(Q: Array, R: Array, w: Array, T: Array) -> float:
    return unlearned(Q, R, T)


def orbit(source: str | Experiment, **changes: Any) -> Trajectory:
    """The orbit of a linear network with "distance" and "unlearned" as observables.

    ``changes`` name keys with two underscores for the dot. A run that diverges is returned with
    its status.
    """
    experiment = Experiment.load(source) if isinstance(source, str) else source
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    observables = {"distance": _distance, "unlearned": _unlearned}
    return integrate(experiment.replace(**dotted), observables=observables, throw=False)


def slope(time: Array, values: Array, high: float, low: float) -> float:
    """d log(values)/dt between the first times at which they are below ``high`` and ``low``.

    NaN if they never are.
    """
    if not (values < low).any():
        return float("nan")
    first, last = (int(np.argmax(values < level)) for level in (high, low))
    return float(np.log(values[last] / values[first]) / (time[last] - time[first]))
