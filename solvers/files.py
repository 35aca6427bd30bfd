"""Results as files: what a solver handed back, kept and read again."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers import store
from solvers.errors import ExperimentError

if TYPE_CHECKING:
    from xarray import Dataset

    from solvers.experiment import Experiment

KINDS = {
    "trajectory": ("solvers.results", "Trajectory"),
    "reduced-trajectory": ("solvers.trajectories.reduced", "ReducedTrajectory"),
    "ensemble": ("solvers.simulation.ensemble", "Ensemble"),
    "fixed-points": ("solvers.stability.fixed_point", "FixedPoints"),
    "continuation": ("solvers.stability.branch", "Diagram"),
    "special-curves": ("solvers.stability.curves", "SpecialCurves"),
    "phase": ("solvers.diagrams.phase", "PhaseDiagram"),
}
"""The class that reads each kind of result, by module and name."""


def save(result: Any, path: str | Path) -> Path:
    """Writes a result as NetCDF, with its provenance; the file appears complete or not at all.

    ``result``: a trajectory, that of a reduction, an ensemble, fixed points, branches, their
    curves or a phase diagram. Returns the path.

    Raises:
        ResultFileError: the file cannot be written.
        TypeError: something else was given.

    >>> import tempfile
    >>> from solvers import Experiment, integrate
    >>> run = integrate(Experiment.load("saad-solla").replace(**{"integrate.time": 1.0}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(run, f"{folder}/run.nc"))
    <Trajectory: success at time 1, unresolved, error 0.230134>
    """
    data = getattr(result, "arrays", None) or getattr(result, "dataset", None)
    if data is None or data.attrs.get("kind") not in KINDS:
        raise TypeError(f"{type(result).__name__} is no result that a file can hold")
    return store.save(data, path, getattr(result, "experiment", None))


def load(path: str | Path, experiment: Experiment | None = None) -> Any:
    """The result in a file, of the class that was saved.

    ``experiment``: that of the result, where its rule or activation came from Python.

    Raises:
        ResultFileError: absent, unreadable, no result file, or of another version.
        ExperimentError: the file's experiment names what is not registered here.
    """
    return result_of(store.load(path), Path(path), experiment)


def result_of(dataset: Dataset, file: Path, experiment: Experiment | None = None) -> Any:
    """The result that a dataset in a file was made of."""
    kind = dataset.attrs.get("kind")
    if kind not in KINDS:
        raise store.ResultFileError(f"{file} holds {kind!r}, which is no result")
    module, name = KINDS[kind]
    if experiment is None and "experiment" in dataset.attrs:
        experiment = _own_experiment(dataset, file)
    read = getattr(import_module(module), name).from_dataset
    try:
        return read(dataset, experiment)
    except KeyError as error:
        raise store.ResultFileError(
            f"{file} is incomplete, or of another version of macrodyn "
            f"({str(error.args[0]).partition('. ')[0]}); run the experiment again"
        ) from None


def _own_experiment(dataset: Dataset, file: Path) -> Experiment:
    try:
        return store.experiment_of(dataset)
    except ExperimentError as error:
        raise ExperimentError(
            f"{file}: {error}; a rule or an activation from Python is not in the file, so that it "
            "needs load(path, experiment)"
        ) from None
