"""Curves of a special point in two parameters."""

import numpy as np
import pytest

from solvers.errors import ExperimentError
from solvers.stability.arclength import Steps
from solvers.stability.branch import Diagram
from solvers.stability.continuation import continue_all, continue_branch
from solvers.stability.curves import special_curve, special_curves
from solvers.stability.fixed_points import fixed_point_near
from solvers.stability.rates import critical_rate


def test_the_boundary_of_stability_of_meta_learning(meta):
    """Every point of the curve is the critical rate of the experiment with its inner rate."""
    experiment = meta(2.0, "streaming")
    point = fixed_point_near(experiment, 2.06 * np.eye(2), 1.43 * np.eye(2), np.zeros(2))
    branch = continue_branch(point, "rule.outer_rate", 0.5, 3.0)
    (fold,) = [s for s in branch.special_points if s.critical]
    assert fold.kind == "fold"
    curve = special_curve(
        branch, fold, "rule.inner_rate", 1.95, 2.05, steps=Steps(largest=0.02, count=6)
    )
    assert curve.second.min() < 2 < curve.second.max()
    start = np.argmin(np.abs(curve.second - 2))
    assert curve.first[start] == pytest.approx(fold.parameter, abs=1e-8)
    for i in (0, -1):
        there = meta(float(curve.second[i]), "streaming")
        near = fixed_point_near(there, point.Q, point.R, point.w)
        assert critical_rate(near) == pytest.approx(curve.first[i], abs=1e-7)
    assert list(curve.dataset.data_vars) == ["first", "second", "error"]


def test_a_curve_needs_modes_that_cross_and_a_range_around_the_value(meta):
    experiment = meta(2.0, "streaming")
    point = fixed_point_near(experiment, 2.06 * np.eye(2), 1.43 * np.eye(2), np.zeros(2))
    branch = continue_branch(point, "rule.outer_rate", 1.0, 2.3)
    (fold,) = [s for s in branch.special_points if s.kind == "fold"]
    for key, ends, words in (
        ("rule.inner_rate", (3.0, 4.0), "must contain"),
        ("rule.inner_rate", (-1.0, 3.0), "limited to"),
        ("rule.inner_rate", (2.0, 2.0), "two different"),
        ("rule.inner_rat", (1.0, 3.0), "inner_rate"),
    ):
        with pytest.raises(ExperimentError, match=words):
            special_curve(branch, fold, key, *ends)
        with pytest.raises(ExperimentError, match=words):
            special_curves(Diagram(experiment, "rule.outer_rate", (branch,)), key, *ends)


def test_a_point_where_branches_cross_is_one_point_with_one_curve(committee):
    """The perfect state, which meets a branch of its own symmetry at the critical rate."""
    diagram = continue_all(committee(2), "rule.outer_rate", 2.0, 2.5, starts=8)
    crossings = [s.parameter for b in diagram for s in b.special_points]
    assert len(crossings) >= 2
    np.testing.assert_allclose(crossings, 2.3068276961, atol=1e-8)
    (curve,) = special_curves(diagram, "model.teacher_overlap", 0.9, 1.1)
    assert curve.second.min() < 0.92
    assert curve.second.max() > 1.08
    for rate, overlap in zip(curve.first[::6], curve.second[::6], strict=True):
        state = overlap * np.eye(2)
        same = {"Q": state.tolist(), "R": state.tolist(), "w": 1.0}
        there = committee(2).replace(**{"model.teacher_overlap": overlap, "initial": same})
        point = fixed_point_near(there, state, state, np.ones(2))
        assert critical_rate(point) == pytest.approx(rate, abs=1e-7)
