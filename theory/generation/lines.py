"""Lines of numpy source, and which of them depend on the parameters alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")


def names_in(code: str) -> set[str]:
    """The names that a piece of code reads; what follows a dot is none."""
    return set(_NAME.findall(code))


@dataclass(frozen=True)
class Line:
    """``name`` = code, or what stands at the entries ``at`` of it, which may be added to."""

    name: str
    code: str
    at: str = ""
    adds: bool = False

    def __str__(self) -> str:
        return f"{self.name}{self.at} {'+=' if self.adds else '='} {self.code}"

    def reads(self) -> set[str]:
        """The names that the line reads."""
        return names_in(f"{self.at} {self.code}")


def parted(lines: Sequence[Line], variable: Iterable[str]) -> tuple[list[Line], list[Line]]:
    """What depends on the parameters alone, and what on the names that vary, in order.

    An array with entries of both kinds is begun once and copied for each state.
    """
    moving = set(variable)
    for line in lines:
        if line.reads() & moving:
            moving.add(line.name)
    fixed: list[Line] = []
    varied: list[Line] = []
    begun: set[str] = set()
    copied: set[str] = set()
    for line in lines:
        still = not line.reads() & moving
        if line.name not in moving:
            fixed.append(line)
        elif still and (not line.at or line.name in begun):
            begun.add(line.name)
            fixed.append(replace(line, name=f"{line.name}_begun"))
        else:
            if line.name in begun - copied:
                varied.append(Line(line.name, f"{line.name}_begun.copy()"))
                copied.add(line.name)
            varied.append(line)
    return fixed, varied
