"""The algorithm itself at finite N: independent runs, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.results import Status, stored_times
from solvers.simulation.ensemble import Ensemble
from solvers.simulation.observe import observe
from solvers.simulation.runs import Runs, Setup

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]
Progress = Callable[[float, float], None]

POINTS = 31
"""Recorded times, unless given."""
DIVERGED = 1e6
"""An entry of Q above this ends the simulation."""
INFINITE_SUPPORT = (
    "support is infinite: the inner loop of the simulation uses the closed averages at the "
    "instantaneous overlaps"
)
FEW_TASKS = (
    "the simulation draws finite examples at every step; the population theory is its limit of "
    "many tasks per step"
)


def simulate(
    experiment: Experiment,
    times: Sequence[float] | Array | None = None,
    progress: Progress | None = None,
    *,
    dimension: int | None = None,
    runs: int | None = None,
    seed: int | None = None,
) -> Ensemble:
    """Runs the rule at N = ``simulate.dimension`` from vectors with exactly the initial overlaps.

    Streaming: one outer step per time 1/N on fresh examples,
    J_k ← (1 − η_J κ/N) J_k + (η_J/√N)·mean c_k ξ, w ← w + (η_w/N)·mean. Population: N times these
    rates, one unit of time per step. Run i has its own seed, spawned from ``seed``, and is the
    same however many runs there are.

    Args:
        times: when to record; default 31 of the times that ``integrate`` stores.
        progress: called with (done, total) at each recorded time.
        dimension, runs, seed: instead of those of ``[simulate]``.

    Raises:
        ExperimentError: the regime has no finite-N run, or the runs do not fit in memory.
    """
    table = experiment.simulate
    N = dimension or (table.dimension if table else 0)
    count = runs or (table.runs if table else 5)
    seed = seed if seed is not None else (table.seed if table else 0)
    if not N:
        raise ExperimentError("simulate.dimension is missing; add [simulate] with a dimension")
    if experiment.rule.regime == "gradient-flow":
        raise ExperimentError(
            "regime 'gradient-flow' is the limit of vanishing rates, which no run at finite N "
            "attains; simulate regime 'streaming' at a small outer_rate"
        )
    setup = Setup(experiment, N, count)
    _fits(setup)
    marks = _marks(setup, times)
    began = perf_counter()
    values, status, message = _record(setup, seed, marks, progress)
    seconds = perf_counter() - began
    marks = marks[: values["w"].shape[1]]
    observed, notes = observe(experiment, values)
    if setup.infinite:
        notes = (INFINITE_SUPPORT, *notes)
    if setup.population:
        notes = (FEW_TASKS, *notes)
    return Ensemble(
        experiment=experiment,
        layout=experiment.layout,
        dimension=N,
        seed=seed,
        time=marks / setup.steps_per_time,
        runs=values | observed,
        status=status,
        message=message,
        warnings=notes,
        steps=int(marks[-1]),
        seconds=seconds,
    )


def _fits(setup: Setup) -> None:
    """Refuses what exceeds the machine's memory before any of it is made."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if setup.octets > memory / 2:
        raise ExperimentError(
            f"the simulation needs {setup.octets / 1e9:.3g} GB, of {memory / 1e9:.3g} GB; make "
            "simulate.runs, simulate.dimension, rule.tasks_per_step or the support smaller"
        )


def _marks(setup: Setup, times: Sequence[float] | Array | None) -> NDArray[np.int64]:
    """The steps after which to record, increasing, each once."""
    if times is None:
        table = setup.experiment.integrate
        stored = stored_times(table.time, table.points, table.spacing, setup.population)
        place = np.linspace(0, len(stored) - 1, min(POINTS, len(stored)))
        times = stored[np.rint(place).astype(int)]
    wanted = np.asarray(times, float)
    if wanted.ndim != 1 or not wanted.size or not np.isfinite(wanted).all() or wanted.min() < 0:
        raise ExperimentError("the times to record at must be finite numbers, none negative")
    return np.unique(np.rint(wanted * setup.steps_per_time).astype(np.int64))


def _record(
    setup: Setup, seed: int, marks: NDArray[np.int64], progress: Progress | None
) -> tuple[dict[str, Array], Status, str]:
    """Q, R, w (runs, n, …) at the marks, up to a divergence or an interruption."""
    runs = Runs(setup, np.random.SeedSequence(seed).spawn(setup.count))
    records: list[tuple[Array, Array, Array]] = []
    status, message = Status.success, ""
    total = int(marks[-1])
    try:
        for mark in marks:
            with np.errstate(over="ignore", invalid="ignore"):
                runs.advance(int(mark))
                Q, R, w = runs.overlaps()
            if not all(np.isfinite(x).all() for x in (Q, R, w)) or np.abs(Q).max() > DIVERGED:
                status = Status.diverged
                message = (
                    f"a learner's norm exceeds {DIVERGED:g} before time "
                    f"{mark / setup.steps_per_time:g}; lower the rates"
                )
                break
            records.append((Q, R, w))
            if progress is not None:
                progress(int(mark), total)
    except KeyboardInterrupt:
        if not records:
            raise
        status, message = Status.interrupted, "stopped by the user before the last recorded time"
    if not records:
        raise ExperimentError("the simulation diverges before the first recorded time")
    stacked = [np.stack(series, axis=1) for series in zip(*records, strict=True)]
    return dict(zip(("Q", "R", "w"), stacked, strict=True)), status, message
