"""The picture of a phase diagram: labels with their boundaries, the error with its contours.

Every label has a colour, a hatch and a place in the legend, so that the map can be read in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import KDTree

from solvers.measures import ALL_LABELS
from solvers.plotting import style

if TYPE_CHECKING:
    import xarray

    from solvers.phase import PhaseDiagram

Array = NDArray[np.float64]

LOOKS = {
    "diverged": ("#555555", "xxx"),
    "unresolved": ("#FFFFFF", "..."),
    "unlearned": ("#F0E442", ""),
    "symmetric": ("#56B4E9", "///"),
    "partially-specialized": ("#E69F00", "\\\\\\"),
    "specialized": ("#009E73", ""),
    "failed": ("#FFFFFF", "+++"),
}
"""Colour (Okabe & Ito) and hatch of each label."""

STABILITY: dict[str, Any] = {
    "color": "#D55E00", "lw": 2.2, "marker": "o", "ms": 4,
    "path_effects": [withStroke(linewidth=4.4, foreground="white")],
}  # fmt: skip
"""The line where end states lose stability."""
PIXELS = 240
"""Side of the raster on which adaptively placed points are drawn."""
SMALLEST_ERROR = 1e-8
"""Contours of the error end here: what is below is zero to the integrator's accuracy."""
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
        set_label(style.NAMES.get(self.key, self.key))


@dataclass(frozen=True)
class Map:
    """What a panel shows: labels and errors (n_x, n_y) between two rulers, and marked points."""

    x: Ruler
    y: Ruler
    labels: Any
    error: Array
    marks: tuple[Array, Array] | None = None


def phase_figure(diagram: PhaseDiagram) -> Figure:
    """The phases and the error; curves for one axis, a row of slices for three."""
    with style.house_style():
        if len(diagram.axes) == 1:
            figure = _curves(diagram)
        elif len(diagram.axes) == 2:
            figure = _two_panels(diagram)
        else:
            figure = _slices(diagram)
        _legend(figure, diagram)
        style.title(figure, diagram.experiment.title or "Phase diagram", _finding(diagram))
    return figure


def phase_panel(map: Map, ax: Axes) -> Axes:
    """Labels as colours with hatches, the boundaries between them, contours of the error."""
    ax.grid(False)
    for label in ALL_LABELS:
        boxes = _boxes(map, label)
        if boxes:
            colour, hatch = LOOKS[label]
            area = PolyCollection(boxes, facecolors=colour, edgecolors="none", linewidths=0)
            ax.add_collection(area)
            if hatch:
                ink = "#FFFFFF" if sum(to_rgb(colour)) < 1.5 else "#333333"
                lines = PolyCollection(
                    boxes, facecolors="none", edgecolors=ink, linewidths=0, hatch=hatch, alpha=0.55
                )
                ax.add_collection(lines)
    _frame(map, ax)
    _contours(map, ax)
    if map.marks is not None:
        ax.plot(*map.marks, ".", color=style.INK, ms=1.2, alpha=0.6)
    return ax


def error_panel(map: Map, ax: Axes) -> Axes:
    """The final error on a logarithmic scale that is as monotonous in grey, with the boundaries."""
    ax.grid(False)
    shown = _shown(map)
    finite = shown[np.isfinite(shown)]
    low, high = (finite.min(), finite.max()) if finite.size else (SMALLEST_ERROR, 1.0)
    norm = LogNorm(low / 1.001, high * 1.001)
    mesh = ax.pcolormesh(map.x.edges, map.y.edges, shown.T, norm=norm, cmap="cividis")
    mesh.set_rasterized(True)
    _frame(map, ax)
    ax.figure.colorbar(mesh, ax=ax, label=r"final error $\varepsilon$")
    return ax


def _two_panels(diagram: PhaseDiagram) -> Figure:
    figure = style.new_figure(width=1.6 * style.WIDTH, height=4.9)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    map = _map(diagram.dataset, diagram.axes)
    for ax in (phase_panel(map, left), error_panel(map, right)):
        _stability(diagram.dataset, map, ax)
    right.set_ylabel("")
    return figure


