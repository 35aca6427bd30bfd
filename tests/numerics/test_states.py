"""Alignments, labels and the equivalence of states, against their definitions read literally."""

from itertools import permutations, product

import numpy as np
import pytest

from solvers.states import LABELS, canonical, cosines, equivalent, fields, label, specialization
from theory.overlaps import Layout


def drawn(rng, K, M, N=60):
    J, B = rng.standard_normal((K, N)), rng.standard_normal((M, N))
    return J @ J.T / N, J @ B.T / N, B @ B.T / N, rng.standard_normal(K)


def relabelled(Q, R, w, order, sign, parity=-1):
    order, sign = np.array(order), np.array(sign)
    head = w[order] * (sign if parity < 0 else 1)
    return Q[np.ix_(order, order)] * np.outer(sign, sign), R[order] * sign[:, None], head


def by_definition(Q, R, T):
    """The specialization by trying every assignment."""
    K, M = R.shape
    rho = np.abs(R) / np.sqrt(np.outer(np.diag(Q), np.diag(T)))
    size = min(K, M)
    tries = [
        list(zip(rows, columns, strict=True))
        for rows in permutations(range(K), size)
        for columns in permutations(range(M), size)
    ]
    best = max(tries, key=lambda pairs: sum(rho[pair] for pair in pairs))
    others = [rho[k, n] for k, m in best for n in range(M) if n != m]
    return np.mean([rho[pair] for pair in best]) - (np.mean(others) if others else 0)


@pytest.mark.parametrize(("K", "M"), [(1, 1), (2, 2), (3, 2), (2, 3), (4, 4), (3, 1)])
def test_specialization_is_its_definition(K, M, rng):
    for _ in range(5):
        Q, R, T, _ = drawn(rng, K, M)
        assert specialization(Q, R, T) == pytest.approx(by_definition(Q, R, T), abs=1e-15)


def test_specialization_is_null_if_a_norm_vanishes():
    assert specialization(np.diag([1.0, 0.0]), np.zeros((2, 2)), np.eye(2)) is None
    assert specialization(np.eye(2), np.zeros((2, 2)), np.diag([1.0, 0.0])) is None


def test_cosines_are_correlations(rng):
    N = 50
    J, B = rng.standard_normal((3, N)), rng.standard_normal((2, N))
    expected = (J / np.linalg.norm(J, axis=1)[:, None]) @ (B / np.linalg.norm(B, axis=1)[:, None]).T
    np.testing.assert_allclose(cosines(J @ J.T / N, J @ B.T / N, B @ B.T / N), expected, rtol=1e-13)


def test_structured_inputs_count_by_the_field_covariance(rng):
    Q, R, T = rng.random((2, 3, 3)), rng.random((2, 3, 2)), rng.random((2, 2, 2))
    parameters = {"variance": np.array([0.3, 1.7]), "T": T}
    found = fields(Q, R, parameters, Layout(3, 2, 2))
    for X, Y in zip((Q, R, T), found, strict=True):
        np.testing.assert_allclose(0.3 * X[0] + 1.7 * X[1], Y, rtol=1e-14)


LABELLED = [
    ("diverged", 2e6 * np.eye(2), np.eye(2), 0.0),
    ("diverged", np.full((2, 2), np.nan), np.eye(2), 0.0),
    ("unresolved", np.eye(2), np.eye(2), 0.0101),
    ("unlearned", np.eye(2), np.full((2, 2), 0.0999), 0.0),
    ("unlearned", np.zeros((2, 2)), np.zeros((2, 2)), 0.0),
    ("symmetric", np.eye(2), np.array([[0.5, 0.41], [0.41, 0.5]]), 0.0),
    ("partially-specialized", np.eye(2), np.array([[0.5, 0.39], [0.39, 0.5]]), 0.0),
    ("partially-specialized", np.eye(2), np.array([[0.8, 0.11], [0.11, 0.8]]), 0.0),
    ("specialized", np.eye(2), np.array([[-0.1, 0.81], [0.81, 0.1]]), 0.0099),
]


@pytest.mark.parametrize(("expected", "Q", "R", "change"), LABELLED)
def test_labels(expected, Q, R, change):
    assert expected in LABELS
    assert label(Q, R, np.eye(2), change) == expected


@pytest.mark.parametrize("parity", [-1, 0, 1])
def test_relabelled_states_are_equivalent(parity, rng):
    Q, R, _, w = drawn(rng, 3, 2)
    signs = product((1, -1), repeat=3) if parity else [(1, 1, 1)]
    for order, sign in product(permutations(range(3)), signs):
        other = relabelled(Q, R, w, order, sign, parity)
        assert equivalent((Q, R, w), other, parity)
        for ours, theirs in zip(canonical(Q, R, w, parity), canonical(*other, parity), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_states_that_differ_are_not_equivalent(rng):
    Q, R, _, w = drawn(rng, 3, 2)
    for part in range(3):
        state = [Q.copy(), R.copy(), w.copy()]
        state[part].flat[0] += 1e-6
        assert not equivalent((Q, R, w), tuple(state))
    flipped = relabelled(Q, R, w, (0, 1, 2), (1, -1, 1))
    assert not equivalent((Q, R, w), (flipped[0], flipped[1], w))
    assert not equivalent((Q, R, w), flipped, parity=0)


def test_units_alike_but_for_their_overlaps_are_told_apart():
    """Equal norms, R and w; a ring of overlaps between the units against two separate pairs."""
    ring, pairs = np.eye(4), np.eye(4)
    for k, l in ((0, 1), (1, 2), (2, 3), (3, 0)):
        ring[k, l] = ring[l, k] = 0.1
    for k, l in ((0, 2), (2, 1), (1, 3), (3, 0)):
        pairs[k, l] = pairs[l, k] = 0.1
    R, w = np.full((4, 2), 0.2), np.ones(4)
    assert equivalent((ring, R, w), (pairs, R, w))
    pairs[0, 2] = pairs[2, 0] = 0.0
    assert not equivalent((ring, R, w), (pairs, R, w))


def test_canonical_order_is_that_of_the_teacher():
    Q = np.diag([1.0, 2.0, 3.0])
    R = np.array([[0.1, 0.0], [0.0, -1.3], [1.7, 0.2]])
    found = canonical(Q, R, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(np.diag(found[0]), [3.0, 2.0, 1.0])
    np.testing.assert_array_equal(found[1], [[1.7, 0.2], [0.0, 1.3], [0.1, 0.0]])
    np.testing.assert_array_equal(found[2], [3.0, -2.0, 1.0])
