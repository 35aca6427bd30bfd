"""``macrodyn plot``: redraw a result file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solvers import store
from solvers.cli import common

if TYPE_CHECKING:
    from xarray import Dataset

KINDS = {
    "trajectory": ("solvers.results", "Trajectory"),
    "ensemble": ("solvers.simulation.ensemble", "Ensemble"),
    "fixed-points": ("solvers.stability.fixed_point", "FixedPoints"),
    "continuation": ("solvers.stability.branch", "Diagram"),
    "special-curves": ("solvers.stability.curves", "SpecialCurves"),
    "phase": ("solvers.diagrams.phase", "PhaseDiagram"),
}
"""The class that reads each kind of result, by module and name."""


def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="result file (.nc)")],
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Redraw a result file as PNG and SVG, beside it or in --out."""
    dataset = store.load(file)
    folder = common.destination(out or file.parent)
    kind = dataset.attrs.get("kind")
    if kind not in KINDS:
        raise store.ResultFileError(f"{file} holds {kind!r}, which has no figure")
    result = _result(file, dataset)
    beside = _simulation(file, dataset) if kind == "trajectory" else None
    figure = result.plot() if beside is None else result.plot(_result(file, beside))
    paths = common.save_figure(figure, folder / file.stem)
    if json:
        common.show_json({"figures": [str(path) for path in paths]})
    elif not quiet:
        for path in paths:
            common.echo(str(path))


def _result(file: Path, dataset: Dataset) -> Any:
    """The result that a dataset was made of."""
    module, name = KINDS[dataset.attrs["kind"]]
    kind, experiment = getattr(import_module(module), name), store.experiment_of(dataset)
    try:
        return kind.from_dataset(dataset, experiment)
    except KeyError as error:
        raise store.ResultFileError(
            f"{file} is incomplete, or of another version of macrodyn "
            f"({str(error.args[0]).partition('. ')[0]}); run the experiment again"
        ) from None


def _simulation(file: Path, dataset: Dataset) -> Dataset | None:
    """The finite-N runs of the same experiment that ``run`` left beside its trajectory."""
    path = file.parent / common.SIMULATION
    if not path.is_file():
        return None
    found = store.load(path)
    same = found.attrs["experiment_digest"] == dataset.attrs["experiment_digest"]
    return found if same else None
