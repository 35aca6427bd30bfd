"""What the commands share: flags, reading the experiment, progress, JSON and files."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solvers import store, toml
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.results import Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USER_ERROR, NUMERICAL_FAILURE = 2, 3
"""Exit statuses beside 0."""
TRAJECTORY, SIMULATION = "trajectory.nc", "simulation.nc"
"""Names of the result files of a run, in its folder."""

Source = Annotated[str, typer.Argument(metavar="FILE|PRESET", help="experiment file or preset")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="rule.inner_rate=2, or any key; repeatable"),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="folder for the files")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
Quiet = Annotated[bool, typer.Option("--quiet", help="print errors only")]


def experiment(source: str, overrides: list[str] | None) -> Experiment:
    """The experiment of a file or preset, with ``--set`` applied in order."""
    found = Experiment.load(source)
    changes = [toml.assignment(text) for text in overrides or ()]
    return found.replace(**dict(changes)) if changes else found


def destination(out: Path) -> Path:
    """``out``, if a folder can be made there; nothing is made yet."""
    parent = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not parent.is_dir():
        raise ExperimentError(f"--out {out}: {parent} is a file; name a folder")
    if not os.access(parent, os.W_OK):
        raise ExperimentError(f"--out {out}: {parent} cannot be written to; name another folder")
    return out


def echo(text: str, *, error: bool = False) -> None:
    """Writes a line to stdout or stderr."""
    (sys.stderr if error else sys.stdout).write(f"{text}\n")


def show_json(value: Mapping[str, Any]) -> None:
    """Prints one JSON object in full double precision; what is not finite is null."""
    echo(json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False))


def jsonable(value: Any) -> Any:
    """``value`` in the types of JSON: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, str) or value is None:
        return value if value is None else str(value)
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, complex):
        return [jsonable(value.real), jsonable(value.imag)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tell(
    report: Callable[[], Mapping[str, Any]], summarise: Callable[[], None], folder: Path | None,
    json: bool, quiet: bool,
) -> None:  # fmt: skip
    """A result as one JSON object, or as lines that end with its folder, or not at all."""
    if json:
        show_json(report())
    elif not quiet:
        summarise()
        if folder:
            echo(f"files      {folder}")


def warn(warnings: tuple[str, ...], quiet: bool) -> None:
    """One line per warning on stderr."""
    for sentence in () if quiet else warnings:
        echo(f"warning: {sentence}", error=True)


def finish(*results: Any) -> None:
    """Ends the command with status 3, and a line that says why, unless all results are good."""
    for result in results:
        if result is not None and result.status is not Status.success:
            echo(f"macrodyn: {result.status}: {result.message}", error=True)
            raise typer.Exit(NUMERICAL_FAILURE)


@contextmanager
def progress(text: str, quiet: bool) -> Iterator[Callable[[float, float], None]]:
    """A bar on stderr while the block runs; call it with (done, total)."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """The figure as PNG and SVG; each appears complete or not at all."""
    from solvers.plotting import style

    style.lay_out(figure)
    return [
        store.write_atomically(
            Path(f"{stem}{suffix}"), lambda file: style.write_figure(figure, file)
        )
        for suffix in (".png", ".svg")
    ]
