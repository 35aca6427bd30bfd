"""The picture of fixed points: the growth rates of their modes, multiplets as one mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from solvers.plotting import style

if TYPE_CHECKING:
    from solvers.stability.fixed_point import FixedPoints

STABLE, UNSTABLE = style.COLOURS[0], style.COLOURS[1]


def fixed_points_figure(found: FixedPoints) -> Figure:
    """The spectra of all fixed points, one row each, lowest error at the bottom."""
    with style.house_style():
        figure = style.new_figure(height=1.6 + 0.42 * len(found))
        spectra(found, figure.subplots())
        finding = found.message.split(", from ")[0].split(" from ")[0].rstrip(".") + "."
        style.title(figure, "Fixed points and the growth of their modes", finding)
    return figure


def spectra(found: FixedPoints, axes: Axes) -> Axes:
    """Growth rates of the modes of each fixed point; numbers give the size of a multiplet.

    The names of stable points are bold.
    """
    rows = []
    for row, point in enumerate(found):
        growing = point.unstable
        for mode in point.modes:
            grows = growing > 0
            growing -= mode.multiplicity
            still = point.family > 0 and abs(mode.growth) < 1e-7 * np.abs(point.eigenvalues).max()
            axes.plot(
                mode.growth, row, marker="^" if grows else "o", ls="none",
                color=UNSTABLE if grows else style.GREY if still else STABLE,
                ms=6 if grows else 4.5, mfc=UNSTABLE if grows else "white",
            )  # fmt: skip
            if mode.multiplicity > 1:
                axes.annotate(
                    str(mode.multiplicity), (mode.growth, row), (0, 5), ha="center", fontsize=8,
                    textcoords="offset points", color=style.GREY,
                )  # fmt: skip
        level = style.number(point.error if point.error > 1e-12 else 0.0)
        rows.append(rf"{point.label}, $\varepsilon =$ {level}")
    axes.axvline(0, color=style.INK, lw=0.8)
    scale = max((float(np.abs(p.eigenvalues).max()) for p in found), default=1.0)
    axes.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(scale * 1e-2)), linscale=0.8)
    axes.set_yticks(range(len(found)), rows, fontsize=9)
    for point, text in zip(found, axes.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if point.stable else "normal")
    axes.set_ylim(-0.6, len(found) + 0.2)
    axes.set_xlabel("growth rate of a mode")
    axes.grid(visible=False, axis="y")
    marks = [
        Line2D([], [], marker="o", mfc="white", color=STABLE, ls="none", label="decays"),
        Line2D([], [], marker="^", color=UNSTABLE, ls="none", label="grows"),
    ]
    if any(point.family for point in found):
        marks.append(Line2D([], [], marker="o", mfc="white", color=style.GREY, ls="none"))
        marks[-1].set_label("neutral in a family")
    axes.legend(handles=marks, loc="upper center", ncols=3)
    return axes
