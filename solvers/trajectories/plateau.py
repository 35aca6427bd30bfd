"""Plateaus of the error, and the escape from them, on a solution known at any time.

Definitions: the speed is v = |d ln ε/dα|. A plateau is, around a local minimum of v that is
followed by a larger maximum v₊, the interval where v < v₊/10, if it is longer than 1/v₊; its level
is ε at the minimum. Of several following maxima the first counts that makes it a plateau; of
several minima in one interval the lowest. The minimum may stand at the start of the path and the
maximum at its end (a run that ends on its way down); humps of v of less than 2 % are no maxima.
The escape time is the first at which the specialization exceeds 0.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.results import Plateau

Array = NDArray[np.float64]
Signal = Callable[[Array], Array]
"""Values (n,) at times (n,)."""
Shape = tuple[int, int, int]
"""First and last mesh index of a plateau, and that of the maximum that follows it."""

DEPTH = 10.0
"""A plateau is where the speed is this much below the following maximum."""
ESCAPED = 0.3
"""The specialization above which the escape has happened."""
HUMP = 1.02
"""The least ratio of a maximum of the speed to the minimum beside it."""
TRIED = 33
"""A crossing is looked for at so many times between two."""
SEARCHED = 17
"""An extremum is looked for at so many times between two, twice."""
LIKELY = 0.8
"""A plateau is solved for if it is this share of the least length on the mesh, where speeds are
good to a few per cent."""
RESOLVED = 1e-13
"""An error below this share of the largest one is rounding, and has no speed."""


def resolved(errors: Array, rtol: float = 0.0) -> int:
    """How many of the errors (n,) come before the first that is no more than rounding.

    States good to 10² × rtol leave an error of the order of (10² rtol)² behind.
    """
    floor = max(RESOLVED, (100 * rtol) ** 2) * np.nanmax(errors, initial=0.0)
    lost = np.flatnonzero(~(errors > floor))
    return int(lost[0]) if lost.size else len(errors)


def estimated_speeds(times: Array, errors: Array) -> Array:
    """The speeds (n,) that the errors (n,) at some times have, by polynomials through five each."""
    n = len(times)
    if n < 2:
        return np.zeros(n)
    width = min(n, 5)
    first = np.minimum(np.maximum(np.arange(n) - 2, 0), n - width)
    t, level = [times[first + j] for j in range(width)], np.log(errors)
    weights = [np.prod([x - other for other in t if other is not x], axis=0) for x in t]
    own, slopes = np.choose(np.arange(n) - first, weights), np.zeros(n)
    for j, x in enumerate(t):  # barycentric; the point itself rises by nothing
        distance = x - times
        distance[distance == 0] = 1.0
        slopes += own * (level[first + j] - level) / (weights[j] * distance)
    return np.abs(slopes)


def find_plateaus(times: Array, speeds: Array, speed: Signal, level: Signal) -> tuple[Plateau, ...]:
    """All plateaus on a path, in order.

    ``times`` (n,) is a mesh that resolves the path, ``speeds`` (n,) are those on it, which tell
    where to look; ``speed`` and ``level`` give v and ε at any times, to which the ends are solved.
    All errors must be above rounding (``resolved``).
    """

    def solved(low: int, shape: Shape) -> Plateau | None:
        return _solved(times, speeds, speed, level, low, shape[-1])

    return _found(times, speeds, LIKELY, 1, solved)


def of_steps(steps: Array, errors: Array) -> tuple[Plateau, ...]:
    """All plateaus in discrete time: the speed is that to the next step, and the ends are steps."""
    if len(steps) < 2:
        return ()
    speeds = np.abs(np.diff(np.log(errors)) / np.diff(steps))

    def solved(low: int, shape: Shape) -> Plateau | None:
        return Plateau(float(steps[shape[0]]), float(steps[shape[1]]), float(errors[low]))

    return _found(steps[:-1], speeds, 1.0, 0, solved)


def _found(
    times: Array, speeds: Array, shortest: float, beyond: int,
    solved: Callable[[int, Shape], Plateau | None],
) -> tuple[Plateau, ...]:  # fmt: skip
    """The plateaus that the speeds on the mesh suggest, as ``solved`` makes them of shapes."""
    if len(times) < 3:
        return ()
    valleys = _valleys(speeds)
    lowest: dict[Shape, tuple[int, list[Shape]]] = {}
    for low in sorted((low for low, _ in valleys), key=lambda i: -speeds[i]):
        peaks = _records(speeds, [high for _, high in valleys if high > low])
        shapes = [_shape(times, speeds, low, peak, shortest, beyond) for peak in peaks]
        if possible := [shape for shape in shapes if shape is not None]:
            lowest[possible[0]] = low, possible
    found: set[Plateau | None] = set()
    for low, possible in lowest.values():
        made = (solved(low, shape) for shape in possible)
        found.add(next((plateau for plateau in made if plateau is not None), None))
    return tuple(sorted(filter(None, found), key=lambda plateau: plateau.start))


def _records(speeds: Array, peaks: list[int]) -> list[int]:
    """The peaks that are higher than all before them."""
    records: list[int] = []
    for peak in peaks:
        if not records or speeds[peak] > speeds[records[-1]]:
            records.append(peak)
    return records


def _valleys(speeds: Array) -> list[tuple[int, int]]:
    """Each local minimum with the local maximum that follows it, humps below 2 % left out."""
    valleys: list[tuple[int, int]] = []
    low, high, rising, values = 0, 0, False, speeds.tolist()
    for i, value in enumerate(values):
        if rising:
            high = i if value >= values[high] else high
            if value * HUMP < values[high]:
                valleys.append((low, high))
                rising, low = False, i
        else:
            low = i if value <= values[low] else low
            if value > HUMP * values[low]:
                rising, high = True, i
    return [*valleys, (low, high)] if rising else valleys


def _shape(
    times: Array, speeds: Array, low: int, peak: int, shortest: float, beyond: int
) -> Shape | None:
    """The plateau about ``low`` before ``peak`` on the mesh; None if too shallow, or if it and
    ``beyond`` nodes on either side are too short."""
    fast = np.flatnonzero(speeds >= speeds[peak] / DEPTH)
    start = int(np.max(fast[fast < low], initial=-1)) + 1
    end = int(np.min(fast[fast > low], initial=len(times))) - 1
    length = times[min(end + beyond, len(times) - 1)] - times[max(start - beyond, 0)]
    if low in fast or length <= shortest / speeds[peak]:
        return None
    return start, end, peak


def _solved(
    times: Array, speeds: Array, speed: Signal, level: Signal, low: int, peak: int
) -> Plateau | None:
    top = _extremum(speed, times, peak, sign=-1.0)
    bottom = _extremum(speed, times, low, sign=1.0)
    highest, lowest = speed(np.array([top, bottom])).tolist()
    threshold = highest / DEPTH
    if not lowest < threshold:
        return None
    start = _crossing(speed, threshold, times, speeds, low, bottom, step=-1)
    end = _crossing(speed, threshold, times, speeds, low, bottom, step=1)
    if end - start <= 1 / (DEPTH * threshold):
        return None
    return Plateau(start, end, float(level(np.array([bottom]))[0]))


def _extremum(speed: Signal, times: Array, node: int, sign: float) -> float:
    """The time of the minimum (sign 1) or maximum (−1) of the speed next to a node of the mesh."""
    t, v, best = times[max(node - 1, 0) : node + 2], np.empty(0), times[node]
    for _ in range(2):
        t = np.unique(np.append(np.linspace(t[0], t[-1], SEARCHED), best))
        v = sign * speed(t)
        i = int(v.argmin())
        t, v, best = t[max(i - 1, 0) : i + 2], v[max(i - 1, 0) : i + 2], t[i]
    return _vertex(t, v) if len(t) == 3 else float(best)


def _vertex(t: Array, v: Array) -> float:
    """The lowest point of the parabola through three points, the middle one of which is lowest."""
    left, right = (v[0] - v[1]) / (t[1] - t[0]), (v[2] - v[1]) / (t[2] - t[1])
    if not left + right > 0:
        return float(t[1])
    moved = (left * (t[2] - t[1]) - right * (t[1] - t[0])) / 2 / (left + right)
    return float(min(max(t[1] + moved, t[0]), t[2]))


def _crossing(
    speed: Signal, threshold: float, times: Array, speeds: Array, low: int, inside: float, step: int
) -> float:
    """Where the speed reaches the threshold, going from the time ``inside`` in the given direction.

    The mesh speeds, good to a few per cent, tell where to look; the start of the path if nowhere.
    """
    nodes = np.arange(low, len(times) if step > 0 else -1, step)
    nodes = nodes[(times[nodes] - inside) * step > 0]
    likely = np.flatnonzero(speeds[nodes] > 0.5 * threshold)
    count = 4
    while len(likely):
        some, likely, count = likely[:count], likely[count:], 4 * count
        above = some[speed(times[nodes[some]]) >= threshold]
        if len(above):
            first = above[0]
            before = float(times[nodes[first - 1]]) if first > 0 else inside
            excess = lambda t: np.log(speed(t) / threshold)  # noqa: E731
            return root(excess, before, float(times[nodes[first]]))
    return float(times[0] if step < 0 else times[-1])


def root(signal: Signal, below: float, above: float) -> float:
    """Where a signal, negative at ``below`` and not at ``above``, first changes its sign."""
    t = np.linspace(below, above, TRIED)
    v = signal(t)
    i = max(int(np.argmax(v >= 0)), 1)
    near = slice(max(i - 4, 0), i + 4)
    root = _inverse(v[near], t[near])
    low, high = sorted((float(t[i - 1]), float(t[i])))
    return min(max(root, low), high) if np.isfinite(root) else float(t[i])


def _inverse(v: Array, t: Array) -> float:
    """The time t at which v vanishes, by the polynomial t(v) through all points (Neville)."""
    t = t.copy()
    with np.errstate(all="ignore"):
        for k in range(1, len(t)):
            t[:-k] = (v[k:] * t[: len(t) - k] - v[:-k] * t[1 : len(t) - k + 1]) / (v[k:] - v[:-k])
    return float(t[0])


def escape_time(
    times: Array, specializations: Array, specialization: Signal | None
) -> float | None:
    """The first time at which the specialization exceeds 0.3; None if it never does.

    ``specializations`` are those on the mesh ``times``, NaN where undefined; ``specialization``
    gives it at any times between, or is None for discrete time.
    """
    above = specializations > ESCAPED
    if not above.any():
        return None
    first = int(np.argmax(above))
    before, after = float(times[max(first - 1, 0)]), float(times[first])
    if specialization is None or first == 0 or not np.isfinite(specializations[first - 1]):
        return after
    return root(lambda t: specialization(t) - ESCAPED, before, after)
