"""Population maps of linear networks against recursions of d × k matrices, written from the papers.

B is d × k, w_i the adapted head of task i with head v_i; the means over tasks are taken over a
finite set of heads, so that both sides are exact. Rounding alone separates them.
"""

import numpy as np
import pytest

from solvers import Experiment
from solvers.linear import subspace_distance

D, K, M = 9, 3, 2
A, BETA = 0.3, 0.02
HEADS = np.array([[1.2, 0.3], [-0.9, 0.8], [-0.6, -0.7], [0.4, -0.5]])
TEACHER = np.eye(D)[:, :M]


def start(rng):
    """BᵀB near I/a and a small head: farther away first-order MAML diverges."""
    basis, _ = np.linalg.qr(rng.standard_normal((D, K)))
    return 0.9 * basis / np.sqrt(A), 0.01 * rng.standard_normal(K)


def gradients(B, w, v):
    """½‖Bw − B*v‖² by B and by w."""
    residual = B @ w - TEACHER @ v
    return np.outer(residual, w), B.T @ residual


def anil(B, w, v, exact):
    adapted = w - A * gradients(B, w, v)[1]
    by_B, by_w = gradients(B, adapted, v)
    if not exact:
        return by_B, by_w
    residual = B @ w - TEACHER @ v
    by_B = by_B - A * (np.outer(residual, by_w) + np.outer(B @ by_w, w))
    return by_B, by_w - A * B.T @ (B @ by_w)


def maml(B, w, v, exact):
    on_B, on_w = gradients(B, w, v)
    moved, adapted = B - A * on_B, w - A * on_w
    by_B, by_w = gradients(moved, adapted, v)
    if not exact:
        return by_B, by_w
    residual = B @ w - TEACHER @ v
    through = by_B @ w + B @ by_w  # derivative of the inner gradients' residual
    new_B = by_B - A * (np.outer(residual, by_w) + np.outer(through, w))
    return new_B, by_w - A * (by_B.T @ residual + B.T @ through)


RULES = {
    "average-risk": ({"name": "average-risk"}, lambda B, w, v: gradients(B, w, v)),
    "anil first": ({"name": "anil", "inner_rate": A}, lambda B, w, v: anil(B, w, v, False)),
    "anil exact": (
        {"name": "anil", "order": "exact", "inner_rate": A}, lambda B, w, v: anil(B, w, v, True),
    ),
    "maml first": (
        {"name": "maml", "inner_rate": A, "support_ratio": np.inf},
        lambda B, w, v: maml(B, w, v, False),
    ),
    "maml exact": (
        {"name": "maml", "order": "exact", "inner_rate": A, "support_ratio": np.inf},
        lambda B, w, v: maml(B, w, v, True),
    ),
}  # fmt: skip


def experiment(rule, B, w, steps=1, **tasks):
    Q, R = B.T @ B, B.T @ TEACHER
    return Experiment(
        model={"activation": "linear", "hidden": K, "teacher_hidden": M},
        tasks=tasks or {"heads": HEADS.tolist()},
        rule={**rule, "regime": "population", "outer_rate": BETA, "head_rate": BETA},
        initial={"w": w.tolist(), "Q": Q.tolist(), "R": R.tolist()},
        integrate={"time": steps},
    )


@pytest.mark.parametrize("name", RULES)
def test_thousands_of_steps_agree(name, rng):
    rule, step = RULES[name]
    B, w = start(rng)
    e = experiment(rule, B, w)
    y, p = e.initial_state(), e.parameters
    for count in range(2001):
        if count % 250 == 0:
            Q, R, head = e.layout.unpack(y)
            for ours, theirs in ((Q, B.T @ B), (R, B.T @ TEACHER), (head, w)):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
        both = [step(B, w, v) for v in HEADS]
        B = B - BETA * np.mean([g for g, _ in both], axis=0)
        w = w - BETA * np.mean([g for _, g in both], axis=0)
        y = y + e.compiled.rhs(y, p)


def second_moment_of_adapted(B, w, S, m, noise):
    """E[w_i w_iᵀ] over centred tasks and supports of m examples (Yüksel et al., the recursion)."""
    V = TEACHER @ S @ TEACHER.T + B @ np.outer(w, w) @ B.T
    cross = np.outer(w, w) @ B.T @ B
    spread = (m + 1) / m * V + (np.trace(V) + noise) / m * np.eye(D)
    return np.outer(w, w) - A * (cross + cross.T) + A**2 * B.T @ spread @ B


def test_finite_support_agrees_with_the_matrix_recursion(rng):
    S, noise, m = np.array([[1.0, 0.3], [0.3, 0.5]]), 0.7, 6
    B, w = start(rng)
    e = experiment(
        {"name": "anil", "inner_rate": A, "support": m}, B, w,
        head_mean=0.0, head_covariance=S.tolist(), label_noise=np.sqrt(noise),
    )  # fmt: skip
    y, p = e.initial_state(), e.parameters
    for count in range(3001):
        if count % 500 == 0:
            Q, R, head = e.layout.unpack(y)
            for ours, theirs in ((Q, B.T @ B), (R, B.T @ TEACHER), (head, w)):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
        moment = second_moment_of_adapted(B, w, S, m, noise)
        mean = w - A * B.T @ (B @ w)
        with_task = A * S @ TEACHER.T @ B  # E[v w_iᵀ]
        B, w = (
            B - BETA * (B @ moment - TEACHER @ with_task),
            w - BETA * B.T @ (B @ mean),
        )
        y = y + e.compiled.rhs(y, p)


@pytest.mark.parametrize("m", [1, 3, 10])
def test_moments_of_the_adapted_head_by_sampling(m, rng):
    S, noise = np.array([[1.0, 0.3], [0.3, 0.5]]), 0.7
    B, w = start(rng)
    runs = 200_000
    x = rng.standard_normal((runs, m, D))
    theta = rng.standard_normal((runs, M)) @ np.linalg.cholesky(S).T @ TEACHER.T
    y = np.einsum("rpd,rd->rp", x, theta) + np.sqrt(noise) * rng.standard_normal((runs, m))
    residual = y - x @ (B @ w)
    adapted = w + A / m * np.einsum("rp,rpd->rd", residual, x) @ B
    products = adapted[:, :, None] * adapted[:, None, :]
    error = products.std(axis=0) / np.sqrt(runs)
    z = (products.mean(axis=0) - second_moment_of_adapted(B, w, S, m, noise)) / error
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("width", [2, 3])
def test_the_distance_is_the_largest_principal_angle(width, rng):
    B = rng.standard_normal((D, width))
    teacher = rng.standard_normal((D, M))
    basis, _ = np.linalg.qr(B)
    own, _ = np.linalg.qr(teacher)
    expected = np.linalg.norm(own - basis @ (basis.T @ own), 2)
    found = subspace_distance(B.T @ B, B.T @ teacher, teacher.T @ teacher)
    assert found == pytest.approx(expected, abs=1e-12)