def _slices(diagram: PhaseDiagram) -> Figure:
    """One phase map for each value (at most six) of the axis with the fewest values."""
    dataset, keys = diagram.dataset, diagram.axes
    values = {key: np.unique(dataset[key].values) for key in keys}
    across = min(keys, key=lambda key: len(values[key]))
    picked = values[across][np.linspace(0, len(values[across]) - 1, 6).round().astype(int)]
    picked = np.unique(picked)
    columns = min(len(picked), 2 if len(picked) in (2, 4) else 3)
    rows = -(-len(picked) // columns)
    figure = style.new_figure(width=1.6 * style.WIDTH, height=1.2 + 3.3 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in panels[len(picked) :]:
        ax.set_visible(False)
    rest = tuple(key for key in keys if key != across)
    for ax, value in zip(panels, picked, strict=False):
        slab = _slab(dataset, across, value)
        phase_panel(_map(slab, rest), ax)
        text = f"{style.NAMES.get(across, across)} = {'∞' if np.isinf(value) else f'{value:.4g}'}"
        ax.annotate(
            text, (0.03, 0.96), xycoords="axes fraction", ha="left", va="top",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        )  # fmt: skip
    for i, ax in enumerate(panels):
        lowest = i + columns >= len(picked)
        ax.tick_params(labelbottom=lowest)
        ax.set_xlabel(ax.get_xlabel() if lowest else "")
        ax.set_ylabel(ax.get_ylabel() if i % columns == 0 else "")
    return figure


def _slab(dataset: xarray.Dataset, key: str, value: float) -> xarray.Dataset:
    if "point" not in dataset.dims:
        return dataset.sel({key: value})
    return dataset.isel(point=np.flatnonzero(dataset[key].values == value))


def _curves(diagram: PhaseDiagram) -> Figure:
    """Error and specialization along the one axis, on bands of the labels' colours."""
    dataset, (key,) = diagram.dataset, diagram.axes
    dataset = dataset.sortby(key)
    ruler = _ruler(dataset[key])
    labels = dataset["label"].values
    figure = style.new_figure(height=5.4)
    axes = figure.subplots(2, 1, sharex=True)
    shown = (("error", r"final error $\varepsilon$"), ("specialization", "specialization"))
    for ax, (name, text) in zip(axes, shown, strict=True):
        for i, label in enumerate(labels):
            colour, hatch = LOOKS[label]
            ax.axvspan(
                ruler.edges[i], ruler.edges[i + 1], facecolor=colour, hatch=hatch, alpha=0.35, lw=0
            )
        values = dataset[name].values
        spread = f"{name}_standard_error"
        error = dataset[spread].values if spread in dataset else None
        ax.errorbar(ruler.centres, values, error, marker="o", color=style.INK)
        ax.set_ylabel(text)
        ruler.apply(ax.xaxis, ax.set_xscale, ax.set_xlabel)
        ax.set_xlim(min(ruler.edges[0], ruler.edges[-1]), max(ruler.edges[0], ruler.edges[-1]))
    positive = dataset["error"].values
    if (positive[np.isfinite(positive)] > 0).any():
        axes[0].set_yscale("log")
    axes[0].set_xlabel("")
    return figure


def _map(dataset: xarray.Dataset, keys: Sequence[str]) -> Map:
    """The dataset between two rulers: as it is on a grid, else labels by the nearest point."""
    first, second = keys
    if "point" not in dataset.dims:
        dataset = dataset.transpose(first, second, ...)
        labels, error = dataset["label"].values, dataset["error"].values
        return Map(_ruler(dataset[first]), _ruler(dataset[second]), labels, error)
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


def _ruler(values: xarray.DataArray) -> Ruler:
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
        return _ruler(values[np.unique(values.values, return_index=True)[1]])
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


def _boxes(map: Map, label: str) -> list[Any]:
    """Rectangles that cover a label's cells, one for each run of cells in a column."""
    boxes = []
    for i, column in enumerate(map.labels):
        inside = np.concatenate([[False], column == label, [False]]).astype(int)
        ends = np.flatnonzero(np.diff(inside))
        left, right = map.x.edges[i], map.x.edges[i + 1]
        for low, high in zip(map.y.edges[ends[::2]], map.y.edges[ends[1::2]], strict=True):
            boxes.append([(left, low), (right, low), (right, high), (left, high)])
    return boxes


def _frame(map: Map, ax: Axes) -> None:
    """Boundaries between labels, and the axes."""
    x, y, labels = map.x.edges, map.y.edges, map.labels
    upright = np.argwhere(labels[1:] != labels[:-1])
    level = np.argwhere(labels[:, 1:] != labels[:, :-1])
    lines = [[(x[i + 1], y[j]), (x[i + 1], y[j + 1])] for i, j in upright]
    lines += [[(x[i], y[j + 1]), (x[i + 1], y[j + 1])] for i, j in level]
    ax.add_collection(LineCollection(lines, colors="black", linewidths=1.4, capstyle="round"))
    map.x.apply(ax.xaxis, ax.set_xscale, ax.set_xlabel)
    map.y.apply(ax.yaxis, ax.set_yscale, ax.set_ylabel)
    ax.set_xlim(min(x[0], x[-1]), max(x[0], x[-1]))
    ax.set_ylim(min(y[0], y[-1]), max(y[0], y[-1]))


def _shown(map: Map) -> Array:
    """The errors that mean something: not those of trajectories that diverged, nor below zero."""
    told = np.isfinite(map.error) & (map.labels != "diverged")
    return np.where(told, np.maximum(map.error, SMALLEST_ERROR), np.nan)


def _contours(map: Map, ax: Axes) -> None:
    """Contours of the error within each phase: at most seven of 1, 2, 5 times powers of ten."""
    if min(map.error.shape) < 3:
        return
    shown = _shown(map)
    finite = shown[np.isfinite(shown)]
    if finite.size < 9 or finite.max() < 1.05 * finite.min():
        return
    steps = np.sort([m * 10.0**e for e in range(-8, 7) for m in (1, 2, 5)])
    levels = steps[(steps > finite.min()) & (steps < finite.max())]
    levels = levels[:: max(1, -(-len(levels) // 7))]
    if not levels.size:
        return
    for label in set(map.labels.ravel()):
        inside = np.where(map.labels == label, np.log10(shown), np.nan)
        if np.isfinite(inside).sum() < 4:
            continue
        lines = ax.contour(
            map.x.centres, map.y.centres, np.ma.masked_invalid(inside).T, np.log10(levels),
            colors=style.INK, linewidths=0.8, linestyles="dashed",
        )  # fmt: skip
        texts = ax.clabel(lines, fmt=lambda level: f"{10**level:.2g}", fontsize=8)
        for text in texts or ():
            text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def _stability(dataset: xarray.Dataset, map: Map, ax: Axes) -> None:
    """Where the end states lose stability, as a line through the values that were found."""
    if "stability_boundary" not in dataset:
        return
    line = dataset["stability_boundary"]
    found = np.isfinite(line.values)
    over_x = line.dims[0] == map.x.key
    across = (map.x if over_x else map.y).centres[found]
    critical = line.values[found]
    ax.plot(*((across, critical) if over_x else (critical, across)), **STABILITY)


def _legend(figure: Figure, diagram: PhaseDiagram) -> None:
    handles: list[Any] = [
        Patch(facecolor=LOOKS[label][0], hatch=LOOKS[label][1], edgecolor="#333333", label=label)
        for label in diagram.labels
    ]
    if "stability_boundary" in diagram.dataset:
        handles.append(Line2D([], [], label="loss of stability, by continuation", **STABILITY))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), handleheight=1.4
    )


def _finding(diagram: PhaseDiagram) -> str:
    shares = [f"{n / diagram.points:.0%} {label}" for label, n in diagram.labels.items()]
    runs = (
        f", {diagram.dataset.sizes['run']} random starts each"
        if "run" in diagram.dataset.dims
        else ""
    )
    return f"{diagram.points} points{runs}: {', '.join(shares)}"
