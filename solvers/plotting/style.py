"""The house style: one set of colours, symbols and sizes for every picture, and how it is saved."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from theory.notation import rate_name
from theory.rules import Rule

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito's colours, distinct in every common colour blindness; one per unit, in turn."""
INK, GREY, PALE = "#222222", "#7F7F7F", "#F1ECE0"
"""Text and single curves; what is secondary; shaded intervals."""
LINESTYLES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.4, 1.2, 1.4)))
"""One per teacher unit, in turn: what colour tells by the learner unit, the dash tells by n."""
WIDTH = 6.8
"""Width of a figure in inches: the text width of a paper."""

NAMES = {
    "rule.inner_rate": r"inner rate $\eta_\mathrm{in}$",
    "rule.outer_rate": r"outer rate $\eta_J$",
    "rule.head_rate": r"outer rate of the head $\eta_w$",
    "rule.support": r"support examples $P$",
    "rule.support_ratio": r"support ratio $\rho = P/N$",
    "rule.weight_decay": r"weight decay $\kappa$",
    "tasks.head_covariance": r"task diversity $\sigma_u^2$",
    "tasks.head_mean": r"mean head $u_0$",
    "tasks.label_noise": r"label noise $\sigma$",
    "tasks.representation_spread": r"representation spread $\delta$",
    "model.hidden": "learner units $K$",
    "model.teacher_hidden": "teacher units $M$",
    "model.teacher_overlap": "teacher overlap $T$",
}
"""What the axis of an experiment's key is called; others by their key."""


PARAMETERS: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "lines.linewidth": 1.6,
    "lines.markersize": 3.6,
    "errorbar.capsize": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "macrodyn",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Within this context every new figure has the house style; nothing outlives it."""
    with matplotlib.rc_context(PARAMETERS):
        yield


def new_figure(width: float = WIDTH, height: float = 4.2) -> Figure:
    """An empty figure, in inches; not known to pyplot, so that nothing global keeps it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def name_of(key: str) -> str:
    """What the axis of an experiment's key is called; a rule names its own rates."""
    table, _, name = key.partition(".")
    docs = (f.metadata.get("doc") for f in _fields(Rule) if f.name == name and table == "rule")
    doc = next(filter(None, docs), None)
    return NAMES.get(key) or (rate_name(name, doc) if doc else key)


def _fields(kind: type[Rule]) -> Iterator[Field[Any]]:
    """The fields of a rule and of those that are made from it."""
    yield from fields(kind)
    for further in kind.__subclasses__():
        yield from _fields(further)


def colour(index: int) -> str:
    """The colour of learner unit ``index``."""
    return COLOURS[index % len(COLOURS)]


def linestyle(index: int) -> Any:
    """The dash of teacher unit ``index``."""
    return LINESTYLES[index % len(LINESTYLES)]


def title(figure: Figure, sentence: str, finding: str = "") -> None:
    """A bold title sentence, and below it in grey what the picture shows; wrapped to the figure."""
    width = figure.get_figwidth()
    head = figure.suptitle(_wrapped(sentence, 12 * width), x=0.012, ha="left", fontsize=13)
    head.set_fontweight("bold")
    if finding:
        figure.axes[0].set_title(
            _wrapped(finding, 14.5 * width), loc="left", color="#666666", fontsize=10.5, pad=8
        )


def number(value: float, digits: int = 3) -> str:
    """``value`` in mathtext: plain between 10⁻³ and 10⁵, else as a power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"${value:.{digits}g}$"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"


def _wrapped(text: str, characters: float) -> str:
    """``text`` in as few lines as fit, all about equally long."""
    whole = textwrap.TextWrapper(int(characters), break_long_words=False, break_on_hyphens=False)
    lines = whole.wrap(text)
    for width in range(1 + len(text) // max(1, len(lines)), int(characters)):
        whole.width = width
        even = whole.wrap(text)
        if len(even) == len(lines):
            return "\n".join(even)
    return "\n".join(lines)


def panel_letter(axes: Axes, letter: str) -> None:
    """A bold letter at the upper left corner of a panel."""
    axes.annotate(
        letter, (0, 1), (-38, 2), xycoords="axes fraction", textcoords="offset points",
        fontweight="bold", fontsize=12, ha="left", va="bottom",
    )  # fmt: skip


def write_figure(figure: Figure, file: str | Path) -> None:
    """Writes the figure in the format of the suffix; the same figure gives the same bytes."""
    metadata = {"Date": None, "Creator": None} if str(file).endswith(".svg") else {"Software": None}
    with house_style():
        figure.savefig(file, metadata=metadata)


def lay_out(figure: Figure) -> None:
    """Settles the layout at the resolution of the PNG, for all files."""
    engine = figure.get_layout_engine()
    if engine is None:
        return
    with house_style():
        figure.set_dpi(PARAMETERS["savefig.dpi"])
        engine.execute(figure)
        figure.set_layout_engine(None)  # and so not once more for each file
