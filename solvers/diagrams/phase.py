"""Phase diagrams: a sweep whose points are kept on disk, as a result with its figure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from solvers import store
from solvers.arrays import Told
from solvers.diagrams.boundary import stability_boundary
from solvers.diagrams.engine import Interrupted, pool_of
from solvers.diagrams.journal import Journal
from solvers.diagrams.measures import commonest
from solvers.diagrams.sweep import Axes, Progress, Study, dataset, fill
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.states import ALL_LABELS

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

FILE, JOURNAL = "phase.nc", "phase.journal"
"""Names in the folder of a diagram; the journal is there while points are missing."""


@dataclass(frozen=True, repr=False)
class PhaseDiagram(Told):
    """Labels and numbers over one to three keys of an experiment, in ``dataset``."""

    dataset: xarray.Dataset
    experiment: Experiment

    @property
    def sentence(self) -> str:
        """The labels, in one line."""
        labels = ", ".join(f"{count} {label}" for label, count in self.labels.items())
        return f"{self.points} points over {', '.join(self.axes)}: {labels}"

    @property
    def axes(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(json.loads(self.dataset.attrs["axes"]))

    @property
    def points(self) -> int:
        """Number of points."""
        return int(self.dataset["label"].size)

    @property
    def done(self) -> int:
        """How many of them are finished: all."""
        return self.points

    @property
    def labels(self) -> dict[str, int]:
        """How many points have each label, in the order of ``ALL_LABELS``."""
        return _ordered(Counter(self.dataset["label"].values.ravel().tolist()))

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> Self:
        """The diagram that ``dataset`` was made of."""
        return cls(dataset, experiment)

    def plot(self) -> Figure:
        """The figure: phases with their boundaries, and the error."""
        from solvers.plotting.phase import phase_figure

        return phase_figure(self)


@dataclass(frozen=True)
class Unfinished:
    """What an interrupted diagram has so far."""

    points: int
    done: int
    labels: Mapping[str, int]


def phase_diagram(
    experiment: Experiment,
    axes: Axes,
    folder: str | Path,
    *,
    runs: int | None = None,
    adaptive: int | None = None,
    workers: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> PhaseDiagram:
    """The diagram, left in ``folder``/phase.nc; each point is on disk as soon as it is finished.

    ``runs``: so many random starts per point; ``adaptive``: so many points in all, placed where
    labels and values change. ``resume`` continues what was interrupted, with any workers; the file
    then has the values it would have had.

    Raises:
        ExperimentError: an axis makes no sense, or the folder belongs to something else.
        Interrupted: the disk is full, no worker is left, or Ctrl-C. Resume when that is mended.

    >>> from solvers.experiment import Experiment
    >>> import tempfile
    >>> experiment = Experiment.load("saad-solla").replace(**{"integrate.time": 5.0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     phase_diagram(experiment, ["rule.outer_rate=0.5:1:2"], folder).points
    2
    """
    folder = Path(folder)
    study = Study.of(experiment, axes, runs, adaptive)
    finished = _finished(study, folder)
    if finished and resume and not (folder / JOURNAL).exists():
        return finished
    with (
        pool_of(workers, cluster) as pool,
        Journal(folder / JOURNAL, study.identity, resume=resume) as journal,
    ):
        try:
            made = dataset(study, journal, fill(study, journal, pool, progress))
            boundary = stability_boundary(study, made, pool)
            if boundary is not None:
                made[boundary.name] = boundary
            store.save(made, folder / FILE, experiment)
        except (Interrupted, KeyboardInterrupt, store.ResultFileError) as error:
            raise _interrupted(error, study, journal) from None
        journal.remove()
    return PhaseDiagram(store.load(folder / FILE), experiment)


def _finished(study: Study, folder: Path) -> PhaseDiagram | None:
    """The diagram in the folder, if there is one; that of another study is an error."""
    file = folder / FILE
    if not file.exists():
        return None
    found = store.load(file)
    there = json.loads(found.attrs.get("identity", "{}"))
    differing = [key for key, value in study.identity.items() if there.get(key) != value]
    if differing:
        raise ExperimentError(
            f"{file} is the diagram of something else (other {' and '.join(differing)}): choose "
            "another folder with --out"
        )
    return PhaseDiagram(found, study.experiment)


def _interrupted(error: BaseException, study: Study, journal: Journal) -> Interrupted:
    """``error`` as a sentence that says what is kept, with the count of it."""
    found: dict[Any, list[str]] = defaultdict(list)
    for (*place, _), record in journal:
        found[tuple(place)].append(record["label"])
    whole = [labels for labels in found.values() if len(labels) == (study.runs or 1)]
    counts = _ordered(Counter(commonest(labels) for labels in whole))
    reason = str(error) or "interrupted"
    message = f"{reason}; {len(whole)} of {study.points} points are kept: continue with --resume"
    return Interrupted(message, Unfinished(study.points, len(whole), counts))


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return {label: counts[label] for label in ALL_LABELS if counts.get(label)}
