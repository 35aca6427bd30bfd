"""One experiment at many values of its keys: where learning ends at each, computed anywhere.

A *study* says what is computed; its *tasks* are (place, run): one trajectory each. What a task
gives does not depend on when or where it is computed; it is that of ``integrate``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.diagrams.axes import Axis, checked
from solvers.diagrams.engine import Interrupted, Outcome, Pool, compute, pool_of
from solvers.diagrams.journal import Journal, Record, Task
from solvers.diagrams.measures import assemble, commonest, measure, value_of
from solvers.diagrams.refine import Adaptive, Grid, Place, Placement
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.results import Status
from solvers.states import FAILED
from solvers.trajectories.integrate import integrate

if TYPE_CHECKING:
    import xarray

Progress = Callable[[int, int], None]
Axes = Sequence[str | Axis] | Mapping[str, Iterable[float]]

WHOLE = ("model.hidden", "model.teacher_hidden", "initial.random.dimension", "initial.random.seed")
"""Keys outside [rule] that take whole numbers only."""
UNITS = {"hidden": "units", "teacher_hidden": "units", "support": "examples", "query": "examples"}
"""Units of keys by their last part; the others are dimensionless."""
CHECKED_VALUES = 50
"""So many values of a range are tried before anything is computed; of a list, all."""


@dataclass(frozen=True)
class Study:
    """An experiment, the axes it is varied over, the points, and the random starts at each.

    ``runs`` random starts per point need ``initial.random``: start r at a place is drawn with a
    seed of its own (``seed``), which ``initial.random.seed`` reproduces. Without ``runs`` each
    point starts as the experiment says.
    """

    experiment: Experiment
    axes: tuple[Axis, ...]
    runs: int | None = None
    adaptive: int | None = None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        axes: Axes,
        runs: int | None = None,
        adaptive: int | None = None,
    ) -> Study:
        """The study, checked. Raises ExperimentError where it makes no sense."""
        study = cls(experiment, _axes(axes, experiment), runs, adaptive)
        study._check()
        return study

    @cached_property
    def placement(self) -> Placement:
        """Which points there are."""
        return Grid(self.axes) if self.adaptive is None else Adaptive(self.axes, self.adaptive)

    @property
    def points(self) -> int:
        """Number of points."""
        return self.placement.total

    @property
    def total(self) -> int:
        """Number of trajectories."""
        return self.points * (self.runs or 1)

    def tasks(self, places: Iterable[Place]) -> Iterator[Task]:
        """All tasks at these places."""
        return ((*place, run) for place in places for run in range(self.runs or 1))

    def seed(self, task: Task) -> int:
        """The seed of a random start: from that of the experiment, the place and the run."""
        random = self.experiment.initial.random
        sequence = np.random.SeedSequence(random.seed if random else 0, spawn_key=task)
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(12))

    def at(self, task: Task) -> Experiment:
        """The experiment of one task."""
        *place, _ = task
        values = self.placement.values(tuple(place))
        changes: dict[str, Any] = dict(zip((a.key for a in self.axes), values, strict=True))
        if self.runs:
            changes["initial.random.seed"] = self.seed(task)
        return _replaced(self.experiment, changes)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides every value: the experiment, the generated sources, axes, runs, points."""
        return {
            "experiment": self.experiment.digest,
            "sources": sorted({variant.compiled.digest for variant in self._variants()}),
            "axes": [[a.key, a.scale, ",".join(map(repr, a.values))] for a in self.axes],
            "runs": self.runs,
            "adaptive": self.adaptive,
        }

    def _variants(self) -> Iterator[Experiment]:
        """One experiment for each combination of listed values: these may differ in equations."""
        listed = tuple(
            a if not a.continuous else Axis(a.key, a.values[:1], "list") for a in self.axes
        )
        grid = Grid(listed)
        for places in grid.rounds({}):
            for place in places:
                keys = (axis.key for axis in self.axes)
                yield _replaced(self.experiment, dict(zip(keys, grid.values(place), strict=True)))

    def _check(self) -> None:
        if self.runs is not None and self.runs < 1:
            raise ExperimentError(f"--runs must be at least 1, not {self.runs}")
        if self.runs is not None and self.experiment.initial.random is None:
            raise ExperimentError(
                "--runs draws random starts: give initial.random (norm, dimension, seed) "
                "instead of initial.Q and initial.R"
            )
        first = {axis.key: axis.values[0] for axis in self.axes}
        for axis in self.axes:
            step = max(1, len(axis.values) // CHECKED_VALUES) if axis.continuous else 1
            for value in (*axis.values[::step], axis.values[-1]):
                _replaced(self.experiment, first | {axis.key: value})
        if self.adaptive is not None:
            self.placement.total  # noqa: B018  (raises if there are too few points)


class Trajectories:
    """The work: from a task to what its trajectory shows."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def __call__(self, task: Task) -> Record:
        """What ``integrate`` gives, measured."""
        return measure(integrate(self.study.at(task), throw=False))


def sweep(
    experiment: Experiment,
    axes: Axes,
    *,
    runs: int | None = None,
    adaptive: int | None = None,
    workers: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> xarray.Dataset:
    """Label, error, specialization, plateau and stability over one to three keys of an experiment.

    ``axes`` are texts as on the command line, or a mapping from key to values. Nothing is written;
    ``phase_diagram`` keeps the points on disk.

    Raises:
        ExperimentError: an axis, or a value on it, makes no sense.
        Interrupted: no worker is left.
    """
    study = Study.of(experiment, axes, runs, adaptive)
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", study.identity)
        with journal, pool_of(workers, cluster) as pool:
            return dataset(study, journal, fill(study, journal, pool, progress))


def dataset(study: Study, journal: Journal, places: list[Place] | None) -> xarray.Dataset:
    """What is in the journal, laid out on the axes."""
    values = study.placement.values
    table = assemble(
        study.axes,
        None if places is None else [(place, values(place)) for place in places],
        study.runs,
        "outer steps" if study.experiment.rule.regime == "population" else "outer updates / N",
        journal,
    )
    for axis in study.axes:
        unit = UNITS.get(axis.key.split(".")[-1], "1")
        table[axis.key].attrs = {"long_name": axis.key, "units": unit, "scale": axis.scale}
    return table.assign_attrs(
        kind="phase",
        identity=json.dumps(study.identity),
        axes=json.dumps([axis.key for axis in study.axes]),
    )


def fill(
    study: Study,
    journal: Journal,
    pool: Pool,
    progress: Progress | None = None,
    work: Callable[[Task], Record] | None = None,
) -> list[Place] | None:
    """Compute what ``journal`` lacks; the places in order, if they were not known beforehand.

    Raises:
        Interrupted: the disk is full, or no worker is left. What was finished is in the journal.
    """
    work = work or Trajectories(study)
    adaptive = study.adaptive is not None
    done: dict[Task, tuple[str, float] | None] = {}

    def note(task: Task, record: Record) -> None:
        done[task] = (record["label"], value_of(record)) if adaptive else None

    for task, record in journal:
        note(task, record)
    if progress:
        progress(len(done), study.total)
    seen: dict[Place, tuple[str, float]] = {}
    order: list[Place] = []
    for places in study.placement.rounds(seen):
        if adaptive:
            places = list(places)
        missing = (task for task in study.tasks(places) if task not in done)
        left = study.total - len(done)
        for outcomes in compute(work, missing, pool, left):
            entries = [(outcome.task, _recorded(outcome)) for outcome in outcomes]
            _keep(journal, entries)
            for task, record in entries:
                note(task, record)
            if progress:
                progress(len(done), study.total)
        for place in places if adaptive else ():
            seen[place] = _summary([done[task] for task in study.tasks([place])])
            order.append(place)
    return order if adaptive else None


def _keep(journal: Journal, entries: list[tuple[Task, Record]]) -> None:
    try:
        journal.append(entries)
    except OSError as error:
        raise Interrupted(f"cannot write {journal.path}: {error.strerror}") from None


def _recorded(outcome: Outcome) -> Record:
    """What the journal holds of an outcome: a failure is a label with its sentence."""
    if not outcome.sentence:
        return outcome.record
    return {"label": FAILED, "status": str(Status.interrupted), "message": outcome.sentence}


def _summary(found: Sequence[tuple[str, float] | None]) -> tuple[str, float]:
    """The commonest label and the mean value of the runs at a place."""
    runs = [entry for entry in found if entry is not None]
    values = [value for _, value in runs if math.isfinite(value)]
    mean = math.fsum(values) / len(values) if values else math.nan
    return commonest(label for label, _ in runs), mean


def _axes(axes: Axes, experiment: Experiment) -> tuple[Axis, ...]:
    """The axes, with whole numbers where the key takes no others."""
    if isinstance(axes, Mapping):
        listed = {key: tuple(np.asarray(list(values)).tolist()) for key, values in axes.items()}
        made = [Axis(key, values, "list") for key, values in listed.items()]
    else:
        made = [Axis.parse(axis) if isinstance(axis, str) else axis for axis in axes]
    return checked(axis.whole() if _is_whole(axis.key, experiment) else axis for axis in made)


def _is_whole(key: str, experiment: Experiment) -> bool:
    """Whether a key takes whole numbers only."""
    table, _, name = key.partition(".")
    if table == "rule":
        described = {entry.name: entry.metadata for entry in fields(experiment.rule)}
        return bool(described.get(name, {}).get("integer"))
    return key in WHOLE


def _replaced(experiment: Experiment, changes: Mapping[str, float]) -> Experiment:
    try:
        return experiment.replace(**changes)
    except ExperimentError as error:
        sizes = [key for key in changes if key in ("model.hidden", "model.teacher_hidden")]
        if sizes and experiment.initial.random is None:
            raise ExperimentError(
                f"{sizes[0]} varies, but initial.Q and initial.R are given for one size: draw the "
                "start with initial.random (norm, dimension, seed) instead"
            ) from None
        raise ExperimentError(
            f"at {', '.join(f'{key} = {value:g}' for key, value in changes.items())}: {error}"
        ) from None
