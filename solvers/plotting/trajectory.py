"""The picture of a run: the error and the overlaps along time, theory as lines, runs as points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from solvers import states
from solvers.plotting import style
from solvers.results import Plateau, Trajectory

if TYPE_CHECKING:
    from solvers.simulation.ensemble import Ensemble

Array = NDArray[np.float64]

MANY = 6
"""Above this many curves in a panel they are named by kind, not one by one."""
MARKS = 32
"""At most this many simulation points per curve."""


def ensemble_figure(ensemble: Ensemble) -> Figure:
    """The same picture of finite-N runs alone: their means as lines and points with errors."""
    mean = Trajectory(
        experiment=ensemble.experiment,
        layout=ensemble.layout,
        time=ensemble.time,
        Q=ensemble.mean["Q"],
        R=ensemble.mean["R"],
        w=ensemble.mean["w"],
        error=ensemble.mean["error"],
    )
    return trajectory_figure(mean, ensemble, line="mean of the runs")


def trajectory_figure(
    trajectory: Trajectory, ensemble: Ensemble | None = None, line: str = "theory"
) -> Figure:
    """Error, R and Q (and the head, if it moves) above each other on one axis of time."""
    panels = [partial(error_panel, line=line), cross_panel, self_panel]
    if np.ptp(trajectory.w, axis=0).max() > 1e-9:
        panels.append(head_panel)
    heights = [1.25, *[1.0] * (len(panels) - 1)]
    with style.house_style():
        figure = style.new_figure(height=1.1 + 1.75 * sum(heights))
        axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
        for letter, ax, panel in zip("abcd", axes, panels, strict=False):
            panel(trajectory, ax, ensemble)
            style.panel_letter(ax, letter)
        for ax in axes[:-1]:
            ax.set_xlabel("")
        style.title(figure, trajectory.experiment.title, _finding(trajectory, ensemble))
        figure.align_ylabels(axes)
    return figure


def error_panel(
    trajectory: Trajectory, ax: Axes, ensemble: Ensemble | None = None, line: str = "theory"
) -> Axes:
    """ε along time, its plateaus shaded and named; ``line`` names the curve."""
    _time_axis(trajectory, ax)
    positive = trajectory.error[trajectory.error > 0]
    if positive.size and positive.max() > 20 * positive.min():
        ax.set_yscale("log")
    ax.plot(trajectory.time, trajectory.error, color=style.INK, label=line)
    _points(ax, ensemble, "error", (), style.INK)
    evaluation = trajectory.observables.get("evaluation_error")
    if evaluation is not None:
        ax.plot(trajectory.time, evaluation, color=style.colour(1), ls="--", label="at test time")
    ax.set_ylabel(r"error $\varepsilon$")
    for plateau in trajectory.plateaus:
        _name_plateau(plateau, trajectory.escape_time, ax)
    _legend(ax)
    return ax


def cross_panel(trajectory: Trajectory, ax: Axes, ensemble: Ensemble | None = None) -> Axes:
    """R_kn along time: the colour tells the learner unit k, the dash whether n is its own."""
    R = _fields(trajectory)[1]
    K, M = R.shape[1:]
    own = _own(trajectory)
    _time_axis(trajectory, ax)
    for k, n in sorted(
        np.ndindex(K, M), key=lambda pair: own[pair[0]] == pair[1] if K * M > MANY else pair[1]
    ):
        mine = own[k] == n
        if K * M <= MANY:
            line = {"color": style.colour(k), "ls": style.linestyle(n), "label": _name("R", k, n)}
        else:
            colour = style.colour(k) if mine else style.GREY
            line = {"color": colour, "lw": 1.4 if mine else 0.6, "alpha": 1.0 if mine else 0.6}
        ax.plot(trajectory.time, R[:, k, n], **line)
        if K * M <= MANY or mine:
            _points(ax, ensemble, "R", (k, n), line["color"])
    ax.set_ylabel(r"$R_{kn}$")
    kinds = {r"$R_{kn}$, own $n$": style.INK, r"$R_{kn}$, other $n$": style.GREY}
    _legend(ax, kinds if K * M > MANY else None)
    return ax


def self_panel(trajectory: Trajectory, ax: Axes, ensemble: Ensemble | None = None) -> Axes:
    """Q_kl along time: norms in the colour of their unit, the overlaps between units dashed."""
    Q = _fields(trajectory)[0]
    K = Q.shape[1]
    pairs = [(k, l) for k in range(K) for l in range(k, K)]
    _time_axis(trajectory, ax)
    for k, l in sorted(pairs, key=lambda pair: (pair[0] == pair[1], pair)):
        line: dict[str, Any] = {"color": style.colour(k) if k == l else style.GREY}
        if len(pairs) <= MANY:
            line |= {"ls": style.linestyle(k if k == l else 2), "label": _name("Q", k, l)}
        elif k == l:
            line |= {"lw": 1.4}
        else:
            line |= {"lw": 0.6, "alpha": 0.6}
        ax.plot(trajectory.time, Q[:, k, l], **line)
        if len(pairs) <= MANY or k == l:
            _points(ax, ensemble, "Q", (k, l), line["color"])
    ax.set_ylabel(r"$Q_{kl}$")
    kinds = {r"$Q_{kk}$": style.INK, r"$Q_{kl}$, $k \neq l$": style.GREY}
    _legend(ax, kinds if len(pairs) > MANY else None)
    return ax


def head_panel(trajectory: Trajectory, ax: Axes, ensemble: Ensemble | None = None) -> Axes:
    """The learner's head w_k along time."""
    K = trajectory.w.shape[1]
    _time_axis(trajectory, ax)
    for k in range(K):
        line = {"color": style.colour(k), "ls": style.linestyle(k), "label": _name("w", k)}
        ax.plot(trajectory.time, trajectory.w[:, k], **line)
        _points(ax, ensemble, "w", (k,), style.colour(k))
    ax.set_ylabel(r"$w_k$")
    _legend(ax, {r"$w_k$": style.INK} if K > MANY else None)
    return ax


