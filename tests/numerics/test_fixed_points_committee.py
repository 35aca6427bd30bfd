"""What is known about the fixed points of the soft committee (Saad & Solla 1995)."""

import numpy as np
import pytest

from solvers.stability.fixed_points import fixed_points
from theory.overlaps import field_covariance


@pytest.mark.parametrize("K", range(2, 9))
def test_symmetric_plateau_of_slow_learning(K, committee, plateau):
    point = plateau(committee(K, 1.0, "gradient-flow"))
    np.testing.assert_allclose(point.Q, 1 / (2 * K - 1), rtol=1e-12)
    np.testing.assert_allclose(point.R, 1 / np.sqrt(K * (2 * K - 1)), rtol=1e-12)
    assert point.error == pytest.approx(
        (K / np.pi) * (np.pi / 6 - K * np.arcsin(1 / (2 * K))), abs=1e-14
    )
    assert point.residual < 1e-10
    assert point.label == "symmetric"


@pytest.mark.parametrize("K", range(2, 9))
def test_escape_eigenvalue_and_its_multiplicity(K, committee, plateau):
    point = plateau(committee(K, 1.0, "gradient-flow"))
    leading = point.modes[0]
    expected = (2 / np.pi) * K / (np.sqrt(2 * K - 1) * (2 * K + 1) ** 1.5)
    assert leading.growth == pytest.approx(expected, rel=1e-10)
    assert leading.multiplicity == point.unstable == (K - 1) ** 2
    assert "specialising" in leading.name
    assert len(point.eigenvalues) == K * (K + 1) // 2 + K * K


def test_plateau_of_two_units_at_a_finite_rate(committee):
    found = fixed_points(committee(2, 0.1), starts=12)
    symmetric = [p for p in found if p.label == "symmetric"]
    assert len(symmetric) == 1
    point = symmetric[0]
    assert point.Q[0, 0] == pytest.approx(0.33882, abs=5e-6)
    assert point.Q[0, 1] == pytest.approx(0.33203, abs=5e-6)
    np.testing.assert_allclose(point.R, 0.40923, atol=5e-6)
    assert point.error == pytest.approx(0.012085, abs=5e-7)
    assert point.unstable == 1
    assert point.symmetry == "S2 of learner units × S2 of teacher units"
    assert [p.label for p in found if p.stable] == ["specialized"]


@pytest.mark.parametrize("K", [3, 4])
def test_the_plateau_splits_and_no_unphysical_root_is_returned(K, committee):
    found = fixed_points(committee(K, 0.3), starts=12)
    assert len(found) > 1
    for point in found:
        C = field_covariance(point.Q, point.R, np.eye(K))
        assert np.linalg.eigvalsh(C)[0] > -1e-8 * np.trace(C)
        assert point.error > -1e-12
        assert point.residual < 1e-10
    symmetric = [p for p in found if p.symmetry == f"S{K} of learner units × S{K} of teacher units"]
    assert len(symmetric) == 1
    assert symmetric[0].Q[0, 0] - symmetric[0].Q[0, 1] > 0.01
    assert symmetric[0].unstable == (K - 1) ** 2


def test_units_that_coincide_are_listed_on_demand(committee):
    found = fixed_points(committee(2, 0.1), starts=12, coinciding=True)
    together = [p for p in found if np.ptp(p.Q) < 1e-9]
    assert len(together) == 1
    assert together[0].unstable == 3


def test_specialised_states_of_a_trained_head_form_no_family_when_units_are_as_many(
    committee, perfect
):
    point = perfect(committee(2, 0.5, head_rate=0.2))
    assert point.family == 0
    assert point.stable
    assert len(point.eigenvalues) == 9


def test_a_superfluous_unit_makes_a_family_of_perfect_states(committee):
    experiment = committee(2, 0.5, head_rate=0.2).replace(
        **{"model.hidden": 3, "initial": {"w": [1.0, 1.0, 0.0],
           "Q": np.diag([1.0, 1.0, 0.3]).tolist(), "R": [[1, 0], [0, 1], [0, 0]]}}
    )  # fmt: skip
    found = fixed_points(experiment, starts=6)
    best = found[0]
    assert best.error == pytest.approx(0, abs=1e-12)
    assert best.family > 0
    assert "family" in best.sentence
    assert any("continuous famil" in sentence for sentence in found.warnings)


def test_nothing_moves_without_a_rate(committee):
    found = fixed_points(committee(2, 0.0))
    assert len(found) == 0
    assert "Every state is a fixed point" in found.message
