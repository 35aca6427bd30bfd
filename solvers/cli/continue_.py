"""``macrodyn continue``: how fixed points and their stability change with a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solvers import store
from solvers.cli import common
from solvers.errors import ExperimentError

if TYPE_CHECKING:
    from solvers.experiment import Experiment
    from solvers.stability.branch import Diagram
    from solvers.stability.curves import SpecialCurves

Parameter = Annotated[
    str, typer.Option("--parameter", metavar="KEY", help="the number to vary, e.g. rule.outer_rate")
]
From = Annotated[float, typer.Option("--from", metavar="A", help="one end of its range")]
To = Annotated[float, typer.Option("--to", metavar="B", help="the other end")]
Along = Annotated[
    str | None,
    typer.Option(
        "--curve", metavar="KEY=A:B", help="follow where stability is lost in a second number too"
    ),
]


def continue_(
    source: common.Source,
    parameter: Parameter,
    start: From,
    stop: To,
    curve: Along = None,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Follow all fixed points in a parameter: branches, stability, special points."""
    experiment = common.experiment(source, set)
    folder = common.destination(out) if out else None
    along = _second(experiment, curve) if curve else None
    from solvers.stability.continuation import continue_all

    diagram = continue_all(experiment, parameter, start, stop)
    curves = None
    if along:
        from solvers.stability.curves import special_curves

        curves = special_curves(diagram, *along)
    if folder:
        _write(diagram, curves, folder)
    common.warn(diagram.warnings, quiet)
    common.tell(
        lambda: _report(diagram, curves), lambda: _summarise(diagram, curves), folder, json, quiet
    )


def _second(experiment: Experiment, text: str) -> tuple[str, float, float]:
    """KEY=A:B, checked before any branch is followed."""
    key, _, values = text.partition("=")
    try:
        low, high = (float(value) for value in values.split(":"))
    except ValueError:
        raise ExperimentError(
            f"--curve takes KEY=A:B with two numbers, not {text[:60]!r}"
        ) from None
    from solvers.stability.curves import second_range

    return key, *second_range(experiment, key, low, high)[1:]


def _write(diagram: Diagram, curves: SpecialCurves | None, folder: Path) -> None:
    store.save(diagram.arrays, folder / "continuation.nc", diagram.experiment)
    if diagram:
        common.save_figure(diagram.plot(), folder / "continuation")
    if curves:
        store.save(curves.arrays, folder / "curves.nc", diagram.experiment)
        common.save_figure(curves.plot(), folder / "curves")


def _report(diagram: Diagram, curves: SpecialCurves | None) -> dict[str, Any]:
    found = {} if curves is None else {"curves": [curve.to_dict() for curve in curves]}
    return diagram.to_dict() | found


def _summarise_curves(curves: SpecialCurves) -> None:
    if not curves:
        common.echo("\nno special point at which modes cross: there is no curve to follow")
    for number, curve in enumerate(curves, 1):
        common.echo(f"\ncurve {number}, {curve.sentence}")
        for end in curve.ends:
            common.echo(f"   ends: {end}")


def _summarise(diagram: Diagram, curves: SpecialCurves | None) -> None:
    common.echo(diagram.message)
    for number, branch in enumerate(diagram, 1):
        common.echo(f"\n{number}. {branch.sentence}")
        if branch.family:
            differ = ", which differ in stability" if branch.varies else " of the same spectrum"
            common.echo(f"   one of a {branch.family}-dimensional family of fixed points{differ}")
        for special in branch.special_points:
            common.echo(f"   {special.sentence}")
        for end in branch.ends:
            common.echo(f"   ends: {end}")
    if curves is not None:
        _summarise_curves(curves)
