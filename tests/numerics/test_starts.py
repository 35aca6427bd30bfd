"""Symmetries of a start that the flow keeps: found exactly when they are there."""

import numpy as np
import pytest

from solvers import Experiment
from solvers.trajectories.starts import smallest_asymmetry, symmetric_start

DIAGONAL = [[0.25, 0.0], [0.0, 0.3]]
DISTINCT = [[0.01, 0.02], [0.03, 0.05]]


def explained(Q, R, w, head_mean=(1.0, 1.0), spread=0.0, T=1.0, parity=-1, heads=None):
    Q, R, w, mean = (np.array(x, float) for x in (Q, R, w, head_mean))
    M = R.shape[-1]
    T, covariance = T * np.eye(M)[None], spread * np.eye(M)
    heads = None if heads is None else np.array(heads, float)
    return symmetric_start(Q, R, w, T, mean, covariance, parity, heads)


def test_identical_units_are_interchangeable():
    sentence = explained(0.25 * np.eye(2), [[0.01, 0.02], [0.01, 0.02]], [1, 1])
    assert sentence is not None
    assert "learner units 1 and 2 are interchangeable" in sentence
    assert "teacher" not in sentence
    assert "--set 'initial.random={norm=0.5, dimension=1000, seed=0}'" in sentence


@pytest.mark.parametrize("entry", [0, 1, 2, 3, 4])
def test_the_last_bit_tells_units_apart(entry):
    Q, R, w = 0.25 * np.eye(2), np.array([[0.01, 0.02], [0.01, 0.02]]), np.ones(2)
    where = [(Q, (0, 0)), (R, (0, 0)), (R, (1, 1)), (w, 0), (w, 1)][entry]
    where[0][where[1]] = np.nextafter(where[0][where[1]], 9)
    assert explained(Q, R, w) is None


def test_a_simultaneous_relabelling_does_not_stop_specialization():
    assert explained(0.25 * np.eye(2), [[0.02, 0.01], [0.01, 0.02]], [1, 1]) is None


def test_mirror_images_are_interchangeable_for_odd_activations():
    Q, R, w = 0.25 * np.eye(2), [[0.01, 0.02], [-0.01, -0.02]], [1, -1]
    assert explained(Q, R, w) is not None
    assert explained(Q, R, w, parity=0) is None
    assert explained(Q, R, [1, 1]) is None
    assert explained(Q, R, [1, 1], parity=1) is not None


def test_a_unit_without_overlap_and_head_keeps_no_sign():
    sentence = explained(DIAGONAL, [[0, 0], [0.01, 0.02]], [0, 1])
    assert sentence is not None
    assert "changing the sign of learner unit 1 leaves it as it is" in sentence
    assert explained([[0.25, 0.1], [0.1, 0.3]], [[0, 0], [0.01, 0.02]], [0, 1]) is None
    assert explained(DIAGONAL, [[0, 0], [0.01, 0.02]], [0.1, 1]) is None


def test_equal_columns_leave_teacher_units_interchangeable():
    sentence = explained(DIAGONAL, [[0.01, 0.01], [0.03, 0.03]], [1, 1])
    assert sentence is not None
    assert "teacher units 1 and 2 are interchangeable" in sentence
    assert explained(DIAGONAL, [[0.01, 0.01], [0.03, 0.03]], [1, 1], head_mean=(1, 2)) is None


def test_without_overlap_and_mean_the_sign_of_the_teacher_is_lost():
    zero = [[0, 0], [0, 0]]
    assert "changing the sign of teacher" in str(explained(DIAGONAL, zero, [1, 2], (0, 0), 1.0))
    assert explained(DIAGONAL, DISTINCT, [1, 2], (0, 0), 1.0) is None
    skew = [[1.0, 2.0], [-1.0, 1.0], [0.0, -3.0]]
    assert explained(DIAGONAL, zero, [1, 2], (0, 0), 1.0, heads=skew) is None
    even = [[1.0, 2.0], [-1.0, 2.0], [1.0, -2.0], [-1.0, -2.0]]
    assert explained(DIAGONAL, zero, [1, 2], (0, 0), 1.0, heads=even) is not None


def test_symmetry_among_some_of_many_units():
    Q, R = np.diag([0.2, 0.3, 0.2, 0.2]), np.full((4, 3), 0.01)
    R[:, 1], R[:, 2] = 0.02, 0.03
    sentence = explained(Q, R, np.ones(4), head_mean=(1, 1, 1))
    assert "learner units 1, 3 and 4 are interchangeable" in str(sentence)


def test_draws_of_a_finite_dimension_are_not_symmetric():
    random = {"norm": 0.5, "dimension": 300, "seed": 1}
    e = Experiment.load("saad-solla").replace(**{"initial.random": random, "model.hidden": 3})
    Q, R, w = e.layout.unpack(e.initial_state())
    assert explained(Q, R, w) is None
    assert (smallest_asymmetry(Q, R, w) or 0) > 1e-6


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-12])
def test_the_smallest_asymmetry(size):
    Q, R, w = 0.25 * np.eye(2), np.full((2, 2), 0.01), np.ones(2)
    assert smallest_asymmetry(Q, R, w) == 0.01
    R[0, 0] += size
    assert smallest_asymmetry(Q, R, w) == pytest.approx(size, rel=1e-4)
    assert smallest_asymmetry(Q, 0 * R, w) is None
