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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar, root_scalar

from solvers.results import Plateau

Array = NDArray[np.float64]
Signal = Callable[[float], float]
Shape = tuple[int, int, int]
"""First and last mesh index of a plateau, and that of the maximum that follows it."""

DEPTH = 10.0
"""A plateau is where the speed is this much below the following maximum."""
ESCAPED = 0.3
"""The specialization above which the escape has happened."""
HUMP = 1.02
"""The least ratio of a maximum of the speed to the minimum beside it."""
RESOLVED = 1e-13
"""An error below this share of the largest one is rounding, and has no speed."""


def resolved(errors: Array, rtol: float = 0.0) -> int:
    """How many of the errors (n,) come before the first that is no more than rounding.

    States good to 10² × rtol leave an error of the order of (10² rtol)² behind.
    """
    floor = max(RESOLVED, (100 * rtol) ** 2) * np.nanmax(errors, initial=0.0)
    lost = np.flatnonzero(~(errors > floor))
    return int(lost[0]) if lost.size else len(errors)


def find_plateaus(
    times: Array, errors: Array, speed: Signal | None = None, level: Signal | None = None
) -> tuple[Plateau, ...]:
    """All plateaus on a path, in order.

    ``times`` (n,) is a mesh that resolves the path, ``errors`` (n,) ε on it; ``speed`` and
    ``level`` give v and ε at any time, to which the ends are then solved. Without them (discrete
    time) the speed is that from one mesh time to the next and the ends are mesh times. All errors
    must be above rounding (``resolved``).
    """
    if len(times) < 4:
        return ()
    if speed is None:
        speeds = np.abs(np.diff(np.log(errors)) / np.diff(times))
        times, errors = times[:-1], errors[:-1]
    else:
        speeds = np.abs(CubicSpline(times, np.log(errors))(times, 1))
    shortest = 1.0 if speed is None else 0.5
    valleys = _valleys(speeds)
    lowest: dict[Shape, tuple[int, list[Shape]]] = {}
    for low in sorted((low for low, _ in valleys), key=lambda i: -speeds[i]):
        peaks = _records(speeds, [high for _, high in valleys if high > low])
        shapes = [_shape(times, speeds, low, peak, shortest) for peak in peaks]
        if possible := [shape for shape in shapes if shape is not None]:
            lowest[possible[0]] = low, possible
    found = set()
    for low, possible in lowest.values():
        for start, end, peak in possible:
            plateau = Plateau(float(times[start]), float(times[end]), float(errors[low]))
            if speed is not None and level is not None:
                plateau = _solved(times, speeds, speed, level, low, peak)
            if plateau is not None:
                found.add(plateau)
                break
    return tuple(sorted(found, key=lambda plateau: plateau.start))


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
    low = high = 0
    rising = False
    for i in range(len(speeds)):
        if rising:
            high = i if speeds[i] >= speeds[high] else high
            if speeds[i] * HUMP < speeds[high]:
                valleys.append((low, high))
                rising, low = False, i
        else:
            low = i if speeds[i] <= speeds[low] else low
            if speeds[i] > HUMP * speeds[low]:
                rising, high = True, i
    return [*valleys, (low, high)] if rising else valleys


def _shape(times: Array, speeds: Array, low: int, peak: int, shortest: float) -> Shape | None:
    """The plateau about ``low`` before ``peak`` on the mesh; None if too short or too shallow."""
    fast = np.flatnonzero(speeds >= speeds[peak] / DEPTH)
    start = int(np.max(fast[fast < low], initial=-1)) + 1
    end = int(np.min(fast[fast > low], initial=len(times))) - 1
    if low in fast or times[end] - times[start] <= shortest / speeds[peak]:
        return None
    return start, end, peak


def _solved(
    times: Array, speeds: Array, speed: Signal, level: Signal, low: int, peak: int
) -> Plateau | None:
    top = _extremum(speed, times, peak, sign=-1.0)
    bottom = _extremum(speed, times, low, sign=1.0)
    threshold = speed(top) / DEPTH
    if not speed(bottom) < threshold:
        return None
    start = _crossing(speed, threshold, times, speeds, low, bottom, step=-1)
    end = _crossing(speed, threshold, times, speeds, low, bottom, step=1)
    if end - start <= 1 / (DEPTH * threshold):
        return None
    return Plateau(start, end, level(bottom))


def _extremum(speed: Signal, times: Array, node: int, sign: float) -> float:
    """The time of the minimum (sign 1) or maximum (−1) of the speed next to a node of the mesh."""
    at = float(times[node])
    left, right = float(times[max(node - 1, 0)]), float(times[min(node + 1, len(times) - 1)])
    width = {"xatol": 1e-5 * (right - left)}
    best: Any = minimize_scalar(
        lambda t: sign * speed(t), bounds=(left, right), method="bounded", options=width
    )
    return min((at, float(best.x)), key=lambda t: sign * speed(t))


def _crossing(
    speed: Signal, threshold: float, times: Array, speeds: Array, low: int, inside: float, step: int
) -> float:
    """Where the speed reaches the threshold, going from the time ``inside`` in the given direction.

    The mesh speeds, good to a few per cent, tell where to look; the start of the path if nowhere.
    """
    excess = lambda t: speed(t) - threshold  # noqa: E731
    below, node = inside, low + step
    while 0 <= node < len(times):
        at = float(times[node])
        if (at - inside) * step > 0:
            if speeds[node] > 0.5 * threshold and excess(at) >= 0:
                return _root(excess, below if excess(below) < 0 else inside, at)
            below = at
        node += step
    return float(times[0] if step < 0 else times[-1])


def _root(signal: Signal, a: float, b: float) -> float:
    return float(root_scalar(signal, bracket=(min(a, b), max(a, b)), method="brentq").root)


def escape_time(
    times: Array, specializations: Array, specialization: Signal | None
) -> float | None:
    """The first time at which the specialization exceeds 0.3; None if it never does.

    ``specializations`` are those on the mesh ``times``, NaN where undefined; ``specialization``
    gives it at any time between, or is None for discrete time.
    """
    above = specializations > ESCAPED
    if not above.any():
        return None
    first = int(np.argmax(above))
    before, after = float(times[max(first - 1, 0)]), float(times[first])
    if specialization is None or first == 0 or not np.isfinite(specializations[first - 1]):
        return after
    return _root(lambda t: specialization(t) - ESCAPED, before, after)
