"""``macrodyn plot``: redraw a result file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solvers import store
from solvers.cli import common
from solvers.files import result_of

if TYPE_CHECKING:
    from xarray import Dataset


def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="result file (.nc)")],
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Redraw a result file as PNG and SVG, beside it or in --out."""
    dataset = store.load(file)
    folder = common.destination(out or file.parent)
    result = result_of(dataset, file)
    if not hasattr(result, "plot"):
        raise store.ResultFileError(f"{file} holds a {dataset.kind}, which has no figure")
    beside = _simulation(file, dataset) if dataset.kind == "trajectory" else None
    figure = result.plot() if beside is None else result.plot(result_of(beside, file))
    paths = common.save_figure(figure, folder / file.stem)
    if json:
        common.show_json({"figures": [str(path) for path in paths]})
    elif not quiet:
        for path in paths:
            common.echo(str(path))


def _simulation(file: Path, dataset: Dataset) -> Dataset | None:
    """The finite-N runs of the same experiment that ``run`` left beside its trajectory."""
    path = file.parent / common.SIMULATION
    if not path.is_file():
        return None
    found = store.load(path)
    same = found.attrs["experiment_digest"] == dataset.attrs["experiment_digest"]
    return found if same else None
