"""Axes as a user writes them, and points where labels change."""

import math

import numpy as np
import pytest

from solvers.diagrams.axes import Axis, parse_axes
from solvers.diagrams.refine import Adaptive, Grid
from solvers.errors import ExperimentError

UNIT = parse_axes(["x=0:1:2", "y=0:1:2"])


def place(placement, classify):
    """Values of all points placed, and their labels."""
    seen, points, labels = {}, [], []
    for places in placement.rounds(seen):
        for at in places:
            label, value = classify(*placement.values(at))
            seen[at] = label, value
            points.append(placement.values(at))
            labels.append(label)
    return np.array(points), np.array(labels)


def test_ranges_and_lists():
    axis = Axis.parse("rule.inner_rate=0.1:4:40")
    assert (axis.key, axis.scale, len(axis.values)) == ("rule.inner_rate", "linear", 40)
    assert axis.values[0] == 0.1
    assert axis.values[-1] == 4.0
    assert axis.values == tuple(np.linspace(0.1, 4, 40))
    assert Axis.parse("a=1:1e4:5:log").values == pytest.approx([1, 10, 100, 1000, 10000], rel=1e-15)
    assert Axis.parse("a=[1,2.5,inf]").values == (1, 2.5, math.inf)
    assert Axis.parse("a = 3, 1").values == (3, 1)
    assert Axis.parse("a=2:1:3").values == (2, 1.5, 1)


def test_whole_numbers():
    assert Axis.parse("rule.support=1:100:4:log").whole().values == (1, 5, 22, 100)
    assert Axis.parse("model.hidden=1:3:5").whole().values == (1, 2, 3)
    assert Axis.parse("rule.support=[1,inf]").whole().values == (1, math.inf)
    many = Axis.parse("rule.support=1:100:30:log").whole()
    assert (many.scale, many.continuous, len(many.values)) == ("log", False, 24)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a=", "=1:2:3", "a=1:2", "a=1:2:3:4", "a=1:2:3:lin", "a=1:2:x", "a=1:2:0",
        "a=1:2:2.5", "a=0:2:3:log", "a=-1:2:3:log", "a=1:1:3", "a=nan", "a=nan:1:2", "a=inf:1:2",
        "a=[1,2", "a=1,1", "a=1,,2", "a=1:2:99999999999", "a=__import__('os')",
    ],
)  # fmt: skip
def test_what_is_no_axis_is_refused(text):
    with pytest.raises(ExperimentError, match=r"start:stop:count"):
        parse_axes([text])


def test_number_of_axes_and_points():
    with pytest.raises(ExperimentError, match="one to three axes"):
        parse_axes([])
    with pytest.raises(ExperimentError, match="one to three axes"):
        parse_axes([f"{key}=1:2:3" for key in "abcd"])
    with pytest.raises(ExperimentError, match="repeat a key"):
        parse_axes(["a=1:2:3", "a=1,2"])
    with pytest.raises(ExperimentError, match="10000000"):
        parse_axes(["a=1:2:10000", "b=1:2:10000"])


def test_a_grid_is_all_combinations():
    grid = Grid(parse_axes(["a=1,2", "b=5:6:3"]))
    points, _ = place(grid, lambda a, b: ("", 0.0))
    assert grid.total == 6
    assert points.tolist() == [[a, b] for a in (1, 2) for b in (5, 5.5, 6)]


def circle(x, y):
    return ("in" if math.hypot(x - 0.45, y - 0.52) < 0.31 else "out"), 0.0


def regions(x, y):
    """Three regions that meet, and a smooth value, in the manner of a phase diagram."""
    boundary = 0.25 + 0.3 * math.sin(3 * x)
    label = "low" if y < boundary else "left" if x + 0.1 * y < 0.6 else "right"
    return label, -3 * x + math.sin(4 * y)


@pytest.mark.parametrize(("classify", "count"), [(circle, 700), (regions, 700), (circle, 2000)])
def test_five_times_fewer_points_than_a_grid_of_the_same_resolution(classify, count):
    """Nearest-point labels on a fine raster: adaptive errs no more than a grid of 5 × as many."""
    fine = (np.arange(1000) + 0.5) / 1000
    raster = np.array([(x, y) for x in fine[::3] for y in fine[::3]])
    truth = np.array([classify(*p)[0] for p in raster])

    def wrong(points, labels):
        from scipy.spatial import KDTree

        return np.mean(labels[KDTree(points).query(raster)[1]] != truth)

    points, labels = place(Adaptive(UNIT, count), classify)
    assert len(points) == count
    assert len(np.unique(points, axis=0)) == count
    side = int(math.sqrt(5 * count)) + 1
    grid = Grid(parse_axes([f"x=0:1:{side}", f"y=0:1:{side}"]))
    assert wrong(points, labels) <= wrong(*place(grid, classify))


def test_a_boundary_in_one_dimension_is_bisected():
    points, labels = place(
        Adaptive(parse_axes(["x=1:100:2:log"]), 40), lambda x: (str(x > math.pi), 0.0)
    )
    below, above = points[labels == "False"].max(), points[labels == "True"].min()
    assert 0 < above - below < 1e-5
    assert below <= math.pi < above


def test_lists_are_kept_and_only_ranges_refined():
    adaptive = Adaptive(parse_axes(["k=1,2,3", "x=0:1:2"]), 90)
    points, _ = place(adaptive, lambda k, x: (str(x > k / 4), 0.0))
    assert set(points[:, 0]) == {1, 2, 3}
    for k in (1, 2, 3):
        assert np.abs(points[points[:, 0] == k, 1] - k / 4).min() < 1e-4


def test_values_attract_points_where_labels_do_not_change():
    points, _ = place(Adaptive(UNIT, 400), lambda x, y: ("", math.tanh(40 * (x - 0.3))))
    assert np.mean(np.abs(points[:, 0] - 0.3) < 0.1) > 0.5


def test_too_few_points_or_no_range():
    with pytest.raises(ExperimentError, match="at least 9"):
        Adaptive(UNIT, 8)
    with pytest.raises(ExperimentError, match="values in between"):
        Adaptive(parse_axes(["a=1,2"]), 100)
