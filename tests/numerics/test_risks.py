"""Closed risks of linear regression: their limits, and that they agree where they overlap."""

import numpy as np
import pytest

from solvers.linear import oracle_risk, ridge_risk, tuned_ridge_risk


@pytest.mark.parametrize("support", [20, 50, 200])
def test_equal_variances_are_the_isotropic_case(support):
    risk = 2 * tuned_ridge_risk(np.ones(50), np.full(50, 3.0 / 50), support, 0.7)
    assert risk == pytest.approx(ridge_risk(50, support, 0.7, 3.0), rel=1e-4)


def test_free_directions_are_least_squares():
    """With nothing else to learn ½σ²γ/(1 − γ), γ = k/m: the oracle's to order 1/m."""
    risk = 2 * tuned_ridge_risk(np.ones(7), np.zeros(7), 4000, 0.7, free=5)
    assert risk == pytest.approx(oracle_risk(5, 4000, 0.7), rel=1e-3)


def test_a_scale_of_the_inputs_is_one_of_the_parameters():
    spectrum, squared = np.array([0.2, 1.0, 3.0, 3.0]), np.array([1.0, 0.5, 0.2, 0.0])
    one = tuned_ridge_risk(spectrum, squared, 10, 0.3, free=1)
    other = tuned_ridge_risk(5 * spectrum, squared / 5, 10, 0.3, free=1)
    assert one == pytest.approx(other, rel=1e-3)
