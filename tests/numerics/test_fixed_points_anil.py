"""Fixed points of first-order ANIL with centred tasks."""

import numpy as np
import pytest

from solvers import continue_branch, critical_rate
from solvers.experiment import Experiment
from solvers.stability.fixed_points import fixed_point_near, fixed_points


@pytest.mark.parametrize(("inner_rate", "norm"), [(1.0, 7.877), (2.0, 2.033)])
def test_specialised_state_as_the_outer_rate_vanishes(inner_rate, norm, meta):
    eye = np.eye(2)
    point = fixed_point_near(meta(inner_rate), norm * eye, np.sqrt(norm) * eye, np.zeros(2))
    np.testing.assert_allclose(point.Q, norm * eye, atol=5e-4)
    np.testing.assert_allclose(point.R, np.sqrt(point.Q), atol=1e-10)
    assert point.stable
    assert point.label == "specialized"


def test_growth_from_nothing(meta):
    experiment = meta(1.0)
    q = 0.4
    point = fixed_point_near(experiment, q * np.eye(2), np.zeros((2, 2)), np.zeros(2))
    growing = [mode for mode in point.modes if mode.growth > 1e-6]
    assert len(growing) == 1
    assert growing[0].growth == pytest.approx(2 / (np.pi**2 * (1 + q)), rel=1e-10)
    assert growing[0].multiplicity == 4
    assert point.family == 3


def test_a_search_finds_the_specialised_and_the_unlearned_states(meta):
    found = fixed_points(meta(2.0), starts=12)
    assert found[0].label == "specialized"
    assert found[0].stable
    assert found[0].Q[0, 0] == pytest.approx(2.033, abs=5e-4)
    assert found[-1].label == "unlearned"
    assert found[-1].family > 0
    assert all(p.residual < 1e-10 for p in found)


def linear_units(**changes):
    """Three linear units for two teacher units: every rotation of the learner is a symmetry."""
    experiment = Experiment.from_dict(
        {
            "model": {"activation": "linear", "hidden": 3, "teacher_hidden": 2},
            "tasks": {"head_mean": 0.0, "head_covariance": 1.0, "label_noise": 0.3},
            "rule": {
                "name": "anil", "inner_rate": 0.3, "outer_rate": 0.5, "support": 10,
                "regime": "population",
            },
            "initial": {"w": 0.0, "random": {"norm": 0.5, "dimension": 100, "seed": 0}},
            "integrate": {"time": 300},
        }
    )  # fmt: skip
    return experiment.replace(**changes) if changes else experiment


def test_rotations_of_linear_units_make_a_family_of_one_spectrum(rng):
    best = fixed_points(linear_units(), starts=12)[0]
    assert best.stable
    assert best.manifold == (3, False)
    assert "3-dimensional family of fixed points of the same spectrum" in best.sentence
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = fixed_point_near(linear_units(), turn @ best.Q @ turn.T, turn @ best.R, best.w)
    assert turned.manifold == (3, False)
    assert turned.error == pytest.approx(best.error, rel=1e-10)
    np.testing.assert_allclose(turned.eigenvalues, best.eigenvalues, atol=1e-6)
    assert critical_rate(turned) == pytest.approx(critical_rate(best), rel=1e-8)


def test_modes_that_are_neutral_all_along_a_branch_make_no_special_points():
    """At J = 0 the norms grow or shrink algebraically only, whatever the outer rate."""
    nothing = fixed_point_near(linear_units(), np.zeros((3, 3)), np.zeros((3, 2)), np.zeros(3))
    branch = continue_branch(nothing, "rule.outer_rate", 0.1, 3.0)
    assert branch.special_points == ()
    assert (branch.unstable == 6).all()
    assert branch.family == 0


def test_a_family_of_several_spectra_says_so_and_is_shown_next_to_the_start(meta):
    """At R = 0 and w = 0 any Q is fixed, and decides how fast R grows."""
    experiment = meta(1.0)
    found = fixed_points(experiment, starts=8)[-1]
    assert found.label == "unlearned"
    assert found.manifold == (3, True)
    assert "differ in stability" in found.sentence
    Q, _, _ = experiment.layout.unpack(experiment.initial_state())
    np.testing.assert_allclose(found.Q, Q, atol=1e-6)
