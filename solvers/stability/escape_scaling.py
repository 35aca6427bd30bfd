"""How long a plateau lasts against ln N: of the flow from finite-N starts, and of finite-N runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers import states
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.lingering import lingering
from solvers.trajectories.plateau import ESCAPED

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

RECORDS = 241
"""Times at which a simulation is looked at; the escape is interpolated between them."""


@dataclass(frozen=True)
class Scaling:
    """Escape times at several dimensions N, and the slope of their typical value against ln N.

    ``times`` (dimensions, runs), NaN where a run did not escape in time; ``rate`` is the growth
    rate λ of the leading mode. An asymmetry of order N^(−1/2) has to grow to O(1): the times of
    different N have the same distribution, shifted by ``theory`` = ln N/(2λ).
    """

    dimensions: NDArray[np.intp]
    times: Array
    rate: float

    @property
    def theory(self) -> float:
        """The slope that the growth rate predicts, 1/(2λ)."""
        return 1 / (2 * self.rate)

    @property
    def escaped(self) -> NDArray[np.intp]:
        """The number of runs that escaped at each dimension (n,)."""
        return np.isfinite(self.times).sum(1)

    @property
    def _squares(self) -> Array:
        """exp(−2λ t): the square of the asymmetry that escapes at t, 0 without escape."""
        return np.exp(-2 * self.rate * np.nan_to_num(self.times, nan=np.inf))

    @property
    def typical(self) -> Array:
        """The escape time of the rms asymmetry, −ln⟨exp(−2λ t)⟩/(2λ), at each dimension (n,).

        For asymmetries that are normally distributed it is the estimate of maximum likelihood of
        where their distribution lies, with 0.4 of the variance of the mean time. Runs that have not
        escaped count as what they are, small asymmetries.
        """
        with np.errstate(divide="ignore"):
            return -np.log(self._squares.mean(1)) / (2 * self.rate)

    @property
    def standard_error(self) -> Array:
        """That of the typical time at each dimension (n,)."""
        squares = self._squares
        spread = squares.std(1, ddof=1) / np.sqrt(squares.shape[1])
        return spread / squares.mean(1) / (2 * self.rate)

    @property
    def slope(self) -> float:
        """The slope of the typical time against ln N, by least squares."""
        good, weights = self._weights
        return float(weights @ self.typical[good])

    @property
    def slope_error(self) -> float:
        """The standard error of the slope."""
        good, weights = self._weights
        return float(np.sqrt(weights**2 @ self.standard_error[good] ** 2))

    @property
    def _weights(self) -> tuple[NDArray[np.bool_], Array]:
        good = self.escaped > 0
        logs = np.log(self.dimensions[good].astype(float))
        centred = logs - logs.mean()
        return good, centred / (centred @ centred)


def escape_against_dimension(
    experiment: Experiment,
    dimensions: Sequence[int],
    runs: int = 10,
    seed: int = 0,
    *,
    simulated: bool = False,
    plateau: FixedPoint | None = None,
) -> Scaling:
    """Escape times against the dimension N, by theory or by simulation.

    Theory: the flow from ``runs`` starts drawn as of each dimension (``initial.random`` is needed;
    its dimension and seed are replaced). ``simulated``: so many runs of the algorithm itself at
    each dimension, from the overlaps of the experiment. Both end at ``integrate.time``. The growth
    rate is that at ``plateau``, by default at the fixed point that the flow lingers at.

    Raises:
        ExperimentError: the starts are not drawn at random.
        NumericalFailure: fewer than two dimensions have a run that escapes from a plateau.
    """
    if experiment.initial.random is None and not simulated:
        raise ExperimentError("escape against N needs random starts: give initial.random")
    rate = None if plateau is None else float(plateau.eigenvalues.real.max())
    rows = []
    for dimension in map(int, dimensions):
        if simulated:
            rows.append(_simulated(experiment, dimension, runs, seed))
        else:
            times, found = _integrated(experiment, dimension, runs, seed, wanted=rate is None)
            rate = found if rate is None else rate
            rows.append(times)
    result = Scaling(np.asarray(dimensions), np.array(rows), rate or np.nan)
    if (result.escaped > 0).sum() < 2 or not rate:
        raise NumericalFailure("Too few runs escape from a plateau: raise integrate.time.", result)
    return result


def _integrated(
    experiment: Experiment, dimension: int, runs: int, seed: int, wanted: bool
) -> tuple[list[float], float | None]:
    """Escape times of the flow, and the growth rate on the plateau of the first that has one."""
    from solvers.trajectories.integrate import integrate

    times: list[float] = []
    rate: float | None = None
    for run in range(seed, seed + runs):
        start = {"initial.random.dimension": dimension, "initial.random.seed": run}
        trajectory = integrate(experiment.replace(**start), throw=False)
        times.append(np.nan if trajectory.escape_time is None else trajectory.escape_time)
        if wanted and rate is None:
            escapes = [found.escape for found in lingering(trajectory) if found.escape]
            rate = escapes[-1].rate if escapes else None
    return times, rate


def _simulated(experiment: Experiment, dimension: int, runs: int, seed: int) -> Array:
    """Escape times of runs of the algorithm; a crossing between two records is interpolated."""
    from solvers.simulation.simulate import simulate

    marks = np.linspace(0.0, float(experiment.integrate.time), RECORDS)
    found = simulate(experiment, marks, dimension=dimension, runs=runs, seed=seed)
    Q, R, T = states.fields(
        found.runs["Q"], found.runs["R"], experiment.parameters, experiment.layout
    )
    values = [[states.specialization(q, r, T) or 0.0 for q, r in zip(*run, strict=True)]
              for run in zip(Q, R, strict=True)]  # fmt: skip
    times, excess = found.time, np.array(values) - ESCAPED
    first = np.argmax(excess > 0, axis=1)
    every, before = np.arange(runs), np.maximum(first - 1, 0)
    low, high = excess[every, before], excess[every, first]
    share = np.where(first > 0, -low / np.where(high > low, high - low, 1.0), 0.0)
    crossed = times[before] + share * (times[first] - times[before])
    return np.where((excess > 0).any(1), crossed, np.nan)
