"""The bifurcation diagram: branches of fixed points, where stability is seen at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from solvers.plotting import style

if TYPE_CHECKING:
    from solvers.stability.branch import Branch, Diagram
    from solvers.stability.curves import SpecialCurves

Array = NDArray[np.float64]
Ordinate = Callable[["Branch"], Array]

MARKS = {
    "fold": ("s", "fold"),
    "branch-point": ("D", "branch point"),
    "hopf": ("*", "Hopf point"),
    "period-doubling": ("P", "period doubling"),
    "neimark-sacker": ("*", "Neimark-Sacker point"),
    "unphysical": ("x", "end of physicality"),
}
ZERO = 1e-12


def error(branch: Branch) -> Array:
    """ε along the branch; what is rounding counts as 0."""
    return np.where(branch.error < ZERO, 0.0, branch.error)


def norm(branch: Branch) -> Array:
    """The mean of Q_kk along the branch."""
    blocks = branch.Q.sum(axis=1) if branch.Q.ndim == 4 else branch.Q
    return np.trace(blocks, axis1=1, axis2=2) / blocks.shape[-1]


def diagram_figure(diagram: Diagram) -> Figure:
    """ε and the mean norm of the learner units against the parameter, above each other."""
    with style.house_style():
        figure = style.new_figure(height=6.2)
        upper, lower = figure.subplots(2, 1, sharex=True)
        bifurcation_diagram(diagram, upper, error)
        bifurcation_diagram(diagram, lower, norm)
        upper.set_ylabel(r"error $\varepsilon$")
        lower.set_ylabel(r"mean norm $Q_{kk}$")
        lower.set_xlabel(style.name_of(diagram.name))
        for axes, letter in ((upper, "a"), (lower, "b")):
            style.panel_letter(axes, letter)
        figure.legend(handles=_legend(diagram), loc="outside lower center", ncols=5)
        style.title(figure, "Fixed points and their stability", diagram.message)
    return figure


def curves_figure(curves: SpecialCurves) -> Figure:
    """The plane of two parameters, with the curves on which the character of states changes."""
    with style.house_style():
        figure = style.new_figure()
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            words = MARKS[curve.kind][1]
            axes.plot(
                curve.second, curve.first, color=style.colour(number), lw=2.0,
                ls=style.linestyle(number), label=f"{words} {number + 1}",
            )  # fmt: skip
        if len(curves):
            first, second = curves.curves[0].names
            axes.set_xlabel(style.name_of(second))
            axes.set_ylabel(style.name_of(first))
            axes.legend(loc="best")
        style.title(figure, "Where stability is lost, as two parameters vary")
    return figure


def bifurcation_diagram(diagram: Diagram, axes: Axes, ordinate: Ordinate = error) -> Axes:
    """Stable parts full and thick, unstable ones dashed and thin; points of lost stability large.

    One colour for each branch that is stable somewhere; the others are grey.
    """
    heights, number = [], 0
    for branch in diagram:
        values, ever = ordinate(branch), bool((branch.unstable == 0).any())
        shade = style.colour(number) if ever else style.GREY
        number += ever
        heights.append(values)
        for piece, stable in pieces(branch):
            axes.plot(
                branch.parameter[piece], values[piece], color=shade,
                lw=2.6 if stable else 1.0, ls="-" if stable else (0, (4, 2)),
                solid_capstyle="butt", zorder=3 if stable else 2,
            )  # fmt: skip
        for special in branch.special_points:
            marker, _ = MARKS[special.kind]
            size, ink = (7, style.INK) if special.critical else (3.6, style.GREY)
            axes.plot(
                special.parameter, values[special.position], marker=marker, ms=size, mfc="white",
                mec=ink, mew=1.1, zorder=5 if special.critical else 4, ls="none",
            )  # fmt: skip
    if heights:
        _limit(axes, np.concatenate(heights))
    return axes


def _limit(axes: Axes, values: Array) -> None:
    """A logarithmic axis where a branch grows beyond all bounds; not if another is at zero."""
    if 1e-6 * values.max() < values.min() < values.max() / 30:
        axes.set_yscale("log")


def pieces(branch: Branch) -> Iterator[tuple[slice, bool]]:
    """The parts of one stability: a segment is stable if both its ends are."""
    growing = branch.unstable > 0
    stable = ~(growing[1:] | growing[:-1])
    edges = [0, *(np.flatnonzero(np.diff(stable)) + 1).tolist(), len(stable)]
    for first, last in pairwise(edges):
        if first < last:
            yield slice(first, last + 1), bool(stable[first])


def _legend(diagram: Diagram) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.INK, lw=2.6, label="stable"),
        Line2D([], [], color=style.INK, lw=1.0, ls=(0, (4, 2)), label="unstable"),
    ]
    kinds = {special.kind for branch in diagram for special in branch.special_points}
    for kind in MARKS:
        if kind in kinds:
            marker, label = MARKS[kind]
            handles.append(
                Line2D([], [], marker=marker, mfc="white", mec=style.INK, ls="none", label=label)
            )
    return handles
