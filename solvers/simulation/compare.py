"""Theory against simulation: deviations in standard errors, and how they shrink with N."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers import states
from solvers.arrays import Told
from solvers.errors import ExperimentError
from solvers.results import Trajectory
from solvers.simulation.ensemble import Ensemble
from solvers.simulation.simulate import simulate

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]
Progress = Callable[[float, float], None]

QUANTITIES = ("Q", "R", "w", "error")
ROUNDING = 1e-10
"""Deviations below this share of the largest value count as none."""


@dataclass(frozen=True, repr=False)
class Comparison(Told):
    """Theory and mean of the runs at the same times, per quantity Q, R, w, error.

    ``z`` = (mean − theory)/standard error. Means of runs at finite N deviate by O(1/N) beside the
    fluctuations, and with few runs z is distributed as Student's t with runs − 1 degrees.
    """

    time: Array
    theory: dict[str, Array]
    deviation: dict[str, Array]
    z: dict[str, Array]
    dimension: int
    runs: int
    otherwise_paired: int = 0
    """Runs that end specialised with other pairs of units: the means of Q, R, w mix these."""

    @property
    def largest(self) -> tuple[str, float, float]:
        """The quantity of the largest |z|, that |z|, and its time."""
        peaks = {
            name: np.abs(z).reshape(len(z), -1).max(axis=1, initial=0.0)
            for name, z in self.z.items()
        }
        name = max(peaks, key=lambda name: peaks[name].max())
        return name, float(peaks[name].max()), float(self.time[peaks[name].argmax()])

    @property
    def rms(self) -> float:
        """Root mean square of z after time 0, where anything deviates (a fixed head does not)."""
        later = [z[self.time > 0].ravel() for z in self.z.values()]
        values = np.concatenate([z for z in later if z.any()] or [np.zeros(0)])
        return float(np.sqrt(np.mean(values**2))) if values.size else 0.0

    @property
    def report(self) -> dict[str, Any]:
        """Plain numbers, per quantity: largest |z|, rms z, largest deviation."""
        later = self.time > 0
        quantities = {
            name: {
                "largest_z": float(np.abs(z).max(initial=0.0)),
                "rms_z": float(np.sqrt(np.mean(z[later] ** 2))) if later.any() else 0.0,
                "largest_deviation": float(np.abs(self.deviation[name]).max(initial=0.0)),
            }
            for name, z in self.z.items()
        }
        about = {"dimension": self.dimension, "runs": self.runs}
        return about | {"otherwise_paired": self.otherwise_paired, **quantities}

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        name, z, time = self.largest
        text = (
            f"deviates from the theory by {self.rms:.2g} standard errors (rms), at most {z:.2g} "
            f"({name} at time {time:.4g}); {self.runs} runs at N = {self.dimension}"
        )
        if self.otherwise_paired:
            text += f", {self.otherwise_paired} of which pair other units: means of Q and R mix"
        return text


def compare(trajectory: Trajectory, ensemble: Ensemble) -> Comparison:
    """z-scores of the mean of the runs against the trajectory, at the times of the runs.

    Between its stored times the trajectory is continued by cubic Hermite interpolation with the
    flow's own slopes.

    Raises:
        ExperimentError: fewer than two runs, or no common times.
    """
    if ensemble.count < 2:
        raise ExperimentError("standard errors need at least two runs; raise simulate.runs")
    theory = theory_at(trajectory, ensemble.time)
    deviation = {name: ensemble.mean[name] - theory[name] for name in QUANTITIES}
    z = {}
    for name in QUANTITIES:
        floor = ROUNDING * (1 + np.abs(theory[name]).max())
        none = np.abs(deviation[name]) < floor
        error = np.maximum(ensemble.standard_error[name], floor)
        z[name] = np.where(none, 0.0, deviation[name] / error)
    others = _otherwise_paired(trajectory, theory, ensemble)
    return Comparison(
        ensemble.time, theory, deviation, z, ensemble.dimension, ensemble.count, others
    )


def _otherwise_paired(trajectory: Trajectory, theory: Mapping[str, Array], runs: Ensemble) -> int:
    """How many runs end specialised with other pairs of units than the theory does."""
    Q, R = (np.concatenate([theory[name][-1:], runs.runs[name][:, -1]]) for name in "QR")
    Q, R, T = states.fields(Q, R, trajectory.experiment.parameters, trajectory.layout)
    own, *other = (
        (states.partners(q, r, T).tolist(), states.label(q, r, T).endswith("specialized"))
        for q, r in zip(Q, R, strict=True)
    )
    return sum(pairs != own[0] and specialised for pairs, specialised in other) if own[1] else 0


def theory_at(trajectory: Trajectory, times: Array) -> dict[str, Array]:
    """Q, R, w and error of a trajectory at other times."""
    experiment, layout = trajectory.experiment, trajectory.layout
    compiled, parameters = experiment.compiled, experiment.parameters
    stored = layout.pack(trajectory.Q, trajectory.R, trajectory.w)
    if times.max() > trajectory.time[-1] * (1 + 1e-12):
        raise ExperimentError(
            f"the runs reach time {times.max():g}, the theory only {trajectory.time[-1]:g}"
        )
    if compiled.discrete:
        place = np.searchsorted(trajectory.time, times)
        if not np.array_equal(trajectory.time[place], times):
            raise ExperimentError("the steps of the runs are not among the stored ones")
        y = stored[place]
    else:
        from scipy.interpolate import CubicHermiteSpline  # a third of the import of solvers

        # slopes are costly, and asked for only where a time lies between
        after = np.searchsorted(trajectory.time, times).clip(1, len(stored) - 1)
        near = np.unique([after - 1, after])
        slopes = np.array([compiled.rhs(state, parameters) for state in stored[near]])
        y = CubicHermiteSpline(trajectory.time[near], stored[near], slopes)(times)
    Q, R, w = layout.unpack(y)
    error = np.array([compiled.error(state, parameters) for state in y])
    return {"Q": Q, "R": R, "w": w, "error": error}


@dataclass(frozen=True)
class Scaling:
    """How runs at several dimensions deviate from the theory, rms over entries and times.

    ``fluctuation[name]`` (n,): of single runs about their mean, expected ∝ N^(−1/2);
    ``deviation[name]`` (n,): of the mean of the runs from the theory, with the share of the
    standard error taken out of its square; expected ∝ 1/N, nan where it is below the noise.
    ``exponents[name]``: slope of ln fluctuation against ln N, and its standard error.
    """

    dimensions: NDArray[np.int64]
    runs: int
    fluctuation: dict[str, Array]
    deviation: dict[str, Array]
    noise: dict[str, Array]
    exponents: dict[str, tuple[float, float]]

    def table(self) -> str:
        """One line per dimension, then the exponents."""
        head = "".join(f"{f'{name} fluct.':>14}{f'{name} dev.':>14}" for name in self.fluctuation)
        lines = [f"{'N':>6}{head}"]
        for i, N in enumerate(self.dimensions):
            cells = (
                f"{self.fluctuation[name][i]:14.3e}{self.deviation[name][i]:14.3e}"
                for name in self.fluctuation
            )
            lines.append(f"{N:6d}{''.join(cells)}")
        slopes = ", ".join(
            f"{name} {slope:.2f} ± {error:.2f}" for name, (slope, error) in self.exponents.items()
        )
        return "\n".join([*lines, f"exponents of the fluctuations: {slopes}"])


def scaling(
    trajectory: Trajectory,
    dimensions: Sequence[int] = (250, 500, 1000, 2000),
    *,
    runs: int = 20,
    seed: int = 0,
    times: Sequence[float] | Array | None = None,
    progress: Progress | None = None,
) -> Scaling:
    """Simulates at several N and measures fluctuations and deviations against the trajectory.

    Off a plateau fluctuations shrink as N^(−1/2) and the mean's deviation as 1/N; on a plateau
    they grow along unstable directions and neither holds.
    """
    experiment: Experiment = trajectory.experiment
    squares: dict[str, list[Array]] = {name: [] for name in QUANTITIES}
    excess: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    noise: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    total, done = float(sum(dimensions)), 0.0
    for i, N in enumerate(dimensions):

        def report(part: float, whole: float, before: float = done, N: int = N) -> None:
            if progress is not None:
                progress(before + N * part / whole, total)

        ensemble = simulate(experiment, times, report, dimension=N, runs=runs, seed=seed + i)
        theory = theory_at(trajectory, ensemble.time)
        for name in QUANTITIES:
            values = ensemble.runs[name][:, 1:].reshape(runs, -1)
            target = theory[name][1:].ravel()
            mean = values.mean(axis=0)
            spread = (values - mean) ** 2 * runs / (runs - 1)
            squares[name].append(spread.mean(axis=1))
            noise[name].append(float(spread.mean() / runs))
            excess[name].append(float(np.mean((mean - target) ** 2)) - noise[name][-1])
        done += N
    fluctuation = {name: np.sqrt([s.mean() for s in squares[name]]) for name in QUANTITIES}
    return Scaling(
        dimensions=np.asarray(dimensions),
        runs=runs,
        fluctuation=fluctuation,
        deviation={
            name: np.sqrt(np.where(np.array(v) > 0, v, np.nan)) for name, v in excess.items()
        },
        noise={name: np.sqrt(v) for name, v in noise.items()},
        exponents={
            name: _exponent(np.asarray(dimensions), squares[name])
            for name in QUANTITIES
            if fluctuation[name].all()
        },
    )


def _exponent(dimensions: Array, squares: list[Array]) -> tuple[float, float]:
    """Slope of ½ ln⟨square⟩ against ln N, weighted by the spread over the runs."""
    x = np.log(dimensions)
    y = np.array([0.5 * np.log(s.mean()) for s in squares])
    error = np.array([0.5 * s.std(ddof=1) / np.sqrt(len(s)) / s.mean() for s in squares])
    weight = 1 / error**2
    centre = (weight * x).sum() / weight.sum()
    norm = (weight * (x - centre) ** 2).sum()
    return float((weight * (x - centre) * y).sum() / norm), float(1 / np.sqrt(norm))
