"""``macrodyn derive``: the equations of a rule, printed."""

from __future__ import annotations

from typing import Annotated

import typer

from solvers import store
from solvers.cli import common
from solvers.errors import ExperimentError

FORMATS = {"latex": ".tex", "unicode": ".txt", "text": ".txt"}
"""What a page may be written in, and the ending of its file."""


def derive(
    source: common.Source,
    latex: Annotated[bool, typer.Option("--latex", help="print LaTeX (amsmath)")] = False,
    unicode: Annotated[bool, typer.Option("--unicode", help="print Unicode")] = False,
    text: Annotated[bool, typer.Option("--text", help="print plain text (the default)")] = False,
    averages: Annotated[
        bool, typer.Option("--averages/--no-averages", help="print the Gaussian averages too")
    ] = True,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Derive the equations of the rule and print them: definitions, flow, averages."""
    chosen = [name for name, on in zip(FORMATS, (latex, unicode, text), strict=True) if on]
    if len(chosen) > 1:
        raise ExperimentError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one")
    style = chosen[0] if chosen else "text"
    experiment = common.experiment(source, set)
    folder = common.destination(out) if out else None
    with common.progress("derive", quiet):
        page = getattr(experiment.flow, style)(averages=averages)
    if folder:
        path = folder / f"equations{FORMATS[style]}"
        store.write_atomically(path, lambda file: file.write_text(page, encoding="utf-8"))
    if json:
        flow = experiment.flow
        common.show_json({"rule": flow.rule.name, "format": style, "equations": page})
    elif not quiet:
        common.echo(page)
