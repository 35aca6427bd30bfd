"""The command ``macrodyn``: one file per command, and the exit status of all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from solvers.cli.common import NUMERICAL_FAILURE, USER_ERROR, echo
from solvers.cli.continue_ import continue_
from solvers.cli.derive import derive
from solvers.cli.fixed_points import fixed_points
from solvers.cli.phase import phase
from solvers.cli.plot import plot
from solvers.cli.presets import presets
from solvers.cli.reproduce import reproduce
from solvers.cli.run import run
from solvers.cli.simulate import simulate
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure

app = typer.Typer(
    name="macrodyn",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a learning rule to its macroscopic theory: derive, solve, compare, draw.",
)
for command in (
    run, derive, simulate, fixed_points, continue_, phase, presets, reproduce, plot,
):  # fmt: skip
    app.command(command.__name__.strip("_").replace("_", "-"))(command)

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises: typer names no base class of its own for it."""


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        echo(f"macrodyn {installed('macrodyn')}")
    elif context.invoked_subcommand is None:
        echo(context.get_help())


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, 2 (user's error), 3 (numerical)."""
    try:
        status = typer.main.get_command(app).main(arguments, "macrodyn", standalone_mode=False)
        sys.stdout.flush()
    except ExperimentError as error:
        return _fail(str(error), USER_ERROR)
    except UsageError as error:
        return _fail(error.format_message(), USER_ERROR)  # type: ignore[attr-defined]
    except NumericalFailure as error:
        return _fail(str(error), NUMERICAL_FAILURE)
    except MemoryError:
        return _fail("this does not fit in memory; make model.hidden smaller", USER_ERROR)
    except (BrokenPipeError, SystemExit):  # typer's answer to a reader that has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        return _fail("interrupted before there was a result", NUMERICAL_FAILURE)
    return status if isinstance(status, int) else 0


INTERRUPTED = 130
"""What typer returns after Ctrl-C."""


def _fail(message: str, status: int) -> int:
    echo(f"macrodyn: {ExperimentError(message)}", error=True)
    return status


def main() -> NoReturn:
    """The entry point of the command."""
    sys.exit(execute())
