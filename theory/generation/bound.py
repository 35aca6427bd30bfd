"""Compiled functions of the state alone, whose parameters are replaced where they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.generation.machine import Kernel
from theory.overlaps import Layout

Array = NDArray[np.float64]
Given = Callable[[str, Mapping[str, Any]], Any]
"""(name, parameters) → the value that a compiled function takes."""


@dataclass
class Bound:
    """A compiled function with the parameters ``packed`` one after the other.

    ``places`` holds the name, value, shape and place of each parameter.
    """

    call: Callable[[Array], Array]
    packed: Array
    places: list[tuple[str, Any, tuple[int, ...], slice]]
    given: Given

    def takes(self, parameters: Mapping[str, Any]) -> bool:
        """Puts the values that are new into their places; False if one has another shape."""
        for i, (name, old, shape, place) in enumerate(self.places):
            if (new := parameters[name]) is not old:
                value = self.given(name, parameters)
                if np.shape(value) != shape:
                    return False
                self.packed[place] = np.ravel(value)
                self.places[i] = name, new, shape, place
        return True


def bind(kernel: Kernel, packed: Array, size: int, shape: tuple[int, ...]) -> Any:
    """A function of y (size,) that returns an array of this shape; reads ``packed`` each time."""
    state, work, out = np.empty(size), np.empty(max(kernel.work, 1)), np.empty(shape)
    places = [a.ctypes.data for a in (state, packed, work, out)]
    function, kept = kernel.function, (kernel, packed, work)

    def call(y: Array, _: Any = kept) -> Array:  # what the addresses point to stays alive
        state[:] = y
        function(*places)
        return out.copy()

    return call


def places(
    layout: Mapping[str, Any],
    shapes: Mapping[str, Any],
    parameters: Mapping[str, Any],
    given: Given,
) -> list[tuple[str, Any, tuple[int, ...], slice]]:
    """Where each parameter stands among the arguments ``shapes``, those of the layout included."""
    found, start = [], 0
    for name in shapes:
        value = layout[name] if name in layout else given(name, parameters)
        stop = start + np.size(value)
        if name not in layout:
            found.append((name, parameters[name], np.shape(value), slice(start, stop)))
        start = stop
    return found


STATE = ("Q", "R", "w")
VARIABLE = (*STATE, "S_finite", "S_finite_dot")
"""Arguments of the generated functions that change from one state to the next."""
OVER_PAIRS = ("rows", "columns", "couples", "places", "mirrored")
"""Index arrays over pairs l ≤ k of units: k, l, both, and where they stand, either way, in matrices
with an axis of all fields."""


def index_arrays(layout: Layout) -> dict[str, Any]:
    """What every generated function is given beside the state and the parameters."""
    rows, columns = layout.pairs
    K, M = layout.hidden, layout.teacher_hidden
    pair_of = np.zeros((K, K), int)
    pair_of[rows, columns] = pair_of[columns, rows] = np.arange(len(rows))
    Q, R, w = layout.unpack(np.eye(layout.size))
    places, mirrored = rows * (K + M) + columns, columns * (K + M) + rows
    couples = np.stack([rows, columns], 1)
    return {"rows": rows, "columns": columns, "couples": couples, "places": places,
            "mirrored": mirrored, "pair_of": pair_of, "units": np.arange(K),
            "teachers": np.arange(M), "fields": np.arange(K + M),
            "Q_dot": Q, "R_dot": R, "w_dot": w}  # fmt: skip
