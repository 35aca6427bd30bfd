"""A phase diagram laid out on paper: two rulers, and what stands in the cells between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import KDTree

from solvers.plotting import style

if TYPE_CHECKING:
    import xarray

Array = NDArray[np.float64]

PIXELS = 240
"""Side of the raster on which adaptively placed points are drawn."""
MOST_WRITTEN = 12
"""Numbers are written into the cells of a map with at most so many values on an axis."""
MANY_POINTS = 3000
"""More adaptively placed points than this are not marked one by one."""


@dataclass(frozen=True)
class Ruler:
    """One axis on paper: the values of its cells, their edges and centres, and names if listed."""

    key: str
    scale: str
    values: Array
    edges: Array
    centres: Array
    names: tuple[str, ...] = ()

    def apply(self, axis: Any, set_scale: Any, set_label: Any) -> None:
        """Scale, ticks and label of a matplotlib axis."""
        if self.scale == "log":
            set_scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        if self.names:
            step = max(1, len(self.names) // 8)
            axis.set_ticks(self.centres[::step], self.names[::step])
        set_label(style.name_of(self.key))


@dataclass(frozen=True)
class Map:
    """What a panel shows: labels and errors (n_x, n_y) between two rulers, marked points, and the
    share of runs that specialises, where there is room to write it."""

    x: Ruler
    y: Ruler
    labels: Any
    error: Array
    marks: tuple[Array, Array] | None = None
    share: Array | None = None


def map_of(dataset: xarray.Dataset, keys: Sequence[str]) -> Map:
    """The dataset between two rulers: as it is on a grid, else labels by the nearest point."""
    first, second = keys
    if "point" not in dataset.dims:
        dataset = dataset.transpose(first, second, ...)
        labels, error = dataset["label"].values, dataset["error"].values
        x, y = ruler_of(dataset[first]), ruler_of(dataset[second])
        written = "run" in dataset.dims and max(labels.shape) <= MOST_WRITTEN
        share = dataset["share_specialized"].values if written else None
        return Map(x, y, labels, error, share=share)
    x, y = _raster(dataset[first]), _raster(dataset[second])
    at = dataset[first].values, dataset[second].values
    tree = KDTree(np.stack([_unit(at[0], x), _unit(at[1], y)], -1))
    grid = np.meshgrid(_unit(x.values, x), _unit(y.values, y), indexing="ij")
    nearest = tree.query(np.stack(grid, -1).reshape(-1, 2))[1].reshape(grid[0].shape)
    marks = None if len(at[0]) > MANY_POINTS or x.names or y.names else at
    labels, error = dataset["label"].values, dataset["error"].values
    found = error[nearest]
    for label in () if x.names or y.names else set(labels):
        own, here = labels == label, labels[nearest] == label
        found[here] = _between(tree.data[own], error[own], np.stack(grid, -1)[here], found[here])
    return Map(x, y, labels[nearest], found, marks)


def _between(points: Array, errors: Array, at: Array, else_: Array) -> Array:
    """log ε interpolated linearly between points of one phase, ``else_`` outside of them."""
    usable = errors > 0
    if usable.sum() < 4 or np.linalg.matrix_rank(points[usable] - points[usable][0]) < 2:
        return else_
    values = LinearNDInterpolator(points[usable], np.log(errors[usable]))(at)
    return np.where(np.isfinite(values), np.exp(values), else_)


def ruler_of(values: xarray.DataArray) -> Ruler:
    """The ruler of a grid's axis: cells reach half-way to their neighbours."""
    scale, centres = str(values.attrs.get("scale", "linear")), values.values.astype(float)
    if scale == "list" or len(centres) == 1:
        places = np.arange(len(centres), dtype=float)
        names = tuple("∞" if np.isinf(v) else f"{v:g}" for v in centres)
        edges = np.append(places, places[-1] + 1) - 0.5
        return Ruler(str(values.name), "list", centres, edges, places, names)
    flat = np.log(centres) if scale == "log" else centres
    middle = (flat[1:] + flat[:-1]) / 2
    edges = np.concatenate([[2 * flat[0] - middle[0]], middle, [2 * flat[-1] - middle[-1]]])
    edges = np.exp(edges) if scale == "log" else edges
    return Ruler(str(values.name), scale, centres, edges, centres)


def _raster(values: xarray.DataArray) -> Ruler:
    """The ruler of an adaptive diagram's axis: PIXELS cells, or one for each listed value."""
    scale, found = str(values.attrs.get("scale", "linear")), np.unique(values.values)
    if scale == "list":
        return ruler_of(values[np.unique(values.values, return_index=True)[1]])
    flat = np.log(found) if scale == "log" else found
    edges = np.linspace(flat[0], flat[-1], PIXELS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    if scale == "log":
        edges, centres = np.exp(edges), np.exp(centres)
    return Ruler(str(values.name), scale, centres, edges, centres)


def _unit(values: Array, ruler: Ruler) -> Array:
    """Values as shares of a ruler's length; neighbours in a list are two lengths apart."""
    if ruler.names:
        return 2 * np.searchsorted(ruler.values, values).astype(np.float64)
    low, high = ruler.edges[[0, -1]]
    if ruler.scale == "log":
        return np.log(values / low) / np.log(high / low)
    return (values - low) / (high - low)
