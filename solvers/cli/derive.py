"""``macrodyn derive``: the equations of a rule, printed."""

from __future__ import annotations

from typing import Annotated

import typer

from solvers import store
from solvers.checks import one_of
from solvers.cli import common
from solvers.errors import ExperimentError
from solvers.experiment import Experiment

FORMATS = {"latex": ".tex", "unicode": ".txt", "text": ".txt"}
"""What a page may be written in, and the ending of its file."""

ANSATZ = "site-symmetric (K = M), specialised (K > M) or symmetric"
"""The names of reductions, as the help gives them."""


def derive(
    source: common.Source,
    latex: Annotated[bool, typer.Option("--latex", help="print LaTeX (amsmath)")] = False,
    unicode: Annotated[bool, typer.Option("--unicode", help="print Unicode")] = False,
    text: Annotated[bool, typer.Option("--text", help="print plain text (the default)")] = False,
    averages: Annotated[
        bool, typer.Option("--averages/--no-averages", help="print the Gaussian averages too")
    ] = True,
    ansatz: Annotated[
        str | None, typer.Option("--ansatz", metavar="NAME", help=f"reduce to {ANSATZ} states")
    ] = None,
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
        page = _page(experiment, ansatz, style, averages)
        if experiment.evaluate is not None and not ansatz:
            page += "\n" + _at_test_time(experiment, style, averages)
    if folder:
        path = folder / f"equations{FORMATS[style]}"
        store.write_atomically(path, lambda file: file.write_text(page, encoding="utf-8"))
    if json:
        found = {"rule": experiment.rule.name, "ansatz": ansatz, "format": style}
        common.show_json(found | {"equations": page})
    elif not quiet:
        common.echo(page)


def _page(experiment: Experiment, ansatz: str | None, style: str, averages: bool) -> str:
    """The page of a flow, or of its reduction, as it was printed before or derived now."""
    from theory.generation.sources import page_of

    if ansatz:
        _check(experiment, ansatz)
        kind = f"{style}_{ansatz}"
        write = lambda: _reduced(experiment, ansatz, style)  # noqa: E731
    else:
        kind = f"{style}_averages" if averages else style
        write = lambda: getattr(experiment.flow, style)(averages=averages)  # noqa: E731
    return page_of(experiment.rule, experiment.structure, experiment.activation, kind, write)


def _at_test_time(experiment: Experiment, style: str, averages: bool) -> str:
    """The page of the error after the adaptation of [evaluate], if that is closed."""
    from solvers.trajectories.evaluation import MEASURED, at_test_time
    from theory.generation.sources import page_of

    one = at_test_time(experiment)
    kind = f"error_{style}" + ("_averages" if averages else "")
    lead = "% " if style == "latex" else ""
    try:
        page = page_of(
            one.rule, one.structure, one.activation, kind,
            lambda: getattr(one.flow.error_alone, style)(averages=averages),
        )  # fmt: skip
    except ExperimentError as error:
        return f"{lead}{MEASURED}: {error}"
    return f"{lead}evaluation_error, the error at test time:\n{page}"


def _check(experiment: Experiment, name: str) -> None:
    """Refuse an ansatz that is none, or that does not fit the numbers of units."""
    from theory.ansatz import ANSAETZE

    one_of("--ansatz", name, tuple(ANSAETZE))
    extra = experiment.layout.hidden - experiment.layout.teacher_hidden
    if (name == "site-symmetric" and extra) or (name == "specialised" and extra <= 0):
        needs = "equal to" if name == "site-symmetric" else "larger than"
        raise ExperimentError(
            f"--ansatz {name} needs model.hidden {needs} model.teacher_hidden; change one of them"
        )


def _reduced(experiment: Experiment, name: str, style: str) -> str:
    """The page of the flow on the states of an ansatz."""
    from theory.ansatz import ANSAETZE, reduce
    from theory.errors import NoClosedFormError
    from theory.printed_reduction import page
    from theory.printing import ascii_text

    try:
        reduction = reduce(experiment.flow, ANSAETZE[name], experiment.activation)
    except NoClosedFormError as error:
        raise ExperimentError(error) from error
    shown = page(reduction, latex=style == "latex")
    return ascii_text(shown) if style == "text" else shown
