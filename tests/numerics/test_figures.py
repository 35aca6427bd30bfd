"""The pictures of runs: what they hold, that they repeat, and that they leave nothing behind."""

import sys
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import pytest

from solvers import Experiment, integrate
from solvers.cli.common import save_figure
from solvers.plotting import style
from solvers.plotting.trajectory import ensemble_figure, error_panel, trajectory_figure
from solvers.simulation.ensemble import Ensemble
from theory.rules import Sgd
from theory.rules.base import rate


@pytest.fixture(scope="module")
def trajectory():
    return integrate(Experiment.load("saad-solla").replace(**{"integrate.points": 50}))


def runs_of(trajectory, rng, count=4):
    """Finite-N runs, made up by adding noise to a trajectory."""
    runs = {
        name: getattr(trajectory, name)
        + 1e-2 * rng.random((count, *getattr(trajectory, name).shape))
        for name in ("Q", "R", "w", "error")
    }
    e, layout, time = trajectory.experiment, trajectory.layout, trajectory.time
    return Ensemble(experiment=e, layout=layout, dimension=500, seed=0, time=time, runs=runs)


def test_theory_as_lines_and_runs_as_points(trajectory, rng):
    ensemble = runs_of(trajectory, rng)
    top, cross, own = trajectory.plot(ensemble).axes
    curve = next(line for line in top.lines if line.get_label() == "theory")
    np.testing.assert_array_equal(curve.get_ydata(), trajectory.error)
    assert top.get_yscale() == "log"
    assert own.get_xlabel() == r"time $\alpha$ (outer updates$\,/\,N$)"
    assert [text.get_text() for text in cross.get_legend().get_texts()] == [
        "$R_{11}$", "$R_{12}$", "$R_{21}$", "$R_{22}$"
    ]  # fmt: skip
    points = top.containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata()[0], ensemble.mean["error"][0])
    assert len(points.get_ydata()) <= 32
    assert len(cross.containers) == 4


def test_plateaus_are_shaded_and_the_escape_is_marked(trajectory):
    for ax in trajectory.plot().axes:
        spans = [patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches]
        assert [span.x0 for span in spans] == pytest.approx([p.start for p in trajectory.plateaus])
        assert [span.x1 for span in spans] == pytest.approx([p.end for p in trajectory.plateaus])
        assert any(set(line.get_xdata()) == {trajectory.escape_time} for line in ax.lines)


@pytest.mark.parametrize("kind", ["many units", "log time", "structured", "steps", "one point"])
def test_every_kind_of_run_has_a_picture(kind, rng, tmp_path):
    random = {"norm": 0.5, "dimension": 300, "seed": 0}
    changes = {
        "many units": {"model.hidden": 5, "model.teacher_hidden": 4, "initial.random": random},
        "log time": {"integrate.spacing": "log"},
        "structured": {
            "model.inputs": [
                {"variance": 0.5, "fraction": 0.4}, {"variance": 1.5, "fraction": 0.6}
            ],
            "initial.random": random, "rule.head_rate": 0.1,
        },
        "steps": {"rule.regime": "population"},
        "one point": {},
    }[kind]  # fmt: skip
    e = Experiment.load("saad-solla").replace(**{"integrate.time": 20, **changes})
    t = integrate(e.replace(**{"integrate.points": 30}))
    if kind == "one point":
        first = {name: getattr(t, name)[:1] for name in ("time", "Q", "R", "w", "error")}
        t = replace(t, **first, plateaus=(), escape_time=None)
    ensemble = runs_of(t, rng, count=1)
    for figure in (trajectory_figure(t), trajectory_figure(t, ensemble), ensemble_figure(ensemble)):
        assert len(figure.axes) == 4 if kind == "structured" else 3
        png, svg = save_figure(figure, tmp_path / "figure")
        assert png.read_bytes()[:4] == b"\x89PNG"
        assert svg.read_text().lstrip().startswith("<?xml")


def test_a_figure_repeats_to_the_byte(trajectory, tmp_path):
    first = save_figure(trajectory.plot(), tmp_path / "a")
    second = save_figure(trajectory.plot(), tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_panel_goes_on_any_axes(trajectory):
    ax = style.new_figure().subplots()
    assert error_panel(trajectory, ax) is ax


def test_nothing_global_changes(trajectory):
    before = dict(matplotlib.rcParams)
    trajectory.plot()
    assert dict(matplotlib.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0117, "$0.0117$"),
        (0.0, "$0$"),
        (5.6712e-5, r"$5.67\times10^{-5}$"),
        (-2e7, r"$-2.00\times10^{7}$"),
    ],
)
def test_numbers(value, text):
    assert style.number(value) == text


def test_axes_are_named_as_rules_name_their_rates():
    @dataclass(frozen=True, kw_only=True)
    class Own(Sgd):
        cooling: float = rate("β, rate of cooling (a number)", default=0.0)

    assert style.name_of("rule.cooling") == r"rate of cooling $\beta$"
    assert style.name_of("rule.penalty") == r"penalty of a task's deviation $\lambda$"
    assert style.name_of("rule.outer_rate") == r"outer rate $\eta_J$"
    assert style.name_of("integrate.time") == "integrate.time"
