"""The lattice rule against what Gaussian averages must be."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import erf

from theory.errors import DomainError
from theory.finite.lattice import gauss_hermite, head_nodes, lattice, task_nodes


def covariance(n: int, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    root = rng.standard_normal((n, n + 2))
    return scale * root @ root.T / (n + 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("check", [False, True])
def test_average_of_two_erfs(n, scale, check, rng):
    C = covariance(n, rng, scale)
    nodes = lattice(C, even=True, check=check, budget=200_000)
    g = erf(nodes.x / np.sqrt(2))
    width = np.sqrt(1 + np.diag(C))
    expected = 2 / np.pi * np.arcsin(C / np.outer(width, width))
    assert_allclose((nodes.weight * g) @ g.T, expected, rtol=0, atol=1e-6)
    assert_allclose((nodes.weight * nodes.x) @ nodes.x.T, C, rtol=0, atol=2e-5 * np.abs(C).max())


def test_both_halves_when_the_integrand_is_not_even(rng):
    C = covariance(3, rng)
    half, full = lattice(C, even=True), lattice(C, even=False)
    assert full.x.shape[1] == 2 * half.x.shape[1] - 1
    assert_allclose(full.x @ full.weight, 0, atol=1e-15)
    assert_allclose(full.weight @ np.cos(full.x[0]), half.weight @ np.cos(half.x[0]), rtol=1e-13)


def test_nodes_come_and_go_smoothly():
    """Third differences of an average along a path through C stay small: no node jumps in."""
    start, end = np.diag([0.3, 0.5, 0.9]), np.array([[1, 0.4, 0.2], [0.4, 1.2, 0.1], [0.2, 0.1, 2]])

    def average(t: float) -> float:
        nodes = lattice((1 - t) * start + t * end, even=True)
        return float(nodes.weight @ erf(nodes.x).prod(axis=0) ** 2)

    values = np.array([average(t) for t in np.linspace(0.2, 0.21, 21)])
    # a node of weight 1e-9 that appeared at once would show up at that size
    assert np.abs(np.diff(values, 4)).max() < 1e-11


def test_budget_bounds_the_nodes(rng):
    C = covariance(5, rng)
    for budget in (1000, 8000):
        assert lattice(C, even=True, budget=budget).x.shape[1] == pytest.approx(budget, rel=0.05)


def test_relabelled_fields_give_relabelled_nodes(rng):
    C, order = covariance(4, rng), [2, 0, 3, 1]
    nodes, moved = lattice(C, even=False), lattice(C[np.ix_(order, order)], even=False)
    f = np.exp(-(nodes.x**2) / 2) * erf(nodes.x + 0.3)
    g = np.exp(-(moved.x**2) / 2) * erf(moved.x + 0.3)
    assert_allclose(g @ moved.weight, (f @ nodes.weight)[order], rtol=1e-13)


def test_gauss_hermite_is_exact_for_polynomials_also_when_singular():
    C = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 2.0]])
    nodes = gauss_hermite(C, 3)
    x, y, z = nodes.x
    assert len(nodes.weight) == 9
    assert nodes.weight @ (x**3 * y) == pytest.approx(3.0)
    assert nodes.weight @ (x**2 * z**2) == pytest.approx(2.0 + 2 * 0.09)


def test_task_nodes_have_the_moments_of_the_heads(rng):
    mean, covariance = np.array([0.4, -1.0]), np.array([[0.5, 0.2], [0.2, 0.9]])
    heads, weights = task_nodes(mean, covariance)
    assert heads.shape == (9, 2)
    centred = heads - mean
    assert_allclose(weights @ heads, mean)
    assert_allclose((weights * centred.T) @ centred, covariance)
    pairings = 2 * 0.2**2 + 0.5 * 0.9
    assert weights @ (centred**2).prod(axis=1) == pytest.approx(pairings)
    alone, weight = task_nodes(mean, np.zeros((2, 2)))
    assert_allclose(alone, [mean])
    assert_allclose(weight, [1.0])


@pytest.mark.parametrize("C", [[[1.0, 2.0], [2.0, 1.0]], [[np.nan, 0.0], [0.0, 1.0]]])
def test_what_is_no_covariance_is_refused(C):
    with pytest.raises(DomainError, match="no covariance"):
        lattice(C, even=True)


@pytest.mark.parametrize(("n", "count"), [(1, 3), (2, 7), (3, 13), (4, 25), (5, 51)])
def test_fewer_heads_are_exact_to_degree_five(n, count, rng):
    mean, covariance_ = rng.standard_normal(n), covariance(n, rng)
    heads, weights = head_nodes(mean, covariance_)
    many, share = task_nodes(mean, covariance_)
    assert heads.shape == (count, n)
    probes = rng.standard_normal((8, n))
    for degree in range(6):
        expected = share @ (many @ probes.T) ** degree
        assert_allclose(weights @ (heads @ probes.T) ** degree, expected, rtol=1e-12, atol=1e-12)


def test_heads_without_variance_stay_one():
    heads, weights = head_nodes([1.0, 2.0], np.zeros((2, 2)))
    assert_allclose(heads, [[1.0, 2.0]])
    assert_allclose(weights, [1.0])
    heads, weights = head_nodes([1.0, 2.0], np.ones((2, 2)))
    assert heads.shape == (3, 2)
    assert_allclose(weights @ heads, [1.0, 2.0])
