"""``macrodyn continue``: how fixed points and their stability change with a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from solvers import store
from solvers.cli import common

if TYPE_CHECKING:
    from solvers.branch import Diagram

Parameter = Annotated[
    str, typer.Option("--parameter", metavar="KEY", help="the number to vary, e.g. rule.outer_rate")
]
From = Annotated[float, typer.Option("--from", metavar="A", help="one end of its range")]
To = Annotated[float, typer.Option("--to", metavar="B", help="the other end")]


def continue_(
    source: common.Source,
    parameter: Parameter,
    start: From,
    stop: To,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Follow all fixed points in a parameter: branches, stability, special points."""
    experiment = common.experiment(source, set)
    folder = common.destination(out) if out else None
    from solvers.continuation import continue_all

    diagram = continue_all(experiment, parameter, start, stop)
    if folder:
        store.save(diagram.dataset, folder / "continuation.nc", experiment)
        if diagram:
            common.save_figure(diagram.plot(), folder / "continuation")
    common.warn(diagram.warnings, quiet)
    if json:
        common.show_json(diagram.to_dict())
    elif not quiet:
        _summarise(diagram)
        if folder:
            common.echo(f"files      {folder}")


def _summarise(diagram: Diagram) -> None:
    common.echo(diagram.message)
    for number, branch in enumerate(diagram, 1):
        low, high = branch.parameter.min(), branch.parameter.max()
        start = "" if branch.origin == "start" else f", from the {branch.origin}"
        common.echo(
            f"\n{number}. {branch.name} from {low:.6g} to {high:.6g}, {len(branch)} points, "
            f"symmetry: {branch.symmetry}{start}"
        )
        for special in branch.special_points:
            common.echo(f"   {special.sentence}")
        for end in branch.ends:
            common.echo(f"   ends: {end}")
