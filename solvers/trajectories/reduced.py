"""Trajectories of compiled reductions: a few order parameters, for any number of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers.results import Status

if TYPE_CHECKING:
    from theory.reduced import CompiledReduction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReducedTrajectory:
    """A trajectory of reduced order parameters: ``y`` (times, parameters), named by ``names``."""

    time: Array
    y: Array
    error: Array
    names: tuple[str, ...]
    status: Status
    evaluations: int

    def __getitem__(self, name: str) -> Array:
        """One order parameter along the trajectory."""
        return self.y[:, self.names.index(name)]


def integrate_reduction(
    flow: CompiledReduction, start: Mapping[str, float] | Sequence[float],
    parameters: Mapping[str, float], time: float, *,
    rtol: float = 1e-8, atol: float = 1e-12, points: int = 400,
) -> ReducedTrajectory:  # fmt: skip
    """The reduced flow from ``start`` up to ``time``, by LSODA with the exact Jacobian.

    The cost does not depend on the numbers of units K and M. A map (regime population) is
    iterated. Raises ValueError where ``start`` does not give the order parameters ``flow.names``.

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
        if set(start) != set(flow.names):
            raise ValueError(f"start must give {', '.join(flow.names)}")
        start = [start[name] for name in flow.names]
    begin = np.asarray(start, float)
    if begin.shape != (len(flow.names),):
        raise ValueError(f"start must give {', '.join(flow.names)}")
    rate, jacobian = flow.bound("flow", parameters), flow.bound("jacobian", parameters)
    error = flow.bound("error", parameters)
    if flow.rule.regime == "population":
        times, states, count = _iterated(rate, begin, int(time))
        status = Status.success if np.isfinite(states).all() else Status.diverged
    else:
        found = scipy.integrate.solve_ivp(
            lambda _, y: rate(y), (0.0, time), begin, method="LSODA", rtol=rtol, atol=atol,
            jac=lambda _, y: jacobian(y), t_eval=np.linspace(0.0, time, points),
        )  # fmt: skip
        times, states, count = found.t, found.y.T, int(found.nfev)
        status = Status.success if found.success else Status.diverged
    errors = np.array([error(y)[0] for y in states])
    return ReducedTrajectory(times, states, errors, flow.names, status, count)


def _iterated(rate: object, begin: Array, steps: int) -> tuple[Array, Array, int]:
    """Every step of a map, whose increments ``rate`` gives."""
    states = [begin]
    for _ in range(steps):
        states.append(states[-1] + rate(states[-1]))  # type: ignore[operator]
    return np.arange(steps + 1.0), np.array(states), steps
