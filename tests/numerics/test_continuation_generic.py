"""Continuation of small problems whose branches and special points are known in closed form."""

from itertools import permutations

import numpy as np
import pytest

from solvers.stability.problem import Problem, SignedPermutation
from solvers.stability.special_points import with_special_points
from solvers.stability.switching import branches_from
from solvers.stability.track import CLOSED, Window, both_ways


def follow(problem, x, parameter, low, high):
    window = Window(low, high)
    track = both_ways(problem, np.atleast_1d(np.array(x, float)), parameter, window)
    return with_special_points(track), window


def s_curve():
    """λ + x − x³: folds at x = ±1/√3, λ = ∓2/(3√3)."""
    return Problem(
        lambda x, p: np.array([p + x[0] - x[0] ** 3]), lambda x, p: np.array([[1 - 3 * x[0] ** 2]])
    )


def test_folds_are_passed_and_located_in_both_directions():
    track, _ = follow(s_curve(), 1.324717957244746, 1.0, -1.0, 1.5)
    folds = [s for s in track.special_points if s.kind == "fold"]
    assert len(folds) == len(track.special_points) == 2
    fold = 2 / (3 * np.sqrt(3))
    np.testing.assert_allclose(sorted(s.parameter for s in folds), [-fold, fold], atol=1e-12)
    np.testing.assert_allclose(sorted(s.x[0] for s in folds), np.array([-1, 1]) / np.sqrt(3))
    assert track.parameters[[0, -1]].tolist() == [-1.0, 1.5]
    counts = [p.unstable for p in track.points]
    assert counts[0] == counts[-1] == 0
    assert max(counts) == 1
    for point in track.points:
        assert abs(point.parameter + point.x[0] - point.x[0] ** 3) < 1e-10


def test_a_closed_branch_ends_where_it_began():
    problem = Problem(
        lambda x, p: np.array([x[0] ** 2 + p**2 - 1]), lambda x, p: np.array([[2 * x[0]]])
    )
    track, _ = follow(problem, 1.0, 0.0, -3.0, 3.0)
    assert CLOSED in track.ends
    folds = sorted(s.parameter for s in track.special_points)
    np.testing.assert_allclose(folds, [-1, 1], atol=1e-12)


def test_a_hopf_point():
    def flow(x, p):
        r = x @ x
        return np.array([p * x[0] - 2 * x[1] - x[0] * r, 2 * x[0] + p * x[1] - x[1] * r])

    def jacobian(x, p):
        return np.array(
            [[p - 3 * x[0] ** 2 - x[1] ** 2, -2 - 2 * x[0] * x[1]],
             [2 - 2 * x[0] * x[1], p - x[0] ** 2 - 3 * x[1] ** 2]]
        )  # fmt: skip

    track, _ = follow(Problem(flow, jacobian), [0, 0], -0.37, -1.0, 1.0)
    (hopf,) = track.special_points
    assert hopf.kind == "hopf"
    assert abs(hopf.parameter) < 1e-12
    assert hopf.unstable == (0, 2)
    assert hopf.critical


@pytest.mark.parametrize(
    ("slope", "kind"), [(-2.0, "period-doubling"), (0.0, "branch-point"), (0.5, "branch-point")]
)
def test_maps_lose_stability_when_a_multiplier_leaves_the_unit_circle(slope, kind):
    """x ← (1 + slope + λ) x − x³ or with −λ: the multiplier reaches ±1 at λ = slope or 0."""
    sign = -1.0 if kind == "period-doubling" else 1.0
    start = -0.2 - (0.0 if kind == "period-doubling" else slope)
    problem = Problem(
        lambda x, p: np.array([(slope + sign * p) * x[0] - x[0] ** 3]),
        lambda x, p: np.array([[slope + sign * p - 3 * x[0] ** 2]]),
        discrete=True,
    )
    track, _ = follow(problem, 0.0, start, start - 0.3, start + 0.7)
    (special,) = [s for s in track.special_points if s.kind == kind]
    expected = 0.0 if kind == "period-doubling" else -slope
    assert abs(special.parameter - expected) < 1e-10


def test_a_transcritical_point_has_a_branch_on_either_side():
    problem = Problem(
        lambda x, p: np.array([p * x[0] - x[0] ** 2]), lambda x, p: np.array([[p - 2 * x[0]]])
    )
    track, window = follow(problem, 0.0, -0.43, -1.0, 1.0)
    (special,) = track.special_points
    assert special.kind == "branch-point"
    assert abs(special.parameter) < 1e-12
    others = branches_from(track, special, window)
    assert sorted(float(np.sign(b.parameters[-1])) for b in others) == [-1.0, 1.0]
    for branch in others:
        np.testing.assert_allclose([p.x[0] for p in branch.points], branch.parameters, atol=1e-10)


