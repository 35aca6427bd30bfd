"""Branches of the soft committee and of ANIL: critical rates, special points, other codes."""

import warnings

import numpy as np
import pytest
from scipy.optimize import brentq

from solvers.errors import ExperimentError
from solvers.results import NumericalFailure
from solvers.stability.continuation import continue_all, continue_branch
from solvers.stability.fixed_points import fixed_point_near, fixed_points
from solvers.stability.rates import critical_rate, optimal_rate
from solvers.stability.steady import Steady

SOURCE = "rule.outer_rate"


@pytest.mark.parametrize(("K", "rate"), [(1, np.pi * np.sqrt(5 / 3)), (2, 2.3068)])
def test_largest_stable_rate_of_the_perfect_solution(K, rate, committee, perfect):
    found = critical_rate(perfect(committee(K)), SOURCE)
    assert found == pytest.approx(rate, abs=1e-6 if K == 1 else 5e-5)
    for side, stable in ((found - 1e-6, True), (found + 1e-6, False)):
        assert perfect(committee(K, side)).stable is stable


def test_critical_rate_is_the_same_from_above_and_below(committee, perfect):
    values = [critical_rate(perfect(committee(2, rate))) for rate in (0.3, 1.0, 3.0)]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


def test_a_unit_that_does_nothing_changes_no_critical_rate(committee, perfect):
    """Its overlaps are free, which makes a family of fixed points and as many neutral modes."""
    wide = {"model.hidden": 3, "initial": {"w": [1.0, 1.0, 0.0],
            "Q": np.diag([1.0, 1.0, 0.3]).tolist(), "R": [[1, 0], [0, 1], [0, 0]]}}  # fmt: skip
    experiment = committee(2).replace(**wide)
    Q, R, w = experiment.layout.unpack(experiment.initial_state())
    point = fixed_point_near(experiment, Q, R, w)
    assert point.family > 0
    assert critical_rate(point) == pytest.approx(critical_rate(perfect(committee(2))), abs=1e-8)


def test_a_state_that_meets_its_own_image_is_gone_beyond(meta):
    """Three units for two teachers: the best state ends where it becomes the symmetric one."""
    experiment = meta(2.0, "streaming").replace(**{"model.hidden": 3})
    point = fixed_points(experiment, starts=12)[0]
    assert point.stable
    rate = critical_rate(point)
    branch = continue_branch(point, SOURCE, 0.5, 2.5)
    (special,) = branch.special_points
    assert special.kind == "branch-point"
    assert "its own image" in special.sentence
    assert special.parameter == pytest.approx(rate, abs=1e-8)
    assert branch.parameter.max() == special.parameter
    assert (branch.unstable == 0).all()


def test_critical_rate_approaches_its_limit_for_many_units(committee, perfect):
    gaps = [K * critical_rate(perfect(committee(K))) - np.sqrt(3) * np.pi for K in (3, 6)]
    assert 0 < -gaps[1] < -0.6 * gaps[0]
    assert gaps[1] * 6 / (gaps[0] * 3) == pytest.approx(1, abs=0.1)


def test_optimal_rate_is_the_fastest(committee, perfect):
    point = perfect(committee(2))
    best = optimal_rate(point)
    for rate in (0.9 * best.rate, 0.99 * best.rate, 1.01 * best.rate, 1.05 * best.rate):
        assert -perfect(committee(2, rate)).eigenvalues.real.max() < best.decay
    at_best = perfect(committee(2, best.rate))
    assert -at_best.eigenvalues.real.max() == pytest.approx(best.decay, rel=1e-6)


def test_there_is_no_critical_rate_where_nothing_changes(committee, plateau):
    point = plateau(committee(2, 1.0, "gradient-flow"))
    with pytest.raises(NumericalFailure, match="not stable"):
        critical_rate(point)


def test_special_points_are_located_to_eight_digits(committee, perfect):
    experiment = committee(3)
    steady = Steady(experiment, SOURCE)
    x = perfect(experiment).x

    def leading(rate):
        return np.linalg.eigvals(steady.problem.jacobian(x, rate)).real.max()

    exact = brentq(leading, 1.0, 2.0, xtol=1e-13)
    for window in ((0.0, 4.5), (0.1, 2.0)):
        branch = continue_branch(perfect(experiment), SOURCE, *window)
        (special,) = branch.special_points
        assert special.parameter == pytest.approx(exact, abs=1e-8)
        assert special.critical
        assert "critical learning rate" in special.sentence


