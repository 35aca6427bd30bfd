"""``macrodyn reproduce``: the papers' table, row by row, with pass or fail."""

from __future__ import annotations

from typing import Annotated

import typer

from solvers.cli import common
from solvers.errors import ExperimentError
from solvers.reproduce import PAPERS, Row
from solvers.reproduce import reproduce as rows_of

Name = Annotated[str | None, typer.Argument(metavar="NAME", help=f"one of {', '.join(PAPERS)}")]
All = Annotated[bool, typer.Option("--all", help="every paper")]
Markdown = Annotated[bool, typer.Option("--markdown", help="print the rows as a Markdown table")]


def reproduce(
    name: Name = None,
    all: All = False,
    markdown: Markdown = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Compute the papers' results and compare each number with what the paper states."""
    if (name is None) != all:
        known = ", ".join(PAPERS)
        raise ExperimentError(f"name one of {known}, or give --all")
    if json and markdown:
        raise ExperimentError("--json and --markdown exclude each other; give one of them")
    names = tuple(PAPERS) if name is None else (name,)
    rows: list[Row] = []
    if markdown:
        common.echo(
            "| paper | statement | expected | our number | within | | command |\n"
            "|---|---|---|---|---|---|---|"
        )
    for paper in names:
        with common.progress(f"reproduce {paper}", quiet) as report:
            for row in rows_of(paper, report):
                rows.append(row)
                if not json and not quiet:
                    common.echo(_markdown(row) if markdown else _line(row))
    failed = sum(not row.passed for row in rows)
    if json:
        common.show_json({"rows": [row.to_dict() for row in rows], "failed": failed})
    elif not quiet and not markdown:
        common.echo(f"{len(rows) - failed} of {len(rows)} rows pass")
    if failed:
        common.echo(f"macrodyn: {failed} of {len(rows)} rows fail", error=True)
        raise typer.Exit(common.NUMERICAL_FAILURE)


def _verdict(row: Row) -> str:
    return "pass" if row.passed else "FAIL"


def _line(row: Row) -> str:
    relation = "" if row.relation == "=" else f"{row.relation} "
    return (
        f"{_verdict(row)}  {row.paper:8} {row.found:<14.8g} {relation}{row.expected:.8g}"
        f" ± {row.tolerance:.1g}\n      {row.statement}"
    )


def _markdown(row: Row) -> str:
    relation = "" if row.relation == "=" else f"{row.relation} "
    cells = (
        PAPERS[row.paper].split(",")[0], row.statement, f"{relation}{row.expected:.6g}",
        f"{row.found:.6g}", f"{row.tolerance:.1g}", _verdict(row), f"`{row.command}`",
    )  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
