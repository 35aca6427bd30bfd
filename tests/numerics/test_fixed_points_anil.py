"""Fixed points of first-order ANIL with centred tasks."""

import numpy as np
import pytest

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
