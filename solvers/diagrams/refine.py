"""Where to put the points of a diagram: on a grid, or where labels and values change.

A *place* is a tuple of whole numbers, one per axis; a placement asks for places in rounds and says
which values of the axes each stands for. The next round depends on all outcomes of the last, never
on the order in which they came: any number of workers puts the same points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from solvers.diagrams.axes import Axis, shape
from solvers.errors import ExperimentError

Place = tuple[int, ...]
Seen = Mapping[Place, tuple[str, float]]
"""Label and value found at each place so far."""

DEPTH = 20
"""A cell of the first round can be halved this often."""
FIRST_SHARE = 4
"""One in so many of an adaptive diagram's points makes the even first round."""
VALUE_WEIGHT = 0.25
"""Weight of a cell over which the value changes by all of its range, against a change of label."""
EVEN_WEIGHT = 1e-6
"""Weight of a cell in which nothing changes."""


class Placement(Protocol):
    """Decides which points are computed, round by round."""

    @property
    def total(self) -> int:
        """Number of points."""
        ...

    def values(self, place: Place) -> tuple[float, ...]:
        """The values of the axes at a place."""
        ...

    def rounds(self, seen: Seen) -> Iterator[Iterable[Place]]:
        """The places of each round; ``seen`` holds all outcomes when the next one is asked for."""
        ...


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of the axes, in one round."""

    axes: tuple[Axis, ...]

    @property
    def total(self) -> int:
        """Number of points."""
        return math.prod(shape(self.axes))

    def values(self, place: Place) -> tuple[float, ...]:
        """The values of the axes at a place."""
        return tuple(axis.values[i] for axis, i in zip(self.axes, place, strict=True))

    def rounds(self, seen: Seen) -> Iterator[Iterable[Place]]:
        """One round."""
        yield itertools.product(*(range(n) for n in shape(self.axes)))


@dataclass(frozen=True)
class Cell:
    """A box between places: its lowest corner, and the length of its edges along the open axes."""

    corner: Place
    size: int


@dataclass(frozen=True)
class Adaptive:
    """``total`` points: an even start, then cells where the label or the value changes, halved.

    A cell counts for its size, times 1 if two labels are seen at its corners or on its edges, plus
    VALUE_WEIGHT · |Δ log ε| over it as a share of the whole range (1 where ε is missing in part).
    Each round halves all cells that count for at least half of the largest. An axis given as a list
    is not refined but taken at each of its values.
    """

    axes: tuple[Axis, ...]
    total: int

    def __post_init__(self) -> None:
        if not any(self._open):
            raise ExperimentError(
                "--adaptive needs an axis with values in between: write key=start:stop:count"
            )
        least = self._lists * 3 ** sum(self._open)
        if self.total < least:
            raise ExperimentError(f"--adaptive {self.total} is too few here: at least {least}")

    @property
    def _open(self) -> tuple[bool, ...]:
        return tuple(axis.continuous for axis in self.axes)

    @property
    def _lists(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes if not axis.continuous)

    @property
    def _first(self) -> int:
        """Cells per open axis in the first round."""
        share = self.total / (FIRST_SHARE * self._lists)
        return max(2, int(share ** (1 / sum(self._open)) + 1e-9) - 1)

    def values(self, place: Place) -> tuple[float, ...]:
        """The values of the axes at a place."""
        span = self._first << DEPTH
        return tuple(
            axis.between(i / span) if is_open else axis.values[i]
            for axis, i, is_open in zip(self.axes, place, self._open, strict=True)
        )

    def rounds(self, seen: Seen) -> Iterator[Iterable[Place]]:
        """Rounds until ``total`` points are placed."""
        ranges = [
            range(self._first if is_open else len(axis.values))
            for axis, is_open in zip(self.axes, self._open, strict=True)
        ]
        unit = 1 << DEPTH
        cells = [
            Cell(tuple(i * unit if o else i for i, o in zip(at, self._open, strict=True)), unit)
            for at in itertools.product(*ranges)
        ]
        first = [place for cell in cells for place in self._lattice(cell, (0, 1), cell.size)]
        placed = dict.fromkeys(first)
        yield list(placed)
        while len(placed) < self.total:
            chosen = self._chosen(cells, seen)
            if not chosen:
                return
            fresh: dict[Place, None] = {}
            for cell in chosen:
                fresh.update(dict.fromkeys(self._lattice(cell, (0, 1, 2), cell.size // 2)))
            new = [place for place in fresh if place not in placed][: self.total - len(placed)]
            placed.update(dict.fromkeys(new))
            yield new
            halved = set(chosen)
            cells = [cell for cell in cells if cell not in halved]
            cells += [half for cell in chosen for half in self._halves(cell)]

    def _lattice(self, cell: Cell, steps: Sequence[int], length: int) -> list[Place]:
        offsets = [[s * length for s in steps] if is_open else [0] for is_open in self._open]
        return [
            tuple(map(sum, zip(cell.corner, offset, strict=True)))
            for offset in itertools.product(*offsets)
        ]

    def _halves(self, cell: Cell) -> list[Cell]:
        half = cell.size // 2
        return [Cell(corner, half) for corner in self._lattice(cell, (0, 1), half)]

    def _chosen(self, cells: list[Cell], seen: Seen) -> list[Cell]:
        """The cells to halve, those that count most first; equal ones by their corner."""
        levels = [value for _, value in seen.values() if math.isfinite(value)]
        span = max(levels) - min(levels) if levels else 0.0
        counts = {cell: self._count(cell, seen, span) for cell in cells if cell.size > 1}
        largest = max(counts.values(), default=0.0)
        chosen = [cell for cell, count in counts.items() if count >= largest / 2]
        return sorted(chosen, key=lambda cell: (-counts[cell], cell.corner))

    def _count(self, cell: Cell, seen: Seen, span: float) -> float:
        """How much a cell counts; points that smaller neighbours put on its edges are heard too."""
        found = [seen[p] for p in self._lattice(cell, (0, 1, 2), cell.size // 2) if p in seen]
        levels = [value for _, value in found if math.isfinite(value)]
        change = (max(levels) - min(levels)) / span if levels and span > 0 else 0.0
        if 0 < len(levels) < len(found):
            change = 1.0
        mixed = len({label for label, _ in found}) > 1
        return cell.size * (mixed + VALUE_WEIGHT * change + EVEN_WEIGHT)
