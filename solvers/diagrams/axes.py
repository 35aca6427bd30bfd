"""The axes of a diagram: which keys of the experiment vary, and over which values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from solvers.errors import ExperimentError

FORM = "write key=start:stop:count, key=start:stop:count:log or key=a,b,c"
MOST_POINTS = 10_000_000
MOST_LISTED = 12
"""A range of at most so many whole numbers is drawn as a list of them."""


@dataclass(frozen=True)
class Axis:
    """One key of the experiment and the values it takes, ``scale`` "linear", "log" or "list".

    ``stepped``: values between the given ones make no sense.

    >>> Axis.parse("rule.inner_rate=1:100:3:log").values
    (1.0, 10.0, 100.0)
    >>> Axis.parse("rule.support=[1,10,inf]").values
    (1, 10, inf)
    """

    key: str
    values: tuple[float, ...]
    scale: str
    stepped: bool = False

    @classmethod
    def parse(cls, text: str) -> Axis:
        """The axis that ``text`` describes. Raises ExperimentError with the accepted form."""
        key, equals, body = text.partition("=")
        key, body = key.strip(), body.strip()
        if not (equals and key and body):
            raise ExperimentError(f"axis {text!r} is not understood: {FORM}")
        try:
            if ":" in body:
                values, scale = _range(body.split(":")), "linear"
                if body.endswith(":log"):
                    scale = "log"
            else:
                values, scale = _list(body), "list"
        except ValueError as error:
            raise ExperimentError(f"axis {text!r}: {error}; {FORM}") from None
        return cls(key, values, scale)

    def whole(self) -> Axis:
        """The same axis for a key that takes whole numbers only: rounded, each value once."""
        values = dict.fromkeys(v if math.isinf(v) else round(v) for v in self.values)
        scale = self.scale if len(values) > MOST_LISTED else "list"
        return Axis(self.key, tuple(values), scale, stepped=True)

    @property
    def continuous(self) -> bool:
        """Whether values between the given ones make sense too."""
        return self.scale != "list" and not self.stepped and len(self.values) > 1

    def between(self, fraction: float) -> float:
        """The value at ``fraction`` ∈ [0, 1] of the way from the first to the last."""
        first, last = self.values[0], self.values[-1]
        if fraction in (0.0, 1.0):
            return last if fraction else first
        if self.scale == "log":
            return float(first * (last / first) ** fraction)
        return float(first + (last - first) * fraction)


def parse_axes(texts: Iterable[str]) -> tuple[Axis, ...]:
    """One to three axes over different keys."""
    return checked(Axis.parse(text) for text in texts)


def checked(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """The axes, if they are one to three over different keys, not too long together."""
    axes = tuple(axes)
    keys = [axis.key for axis in axes]
    if not 1 <= len(axes) <= 3:
        raise ExperimentError(f"a diagram has one to three axes, not {len(axes)}: {FORM}")
    if len(set(keys)) < len(keys):
        raise ExperimentError(f"the axes {', '.join(keys)} repeat a key")
    points = math.prod(shape(axes))
    if points > MOST_POINTS:
        raise ExperimentError(
            f"{points} points are more than the {MOST_POINTS} that a diagram can hold"
        )
    return axes


def shape(axes: Iterable[Axis]) -> tuple[int, ...]:
    """Number of values on each axis."""
    return tuple(len(axis.values) for axis in axes)


def _number(text: str) -> float:
    text = text.strip()
    value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if math.isnan(value):
        raise ValueError("nan is not a value")
    return value


def _range(parts: list[str]) -> tuple[float, ...]:
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
        raise ValueError("a range has the form start:stop:count or start:stop:count:log")
    start, stop, count = (_number(part) for part in parts[:3])
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ValueError("a range needs finite ends")
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"the count must be a whole number, at least 1, not {parts[2]}")
    if count > MOST_POINTS:
        raise ValueError(f"the count must be at most {MOST_POINTS}")
    if count > 1 and start == stop:
        raise ValueError("a range needs two different ends")
    if len(parts) == 4:
        if min(start, stop) <= 0:
            raise ValueError("a logarithmic range needs positive ends")
        return tuple(np.geomspace(start, stop, count).tolist())
    return tuple(np.linspace(start, stop, count).tolist())


def _list(body: str) -> tuple[float, ...]:
    opened, closed = body.startswith("["), body.endswith("]")
    if opened != closed:
        raise ValueError("a bracket is missing")
    values = tuple(_number(part) for part in body.strip("[]").split(","))
    if len(set(values)) < len(values):
        raise ValueError("a value stands twice")
    return values
