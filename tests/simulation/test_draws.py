"""Normal numbers in bulk: their law, and that a stream does not depend on how it is divided."""

import numpy as np
import pytest
from scipy import stats

from solvers.draws import CHUNK, fill_normal


def drawn(*sizes: int, scale: float = 1.0) -> np.ndarray:
    bits = np.random.SFC64(7)
    parts = [np.empty(size) for size in sizes]
    for part in parts:
        fill_normal(bits, part, scale)
    return np.concatenate(parts)


def test_the_moments_are_those_of_a_normal_number():
    x = drawn(2**21)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = np.sqrt(stats.norm.moment(2 * power) - moment**2)
        assert abs((x**power).mean() - moment) < 4 * spread / np.sqrt(len(x)), power


def test_the_distribution_is_normal():
    x = drawn(2**18)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.kstest(x[::2] ** 2 + x[1::2] ** 2, "expon", (0, 2)).pvalue > 1e-3
    assert abs(np.abs(x) > 4).sum() == pytest.approx(2**18 * 6.334e-5, abs=4 * np.sqrt(16.6))


def test_neighbours_are_independent():
    """Pairs share a radius and an angle: neither values nor squares are correlated, at any lag."""
    x = drawn(2**20)
    for lag in (1, 2, CHUNK):
        for y in (x, x**2 - 1):
            products = y[lag:] * y[:-lag]
            assert abs(products.mean()) < 4 * products.std() / np.sqrt(len(products)), lag


def test_a_stream_does_not_depend_on_how_it_is_divided():
    whole = drawn(4 * CHUNK)
    np.testing.assert_array_equal(drawn(10, CHUNK, 2 * CHUNK + 6, CHUNK - 16), whole)
    np.testing.assert_allclose(drawn(4 * CHUNK, scale=0.3), 0.3 * whole, rtol=3e-7)