def test_the_plateau_is_followed_to_a_vanishing_rate(committee):
    start = next(p for p in fixed_points(committee(2, 0.1), starts=8) if p.label == "symmetric")
    branch = continue_branch(start, SOURCE, 0.0, 1.0)
    np.testing.assert_allclose(branch.Q[0], 1 / 3, atol=2e-6)  # a double root: √residual
    assert branch.error[0] == pytest.approx(0.0116108, abs=5e-8)
    assert (branch.unstable == 1).all()
    assert (np.diff(branch.error) > 0).all()
    near = np.argmin(np.abs(branch.parameter - 0.1))
    there = next(
        p
        for p in fixed_points(committee(2, float(branch.parameter[near])), starts=8)
        if p.label == "symmetric"
    )
    np.testing.assert_allclose(branch.Q[near], there.Q, atol=1e-9)


def test_the_same_branch_from_an_independent_code(committee):
    import pycont

    start = next(p for p in fixed_points(committee(2, 0.5), starts=8) if p.label == "symmetric")
    steady = Steady(start.experiment, SOURCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = pycont.arclengthContinuation(
            lambda x, rate: steady.problem.residual(x, rate) / rate,
            start.x, 0.5, 1e-6, 0.05, 0.02, 60,
            solver_parameters={
                "tolerance": 1e-11, "param_min": 0.2, "param_max": 2.0,
                "bifurcation_detection": False, "analyze_stability": False,
            },
            verbosity="off",
        )  # fmt: skip
    branch = continue_branch(start, SOURCE, 0.15, 2.1)
    compared = 0
    for other in result.branches:
        for x, rate in zip(other.u_path[::5], other.p_path[::5], strict=True):
            nearest = fixed_point_on(branch, steady, float(rate))
            np.testing.assert_allclose(nearest, x, atol=1e-6)
            compared += 1
    assert compared > 10


def fixed_point_on(branch, steady, rate):
    from solvers.stability.track import state_at

    (state,) = state_at(branch.track, rate)
    assert np.abs(steady.problem.residual(state, rate)).max() < 1e-10
    return state


def test_a_diagram_holds_the_branch_that_leaves_the_perfect_one(committee, perfect):
    diagram = continue_all(committee(2), SOURCE, 0.5, 3.0, points=[perfect(committee(2))])
    assert len(diagram) == 2
    other = diagram[1]
    assert "branch-point at rule.outer_rate = 2.306" in other.origin
    assert other.parameter.min() > 2.3
    assert (other.unstable == 0).all()
    assert (other.error[1:] > 0).all()
    data = diagram.dataset
    assert data.sizes["point"] == sum(len(b) for b in diagram)
    assert set(data.special_branch.values) == {0}


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("rule.inner_rate", 0.8, 2.2), ("tasks.head_covariance", 0.5, 2.0),
     ("tasks.head_mean", 0.0, 0.4), ("model.teacher_overlap", 0.8, 1.3)],
)  # fmt: skip
def test_any_number_of_the_experiment_can_be_followed(key, low, high, meta):
    point = fixed_point_near(meta(2.0), 2.03 * np.eye(2), 1.43 * np.eye(2), np.zeros(2))
    branch = continue_branch(point, key, low, high)
    assert branch.parameter[[0, -1]].tolist() == [low, high]
    for i in (0, len(branch) // 2, -1):
        there = fixed_point_near(
            meta(2.0).replace(**{key: float(branch.parameter[i])}),
            branch.Q[i], branch.R[i], branch.w[i],
        )  # fmt: skip
        np.testing.assert_allclose(there.Q, branch.Q[i], atol=1e-8)
        assert there.error == pytest.approx(branch.error[i], abs=1e-10)


def test_a_wrong_range_or_parameter_is_one_line(committee, perfect):
    point = perfect(committee(2))
    with pytest.raises(ExperimentError, match="limited to"):
        continue_branch(point, SOURCE, -1.0, 1.0)
    with pytest.raises(ExperimentError, match="two different finite ends"):
        continue_branch(point, SOURCE, 1.0, 1.0)
    with pytest.raises(ExperimentError, match="outer_rat"):
        continue_branch(point, "rule.outer_rat", 0.0, 1.0)
    with pytest.raises(ExperimentError, match="not a number"):
        continue_branch(point, "rule.regime", 0.0, 1.0)


def test_a_branch_that_diverges_ends_with_a_sentence(committee):
    start = next(p for p in fixed_points(committee(2, 0.5), starts=8) if p.label == "symmetric")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        branch = continue_branch(start, SOURCE, 0.2, 6.0)
    assert "beyond all bounds" in branch.ends[1]