def _fields(trajectory: Trajectory) -> tuple[Array, Array, Array]:
    parameters, layout = trajectory.experiment.parameters, trajectory.layout
    return states.fields(trajectory.Q, trajectory.R, parameters, layout)


def _own(trajectory: Trajectory) -> list[int]:
    """The teacher unit that each learner unit is most aligned with at the end."""
    Q, R, T = _fields(trajectory)
    alignment = np.abs(np.nan_to_num(states.cosines(Q[-1], R[-1], T)))
    return alignment.argmax(axis=1).tolist()


def _time_axis(trajectory: Trajectory, ax: Axes) -> None:
    """Limits and name of the time axis, shaded plateaus, a line at the escape."""
    steps = trajectory.experiment.rule.regime == "population"
    ax.set_xlabel("step" if steps else r"time $\alpha$ (outer updates$\,/\,N$)")
    time = trajectory.time
    if trajectory.experiment.integrate.spacing == "log" and len(time) > 2:
        ax.set_xscale("log")
        ax.set_xlim(time[1], time[-1])
        ax.xaxis.set_minor_formatter(NullFormatter())
    elif len(time) > 1:
        ax.set_xlim(0, time[-1])
    for plateau in trajectory.plateaus:
        ax.axvspan(plateau.start, plateau.end, color=style.PALE, lw=0, zorder=0)
    if trajectory.escape_time is not None:
        ax.axvline(trajectory.escape_time, color=style.GREY, lw=0.9, ls=(0, (2, 2)), zorder=1)


def _name_plateau(plateau: Plateau, escape: float | None, ax: Axes) -> None:
    """The level of a plateau above the curve, or below it at the top of the panel: on the plateau
    if it is wide, else to its right."""
    scale = np.log10 if ax.get_xscale() == "log" else np.asarray
    first = ax.get_xlim()[0]
    right = max(plateau.end, escape or 0.0)
    ends = np.array([max(plateau.start, first), plateau.end, right])
    left, last = (float(x) for x in scale(ax.get_xlim()))
    start, end, after = ((scale(ends) - left) / (last - left)).tolist()
    wide = end - start > 0.2
    height = ax.transAxes.inverted().transform(ax.transData.transform((first, plateau.error)))[1]
    below = height > 0.88
    ax.annotate(
        r"$\varepsilon = $" + style.number(plateau.error, 4),
        (0.5 * (start + end) if wide else after, plateau.error),
        (0 if wide else 5, -6 if below else 6),
        xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="center" if wide else "left", va="top" if below else "bottom", fontsize=10,
    )  # fmt: skip


def _points(
    ax: Axes,
    ensemble: Ensemble | None,
    quantity: str,
    index: tuple[int, ...],
    colour: str,
) -> None:
    """Means over runs with standard errors, thinned to at most 32 marks."""
    if ensemble is None:
        return
    runs = dict(ensemble.runs)
    parameters, layout = ensemble.experiment.parameters, ensemble.layout
    runs["Q"], runs["R"], _ = states.fields(runs["Q"], runs["R"], parameters, layout)
    count = len(ensemble.time)
    chosen = np.arange(0, count, -(-count // MARKS))
    values = runs[quantity][(slice(None), chosen, *index)]
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(chosen))
    ax.errorbar(
        ensemble.time[chosen], values.mean(axis=0), spread / np.sqrt(len(values)),
        fmt="o", color=colour, mfc="white", mew=0.9, elinewidth=0.9, zorder=4,
        label=f"simulation, $N = {ensemble.dimension}$" if quantity == "error" else None,
    )  # fmt: skip


def _name(symbol: str, *indices: int) -> str:
    return rf"${symbol}_{{{''.join(str(i + 1) for i in indices)}}}$"


def _legend(ax: Axes, kinds: Mapping[str, str] | None = None) -> None:
    """A legend to the right of the panel: the named curves in order, or ``kinds`` with colours."""
    if kinds is None:
        handles, labels = ax.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: labels[i] if labels[i][0] == "$" else "")
        handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    else:
        handles, labels = [Line2D([], [], color=colour) for colour in kinds.values()], list(kinds)
    ax.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.6)


def _finding(trajectory: Trajectory, ensemble: Ensemble | None) -> str:
    """What the run shows, as a sentence."""
    steps = trajectory.experiment.rule.regime == "population"
    at = (lambda t: f"step {t:g}") if steps else (lambda t: f"α = {t:.4g}")
    parts = [
        f"plateau at error {style.number(plateau.error, 4)} until {at(plateau.end)}"
        for plateau in trajectory.plateaus[:2]
    ]
    if trajectory.escape_time is not None and trajectory.escape_time > trajectory.time[0]:
        parts.append(f"escape at {at(trajectory.escape_time)}")
    parts.append(f"final error {style.number(trajectory.error[-1])}")
    if trajectory.status != "success":
        parts.append(str(trajectory.status))
    if ensemble is not None:
        parts.append(f"points: {ensemble.count} runs, mean and standard error")
    sentence = "; ".join(parts).replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return sentence[0].upper() + sentence[1:]
