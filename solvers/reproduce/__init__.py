"""The papers' headline results out of the same engine, each a row with its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from solvers.errors import ExperimentError
from solvers.reproduce.row import Relation, Row, Statement

PAPERS = {
    "collins": "Collins et al. 2022, "
    "MAML and ANIL provably learn representations (arXiv:2202.03483)",
    "yuksel": "Yüksel et al. 2024, First-order ANIL despite overparametrisation (arXiv:2303.01335)",
    "chua": "Chua et al. 2021, "
    "how fine-tuning allows for effective meta-learning (arXiv:2105.02221)",
    "wang": "Wang et al. 2024, meta-learning in the teacher-student scenario (arXiv:2408.12545)",
}
"""Titles of the papers, by the name that the command takes; each has a module of that name."""


def statements(name: str) -> tuple[Statement, ...]:
    """What is computed for a paper; its module is imported when it is asked for."""
    return import_module(f"solvers.reproduce.{name}").STATEMENTS


def reproduce(name: str, progress: Callable[[float, float], None] | None = None) -> Iterator[Row]:
    """The rows of one paper, as they are computed.

    Raises:
        ExperimentError: no paper of that name.

    >>> sorted(PAPERS)
    ['chua', 'collins', 'wang', 'yuksel']
    """
    if name not in PAPERS:
        raise ExperimentError(f"no paper {name[:40]!r}; there are {', '.join(PAPERS)}")
    computed = statements(name)
    for done, statement in enumerate(computed):
        if progress:
            progress(done, len(computed))
        yield from statement()


__all__ = ["PAPERS", "Relation", "Row", "Statement", "reproduce"]
