"""The papers' headline results out of the same engine, each a row with its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from solvers.errors import ExperimentError
from solvers.reproduce import chua, collins, wang, yuksel
from solvers.reproduce.row import Relation, Row, Statement

PAPERS: dict[str, tuple[str, tuple[Statement, ...]]] = {
    "collins": (collins.TITLE, collins.STATEMENTS),
    "yuksel": (yuksel.TITLE, yuksel.STATEMENTS),
    "chua": (chua.TITLE, chua.STATEMENTS),
    "wang": (wang.TITLE, wang.STATEMENTS),
}
"""Title and statements of each paper, by the name that the command takes."""


def reproduce(name: str, progress: Callable[[float, float], None] | None = None) -> Iterator[Row]:
    """The rows of one paper, as they are computed.

    Raises:
        ExperimentError: no paper of that name.

    >>> sorted(PAPERS)
    ['chua', 'collins', 'wang', 'yuksel']
    """
    if name not in PAPERS:
        raise ExperimentError(f"no paper {name[:40]!r}; there are {', '.join(PAPERS)}")
    statements = PAPERS[name][1]
    for done, statement in enumerate(statements):
        if progress:
            progress(done, len(statements))
        yield from statement()


__all__ = ["PAPERS", "Relation", "Row", "Statement", "reproduce"]
