"""Pictures of phase diagrams: every kind is drawn, labels can be told apart."""

import numpy as np
import pytest

from solvers.diagrams.phase import phase_diagram
from solvers.experiment import Experiment
from solvers.plotting.phase import LOOKS

QUICK = {"integrate.time": 4.0, "integrate.points": 5}
AXES = ["rule.outer_rate=0.5:4:6", "tasks.head_mean=0.5:1.5:5"]


@pytest.fixture
def committee():
    return Experiment.load("saad-solla").replace(**QUICK)


@pytest.mark.parametrize(
    ("axes", "more"),
    [
        (AXES, {}),
        (AXES[:1], {}),
        (AXES, {"adaptive": 30}),
        (["rule.outer_rate=0.5:4:3", "tasks.head_mean=1,2", "tasks.label_noise=0:1:3"], {}),
        (["rule.outer_rate=0.5:4:3:log", "tasks.label_noise=0.1,0.2"], {}),
    ],
    ids=["map", "curve", "adaptive", "slices", "list"],
)
def test_every_kind_of_diagram_is_drawn(committee, tmp_path, axes, more):
    diagram = phase_diagram(committee, axes, tmp_path, **more)
    figure = diagram.plot()
    (legend,) = figure.legends
    curved = len(axes) > 1 and "log" not in axes[0]
    contours = [r"contours of the error $\varepsilon$"] if curved else []
    assert [text.get_text() for text in legend.get_texts()] == [*diagram.labels, *contours]
    figure.savefig(tmp_path / "figure.png")


def test_labels_can_be_told_apart_in_grey():
    from matplotlib.colors import to_rgb

    looks = {}
    for label, (colour, hatch) in LOOKS.items():
        grey = float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))
        for other, (tone, lines) in looks.items():
            assert hatch != lines or abs(grey - tone) > 0.2, (label, other)
        looks[label] = grey, hatch


def test_the_boundary_of_stability_is_overlaid(tmp_path):
    """Above η_J = 2.3068 the perfect solution of the soft committee is unstable."""
    axes = ["rule.outer_rate=1.5:3:2", "model.teacher_overlap=1,1.1"]
    diagram = phase_diagram(Experiment.load("saad-solla"), axes, tmp_path, workers=2)
    critical = diagram.dataset["stability_boundary"]
    assert critical.dims == ("model.teacher_overlap",)
    assert critical.attrs["key"] == "rule.outer_rate"
    assert float(critical[0]) == pytest.approx(2.306828, abs=1e-6)
    assert 1.5 < float(critical[1]) < 3
    texts = [text.get_text() for text in diagram.plot().legends[0].get_texts()]
    assert "loss of stability, by continuation" in texts
