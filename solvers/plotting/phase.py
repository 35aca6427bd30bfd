"""The picture of a phase diagram: labels with their boundaries, the error with its contours.

Every label has a colour, a hatch and a place in the legend, so that the map can be read in grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from solvers.plotting import style
from solvers.plotting.rulers import MOST_WRITTEN, Map, map_of, ruler_of
from solvers.states import ALL_LABELS

if TYPE_CHECKING:
    import xarray

    from solvers.diagrams.phase import PhaseDiagram

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

CONTOURS: dict[str, Any] = {"color": style.INK, "lw": 0.8, "ls": "dashed"}
"""The lines of equal error."""
STABILITY: dict[str, Any] = {
    "color": "#D55E00", "lw": 2.2, "marker": "o", "ms": 4,
    "path_effects": [withStroke(linewidth=4.4, foreground="white")],
}  # fmt: skip
"""The line where end states lose stability."""
SMALLEST_ERROR = 1e-8
"""Contours of the error end here: what is below is zero to the integrator's accuracy."""
ROOM_OF_A_LEVEL = 0.11
"""Two contours are not labelled closer to each other than this share of a panel."""


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
    if map.share is not None:
        _write(map, ax, map.share)
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
    if map.x.names and map.y.names and max(shown.shape) <= MOST_WRITTEN:
        _write(map, ax, shown)
    ax.figure.colorbar(mesh, ax=ax, label=r"final error $\varepsilon$")
    return ax


def _two_panels(diagram: PhaseDiagram) -> Figure:
    figure = style.new_figure(width=1.6 * style.WIDTH, height=4.9)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    map = map_of(diagram.dataset, diagram.axes)
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
        phase_panel(map_of(slab, rest), ax)
        text = f"{style.name_of(across)} = {'∞' if np.isinf(value) else f'{value:.4g}'}"
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
    ruler = ruler_of(dataset[key])
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
    if min(map.error.shape) < 3 or map.x.names or map.y.names:
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
    taken: list[Array] = []
    for label in sorted(set(map.labels.ravel())):
        inside = np.where(map.labels == label, np.log10(shown), np.nan)
        if np.isfinite(inside).sum() < 4:
            continue
        lines = ax.contour(
            map.x.centres, map.y.centres, np.ma.masked_invalid(inside).T, np.log10(levels),
            colors=CONTOURS["color"], linewidths=CONTOURS["lw"], linestyles=CONTOURS["ls"],
        )  # fmt: skip
        for text in ax.clabel(lines, fmt=_level, fontsize=8, inline=False) or ():
            text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
            place = ax.transAxes.inverted().transform(ax.transData.transform(text.get_position()))
            if all(np.hypot(*(place - other)) > ROOM_OF_A_LEVEL for other in taken):
                taken.append(place)
            else:
                text.remove()


def _write(map: Map, ax: Axes, values: Array) -> None:
    """A number in each cell."""
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.annotate(
                _plain(value), (map.x.centres[i], map.y.centres[j]), ha="center", va="center",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip


def _level(exponent: float) -> str:
    """The error at a contour of log₁₀ ε."""
    return _plain(10**exponent)


def _plain(value: float) -> str:
    """A number in as little room as it needs: plain down to 0.001, else as a power of ten."""
    if value > 0.9e-3 or value == 0:
        return f"{value:.2g}"
    mantissa, power = f"{value:.0e}".split("e")
    times = "" if mantissa == "1" else rf"{mantissa}\times"
    return rf"${times}10^{{{int(power)}}}$"


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
    if any(isinstance(drawn, ContourSet) for ax in figure.axes for drawn in ax.collections):
        handles.append(Line2D([], [], label=r"contours of the error $\varepsilon$", **CONTOURS))
    if "stability_boundary" in diagram.dataset:
        handles.append(Line2D([], [], label="loss of stability, by continuation", **STABILITY))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), handleheight=1.4
    )


def _finding(diagram: PhaseDiagram) -> str:
    shares = [f"{n / diagram.points:.0%} {label}" for label, n in diagram.labels.items()]
    runs = diagram.dataset.sizes.get("run")
    if runs and len(diagram.axes) > 1 and max(diagram.dataset["label"].shape) <= MOST_WRITTEN:
        return f"Share of {runs} random starts that specialises, and the commonest end state"
    starts = f", {runs} random starts each" if runs else ""
    return f"{diagram.points} points{starts}: {', '.join(shares)}"
