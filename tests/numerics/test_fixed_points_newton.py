"""Roots of small systems whose zeros are known."""

import numpy as np
import pytest

from solvers.stability.newton import find_root
from solvers.stability.problem import SignedPermutation, invariant_basis
from theory.errors import DomainError


def circle_and_line(x):
    return np.array([x[0] ** 2 + x[1] ** 2 - 4, x[0] - x[1]])


def circle_and_line_jacobian(x):
    return np.array([[2 * x[0], 2 * x[1]], [1.0, -1.0]])


def test_a_regular_zero_is_found_to_rounding_from_far():
    for start in ([1.0, 0.1], [30.0, -7.0], [0.01, 5.0]):
        root = find_root(circle_and_line, circle_and_line_jacobian, np.array(start))
        assert root.converged
        assert root.residual < 1e-14
        np.testing.assert_allclose(np.abs(root.x), np.sqrt(2), rtol=1e-14)


def test_deflation_finds_every_zero_from_one_start():
    start, known = np.array([1.0, 0.1]), []
    for _ in range(2):
        root = find_root(circle_and_line, circle_and_line_jacobian, start, known=known)
        assert root.converged
        known.append(root.x)
    np.testing.assert_allclose(known[0], -known[1], rtol=1e-12)


@pytest.mark.parametrize("known", [(), (np.zeros(2),)])
def test_where_there_is_no_jacobian_there_is_no_root(known):
    def nowhere(x):
        raise DomainError("a correlation beyond ±1")

    for jacobian in (nowhere, lambda x: np.full((2, 2), np.nan)):
        root = find_root(circle_and_line, jacobian, np.array([1.0, 0.1]), known=known)
        assert not root.converged


def test_a_manifold_of_zeros_is_reached_at_its_nearest_point():
    root = find_root(
        lambda x: np.array([x[0] ** 2 + x[1] ** 2 - 1, 0.0]),
        lambda x: np.array([[2 * x[0], 2 * x[1]], [0.0, 0.0]]),
        np.array([3.0, 4.0]),
    )
    assert root.converged
    np.testing.assert_allclose(root.x, [0.6, 0.8], rtol=1e-10)


def test_steps_out_of_the_domain_are_rejected_and_no_zero_is_no_success():
    def logarithm(x):
        return np.log(x) if x[0] > 0 else np.array([np.nan])

    root = find_root(logarithm, lambda x: np.array([1 / x]), np.array([20.0]))
    assert root.converged
    assert abs(root.x[0] - 1) < 1e-12
    assert not find_root(lambda x: x**2 + 1, lambda x: np.array([2 * x]), np.array([0.7])).converged


def test_invariant_vectors_of_signed_permutations():
    swap = SignedPermutation(np.array([1, 0, 2, 3]), np.array([1.0, 1.0, 1.0, 1.0]))
    flip = SignedPermutation(np.array([0, 1, 3, 2]), np.array([1.0, 1.0, -1.0, -1.0]))
    odd = SignedPermutation(np.array([0, 1, 2, 3]), np.array([1.0, 1.0, -1.0, 1.0]))
    basis = invariant_basis([swap, flip], 4)
    assert basis.shape == (4, 2)
    for g in (swap, flip):
        np.testing.assert_array_equal(g(basis), basis)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-15)
    assert invariant_basis([swap, odd], 4).shape == (4, 2)