def three_cells():
    """Three cells that only differ by name: the kernel at λ = 0 is two-dimensional."""

    def flow(x, p):
        away = x - x.mean()
        return p * away + 0.3 * away**2 - away**3 - x.mean()

    def jacobian(x, p):
        project = np.eye(3) - 1 / 3
        away = x - x.mean()
        return np.diag(p + 0.6 * away - 3 * away**2) @ project - 1 / 3

    def symmetries(x, p):
        some = (np.array(order) for order in permutations(range(3)))
        return [SignedPermutation(g, np.ones(3)) for g in some if np.abs(x[g] - x).max() < 1e-6]

    def equivalent(x, other, p):
        return any(np.abs(x[list(g)] - other).max() < 1e-6 for g in permutations(range(3)))

    return Problem(flow, jacobian, symmetries=symmetries, equivalent=equivalent)


def test_a_two_dimensional_kernel_gives_one_branch_for_each_class_of_directions():
    track, window = follow(three_cells(), [0, 0, 0], -0.5, -1.0, 1.0)
    (special,) = track.special_points
    assert (special.kind, special.multiplicity, special.unstable) == ("branch-point", 2, (0, 2))
    assert abs(special.parameter) < 1e-10
    others = [with_special_points(b) for b in branches_from(track, special, window)]
    assert len(others) == 2
    for branch in others:
        for point in branch.points:
            assert np.isclose(point.x[1], point.x[2])
            assert np.abs(three_cells().residual(point.x, point.parameter)).max() < 1e-9
    kinds = sorted(s.kind for b in others for s in b.special_points)
    assert kinds == ["fold"]


def test_the_end_of_physicality_is_a_special_point():
    problem = Problem(
        lambda x, p: np.array([p - x[0]]),
        lambda x, p: np.array([[-1.0]]),
        margin=lambda x, p: float(0.3 - x[0]),
    )
    track, _ = follow(problem, 0.0, 0.0, -1.0, 1.0)
    (edge,) = track.special_points
    assert edge.kind == "unphysical"
    assert abs(edge.parameter - 0.3) < 1e-10
    assert track.points[-1].x[0] <= 0.3 + 1e-8
    assert "unphysical" in track.ends[1]


def test_a_branch_that_ends_nowhere_says_so():
    problem = Problem(
        lambda x, p: np.array([np.sqrt(1 - p) - x[0]]) if p <= 1 else np.array([np.nan]),
        lambda x, p: np.array([[-1.0]]),
    )
    track, _ = follow(problem, 1.0, 0.0, -1.0, 2.0)
    assert "no further point" in track.ends[1]
    assert 0.9 < track.parameters[-1] <= 1.0


@pytest.mark.parametrize("gap", [0.02, 3e-3, 1e-4])
def test_modes_that_cross_in_opposite_directions_within_a_step_are_both_seen(gap):
    def rates(p):
        return np.array([p - 0.5, 0.5 + gap - p, -1.0])

    problem = Problem(lambda x, p: rates(p) * x - x**3, lambda x, p: np.diag(rates(p) - 3 * x**2))
    track, _ = follow(problem, [0, 0, 0], 0.013, 0.0, 1.0)
    first, second = track.special_points
    assert (first.kind, first.unstable) == ("branch-point", (1, 2))
    assert (second.kind, second.unstable) == ("branch-point", (2, 1))
    assert first.parameter == pytest.approx(0.5, abs=1e-10)
    assert second.parameter == pytest.approx(0.5 + gap, abs=1e-10)


def test_a_branch_that_turns_back_into_its_image_meets_a_branch_point_not_a_fold():
    """A pitchfork: the branch x = ±√λ, within its own states, has an end of its range at 0."""
    flip = SignedPermutation(np.array([0]), -np.ones(1))
    problem = Problem(
        lambda x, p: p * x - x**3,
        lambda x, p: np.diag(p - 3 * x**2),
        symmetries=lambda x, p: [flip] if np.abs(x).max() < 1e-6 else [],
        equivalent=lambda x, other, p: bool(np.abs(np.abs(x) - np.abs(other)).max() < 1e-6),
    )
    track, _ = follow(problem, [0.7], 0.49, -1.0, 1.0)
    (special,) = track.special_points
    assert special.kind == "branch-point"
    assert abs(special.parameter) < 1e-10
    assert track.points[0].x[0] == pytest.approx(-track.points[-1].x[0])
