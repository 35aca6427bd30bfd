"""The benchmarks in short: ratios to baselines of the same run, with room of a factor 2."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import baselines
import table

pytestmark = pytest.mark.alone
OVER_C = {2: 0.9, 4: 0.75, 8: 0.6}
OVER_ARCSINES = {2: 19.0, 4: 4.9, 8: 2.7}
JACOBIAN = {2: 1.6, 4: 1.7, 8: 1.9}
JACOBIAN_OF_ANIL = {2: 2.3, 4: 2.5, 8: 3.4}
OVER_PLAIN = {2: 0.52, 4: 0.45, 8: 0.3}
NOISE = 0.06
"""What was measured; twice as much is a regression."""
SIZES = (2, 4, 8)


@pytest.mark.parametrize("K", SIZES)
def test_baselines_compute_the_same(K: int) -> None:
    flow, given, y = baselines.problem(K, "numpy")
    expected = flow.rhs(y, given)
    np.testing.assert_allclose(baselines.plain_rate(K)(y), expected, rtol=0, atol=1e-14)
    if baselines.library() is not None:
        np.testing.assert_allclose(baselines.c_rate(K, y), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("K", SIZES)
def test_the_compiled_rate_stays_fast(K: int) -> None:
    here = table.compiled(K)
    assert here / baselines.arcsine_floor(K) < 2 * OVER_ARCSINES[K]
    if baselines.library() is not None:
        assert here / table.in_c(K) < 2 * OVER_C[K]


@pytest.mark.parametrize("K", SIZES)
def test_the_compiled_jacobian_stays_fast(K: int) -> None:
    assert table.jacobian(K) / table.compiled(K) < 2 * JACOBIAN[K]
    assert table.jacobian_of_anil(K) / table.anil(K) < 2 * JACOBIAN_OF_ANIL[K]


@pytest.mark.parametrize("K", SIZES)
def test_arrays_stay_fast(K: int) -> None:
    assert table.arrays(K) / table.plain(K) < 2 * OVER_PLAIN[K]


@pytest.mark.parametrize("K", SIZES)
def test_adaptation_costs_little(K: int) -> None:
    assert table.anil(K) / table.compiled(K) < 2


def test_noise_at_a_finite_support_stays_fast() -> None:
    assert table.noisy(2) / table.noisy(2, "numpy") < 2 * NOISE


def test_a_thousand_alike_units_cost_no_more_than_two() -> None:
    assert table.reduction(1000) / table.bound(2) < 2


@pytest.mark.parametrize("K", SIZES)
def test_four_point_averages_take_less_than_a_microsecond(K: int) -> None:
    assert baselines.four_point(K) < 1e-6
