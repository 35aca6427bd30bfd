"""``macrodyn plot``: redraw a result file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from solvers import store
from solvers.cli import common

KINDS = {
    "trajectory": ("solvers.results", "Trajectory"),
    "ensemble": ("solvers.ensemble", "Ensemble"),
    "phase": ("solvers.phase", "PhaseDiagram"),
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
    experiment = store.experiment_of(dataset)
    result = _result(kind, dataset, experiment)
    paths = common.save_figure(result.plot(), folder / file.stem)
    if json:
        common.show_json({"figures": [str(path) for path in paths]})
    elif not quiet:
        for path in paths:
            common.echo(str(path))


def _result(kind: str, dataset: Any, experiment: Any) -> Any:
    module, name = KINDS[kind]
    return getattr(import_module(module), name).from_dataset(dataset, experiment)
