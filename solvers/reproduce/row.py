"""One line of the table: what a paper states, what we find, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Relation(StrEnum):
    """How a number found must stand to the number expected."""

    equal = "="
    """|found − expected| ≤ tolerance · |expected|; an absolute tolerance where expected is 0."""
    below = "<"
    """found ≤ expected + tolerance."""
    above = ">"
    """found ≥ expected − tolerance."""


@dataclass(frozen=True)
class Row:
    """A statement with its number; ``command`` prints it."""

    paper: str
    statement: str
    expected: float
    found: float
    tolerance: float
    relation: Relation = Relation.equal

    @property
    def passed(self) -> bool:
        """Whether the number found is as stated; NaN never is."""
        gap = self.found - self.expected
        if self.relation is Relation.below:
            return gap <= self.tolerance
        if self.relation is Relation.above:
            return gap >= -self.tolerance
        return abs(gap) <= self.tolerance * (abs(self.expected) or 1.0)

    @property
    def command(self) -> str:
        """The command that prints this row."""
        return f"macrodyn reproduce {self.paper}"

    def to_dict(self) -> dict[str, Any]:
        """The row in plain values."""
        return {
            "paper": self.paper,
            "statement": self.statement,
            "relation": str(self.relation),
            "expected": self.expected,
            "found": self.found,
            "tolerance": self.tolerance,
            "passed": self.passed,
        }


Statement = Callable[[], list[Row]]
"""A computation that gives one or a few rows."""
