"""``macrodyn phase``: a diagram over one to three keys of the experiment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from logging import CRITICAL, getLogger
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from solvers.cli import common
from solvers.cli.plot import plot as redraw
from solvers.errors import ExperimentError

if TYPE_CHECKING:
    from solvers.diagrams.phase import PhaseDiagram, Unfinished
    from solvers.diagrams.sweep import Progress

REPORT_SECONDS = 30.0
"""Where stderr is no terminal, a line about the progress is written this often."""

Source = Annotated[
    str | None, typer.Argument(metavar="FILE|PRESET", help="experiment file or preset")
]
Axis = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="KEY=…",
        help="start:stop:count, start:stop:count:log or a,b,c; repeatable",
    ),
]
AdaptivePoints = Annotated[
    int | None, typer.Option("--adaptive", metavar="N", help="N points, where labels change")
]
Runs = Annotated[int | None, typer.Option("--runs", metavar="N", help="random starts per point")]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="processes; default: one per core")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:port"),
]
Resume = Annotated[bool, typer.Option("--resume", help="continue what was interrupted")]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="only redraw this result file")
]


def phase(
    source: Source = None,
    axis: Axis = None,
    adaptive: AdaptivePoints = None,
    runs: Runs = None,
    workers: Workers = None,
    cluster: Scheduler = None,
    resume: Resume = False,
    plot: Plot = None,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Label, error, plateau and stability over one to three keys; every finished point is kept."""
    if plot is not None:
        redraw(plot, out, json, quiet)
        return
    if source is None:
        raise ExperimentError("name an experiment file or preset, or a result file with --plot")
    if workers is not None and workers < 1:
        raise ExperimentError(f"--workers must be at least 1, not {workers}")
    experiment = common.experiment(source, set)
    folder = common.destination(out or Path("results") / experiment.name)
    from joblib import cpu_count

    from solvers.diagrams.engine import Interrupted
    from solvers.diagrams.phase import FILE, phase_diagram

    if cluster:
        getLogger("distributed").setLevel(CRITICAL)  # what matters is said in one sentence
    try:
        with _progress("trajectories" if runs else "points", quiet) as progress:
            diagram = phase_diagram(
                experiment, axis or (), folder, runs=runs, adaptive=adaptive,
                workers=workers or cpu_count(), cluster=cluster, resume=resume, progress=progress,
            )  # fmt: skip
    except Interrupted as stop:
        if json:
            _report(stop.result, None)
        raise
    common.save_figure(diagram.plot(), folder / Path(FILE).stem)
    if json:
        _report(diagram, folder / FILE)
    elif not quiet:
        common.echo(f"points     {diagram.points}")
        for label, count in diagram.labels.items():
            common.echo(f"{count:10d} {label}")
        common.echo(f"files      {folder}")


def _report(found: PhaseDiagram | Unfinished, file: Path | None) -> None:
    counts = {"points": found.points, "done": found.done, "labels": found.labels}
    common.show_json({**counts, "file": None if file is None else str(file)})


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Progress]:
    """What is done, the rate and the time left on stderr: a bar, or lines off a terminal."""
    begin: list[tuple[float, int]] = []

    def sentence(done: int, total: int) -> str:
        begin[:] = begin or [(monotonic(), done)]
        seconds, made = monotonic() - begin[0][0], done - begin[0][1]
        if not made:
            return f"{done} of {total} {what}"
        left = timedelta(seconds=round((total - done) * seconds / made))
        return f"{done} of {total} {what}, {made / seconds:.3g} per second, {left} left"

    if quiet:
        yield lambda done, total: None
    elif not sys.stderr.isatty():
        written = [monotonic()]

        def write(done: int, total: int) -> None:
            text = sentence(done, total)
            if monotonic() - written[0] > REPORT_SECONDS:
                written[0] = monotonic()
                common.echo(text, error=True)

        yield write
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting the workers")
            yield lambda done, total: bar.update(
                task, completed=done, total=total, description=sentence(done, total)
            )
