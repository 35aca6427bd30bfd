"""The networks that rules run on: fields against vectors, total derivatives against differences."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import erf

from solvers.simulation.closed_averages import (
    Averages,
    erf_moments,
    linear_moments,
    quadrature_moments,
    relu_moments,
)
from solvers.simulation.network import FieldNetwork, Inputs, Limit, Sample, TaskData, outer_descent
from theory.rules import Anil, FrozenRepresentation, Maml
from theory.rules.base import MetaRule

K, M, N, P, V = 3, 2, 12, 4, 2
E = P + V
BLOCKS = (slice(0, 5), slice(5, N))
VARIANCE = np.array([0.4, 1.5])
SCALE = np.repeat(np.sqrt(VARIANCE), [5, 7])


class Erf:
    name = "erf"

    def g(self, x):
        return erf(x / np.sqrt(2))

    def dg(self, x, order=1):
        slope = np.sqrt(2 / np.pi) * np.exp(-x * x / 2)
        return slope if order == 1 else -x * slope


@dataclass(frozen=True, kw_only=True)
class RidgeHead(MetaRule):
    """A head fitted with ridge, after one step on the representation."""

    name = "ridge"

    def adapt(self, network, task):
        moved = network.descend(task.support, head=0.2, representation=0.7)
        return moved.fit_head(task.support, ridge=0.3)


class Setup:
    """One task at finite N, and the query loss as a plain function of (J, w)."""

    def __init__(self, rng, infinite=False, reach=1.0, samples=P):
        self.X = rng.standard_normal((E, N)) * SCALE
        self.B, self.u = rng.standard_normal((M, N)), rng.standard_normal(M)
        self.J, self.w = rng.standard_normal((K, N)), rng.standard_normal(K)
        self.y = rng.standard_normal(E)
        self.reach, self.infinite, self.samples = reach, infinite, samples

    def network(self, J, w):
        parts = [self.X[:, b] @ np.vstack([J, self.B])[:, b].T for b in BLOCKS]
        x = np.stack(parts) / np.sqrt(N)
        V_ = np.vstack([J, self.B])
        C = np.stack([V_[:, b] @ V_[:, b].T for b in BLOCKS]) / N
        support = Limit() if self.infinite else Sample(slice(0, self.samples))
        task = TaskData(
            self.u, x[..., K:], self.y, support, Sample(slice(P, E)),
            Inputs(self.X / np.sqrt(N), BLOCKS), VARIANCE, self.reach,
        )  # fmt: skip
        return FieldNetwork(Erf(), erf_moments, task, x[..., :K], w, C)

    def loss(self, rule, J, w):
        """½ mean (y − f)² on the query, with the inner loop written out on vectors."""
        adapted = rule.adapt(self.network(J, w), self.network(J, w).task)
        query = adapted.fields(Sample(slice(P, E)))
        return 0.5 * np.mean((self.y[P:] - Erf().g(query) @ adapted.head) ** 2)

    def descent(self, rule):
        """−∂loss/∂J and −∂loss/∂w by the backward pass."""
        down, _ = outer_descent(rule, self.network(self.J, self.w))
        on_J = np.zeros((K, N))
        for i, block in enumerate(BLOCKS):
            part = down.h[min(i, down.h.shape[0] - 1)]
            on_J[:, block] += part.T @ self.X[:, block] / np.sqrt(N)
            if down.C is not None:
                A, D = down.of_overlaps(K)
                on_J[:, block] += (A[i] @ self.J[:, block] + D[i] @ self.B[:, block]) / N
        return on_J, down.w

    def differences(self, rule, step=1e-5):
        def slope(x, f):
            out = np.zeros(x.shape)
            for at in np.ndindex(x.shape):
                move = np.zeros(x.shape)
                move[at] = step
                out[at] = -(f(x + move) - f(x - move)) / (2 * step)
            return out

        return (
            slope(self.J, lambda J: self.loss(rule, J, self.w)),
            slope(self.w, lambda w: self.loss(rule, self.J, w)),
        )


RULES = [
    Anil(outer_rate=1, inner_rate=0.8, inner_steps=3, order="exact", support=P),
    Maml(
        outer_rate=1,
        inner_rate=0.8,
        representation_rate=1.5,
        inner_steps=2,
        order="exact",
        support=P,
    ),
    FrozenRepresentation(outer_rate=1, order="exact", support=P),
    RidgeHead(outer_rate=1, order="exact", support=P),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("infinite", [False, True])
def test_the_total_derivative_is_that_of_the_loss(rule, infinite, rng):
    if infinite and rule.name == "ridge":
        rule = dataclasses.replace(rule, support=np.inf)
    setup = Setup(rng, infinite, reach=1.0 if infinite else N)
    for ours, theirs in zip(setup.descent(rule), setup.differences(rule), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-8 * np.abs(theirs).max() + 1e-9)


def test_the_total_derivative_of_an_underdetermined_fit(rng):
    """With P < K the fitted head has least norm, and its derivative that of a pseudoinverse."""
    rule = FrozenRepresentation(outer_rate=1, order="exact", support=2)
    setup = Setup(rng, samples=2)
    for ours, theirs in zip(setup.descent(rule), setup.differences(rule), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max() + 1e-9)


def test_an_inner_step_on_fields_is_the_step_on_vectors(rng):
    """J' = J + (η√N/P) Σ c ξ and w' = w + (η_h/P) Σ Δ g, written out on N coordinates."""
    setup, eta, eta_h = Setup(rng, reach=N), 0.7, 0.4
    network = setup.network(setup.J, setup.w)
    moved = network.descend(Sample(slice(0, P)), head=eta_h, representation=eta)
    g = Erf()
    J, w, X = setup.J.copy(), setup.w.copy(), setup.X
    for p in range(P):
        h = setup.J @ X[p] / np.sqrt(N)
        delta = setup.y[p] - setup.w @ g.g(h)
        J += eta * np.sqrt(N) / P * np.outer(delta * setup.w * g.dg(h), X[p])
        w += eta_h / P * delta * g.g(h)
    np.testing.assert_allclose(moved.head, w, rtol=1e-13)
    np.testing.assert_allclose(
        moved.fields(Sample(slice(0, E))), X @ J.T / np.sqrt(N), rtol=0, atol=1e-12
    )


def test_a_population_step_moves_the_overlaps_with_the_vectors(rng):
    setup = Setup(rng, infinite=True)
    network = setup.network(setup.J, setup.w)
    moved = network.descend(Limit(), head=0.3, representation=0.6)
    A, D = network.averages.pull_of_representation
    J = setup.J.copy()
    for i, block in enumerate(BLOCKS):
        J[:, block] -= 0.6 * VARIANCE[i] * (A @ J[:, block] + D @ setup.B[:, block])
    fresh = setup.network(J, moved.head)
    assert moved.C is not None
    assert fresh.C is not None
    np.testing.assert_allclose(moved.C, fresh.C, atol=1e-13)
    np.testing.assert_allclose(moved.h, fresh.h, atol=1e-13)


def test_the_slopes_of_the_closed_loss_are_its_derivatives(rng):
    """e = ∂ε/∂w, and ∂ε/∂J = (A J + D B)/N, by differences of ε = ½ Σ s s E[g g]."""
    J, B = rng.standard_normal((K, N)), rng.standard_normal((M, N))
    w, u, one = rng.standard_normal(K), rng.standard_normal(M), np.ones(1)

    def averages(J, w):
        rows = np.vstack([J, B])
        return Averages(erf_moments, w, u, rows @ rows.T[None] / N, one)

    def loss(J, w):
        a = averages(J, w)
        return 0.5 * a.s @ a.moment(0, 0) @ a.s

    here, step = averages(J, w), 1e-5
    A, D = here.pull_of_representation
    for at in np.ndindex(J.shape):
        move = np.zeros(J.shape)
        move[at] = step
        slope = (loss(J + move, w) - loss(J - move, w)) / (2 * step)
        assert slope == pytest.approx(((A @ J + D @ B) / N)[at], abs=1e-9)
    for k in range(K):
        move = step * np.eye(K)[k]
        slope = (loss(J, w + move) - loss(J, w - move)) / (2 * step)
        assert slope == pytest.approx(here.pull_of_head[k], abs=1e-9)


ORDERS = [(0, 0), (1, 1), (2, 0), (0, 2), (2, 2), (3, 1), (1, 3), (4, 0)]


@pytest.mark.parametrize(("a", "b"), ORDERS)
def test_pair_moments_agree_with_quadrature(a, b, rng):
    class Smooth:
        def g(self, x):
            return erf(x / np.sqrt(2))

        def dg(self, x, order):
            hermite = np.polynomial.hermite_e.hermeval(x, np.eye(order)[order - 1])
            return (-1) ** (order - 1) * hermite * np.sqrt(2 / np.pi) * np.exp(-x * x / 2)

    root = 0.4 * rng.standard_normal((4, 4))
    C = root @ root.T
    expected = quadrature_moments(Smooth(), a, b, C)
    np.testing.assert_allclose(erf_moments(a, b, C), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("a", "b"), ORDERS)
def test_linear_pair_moments(a, b, rng):
    class Linear:
        def g(self, x):
            return x

        def dg(self, x, order):
            return np.full_like(x, float(order == 1))

    root = rng.standard_normal((4, 4))
    C = root @ root.T
    np.testing.assert_allclose(
        linear_moments(a, b, C), quadrature_moments(Linear(), a, b, C), rtol=0, atol=1e-12
    )


def test_relu_pair_moments(rng):
    """(0, 0) and (1, 1) by Monte-Carlo within 4 standard errors, the others by differences."""
    root = rng.standard_normal((3, 3))
    C = root @ root.T
    x = rng.standard_normal((400_000, 3)) @ root.T
    for order, values in ((0, np.maximum(x, 0.0)), (1, (x > 0).astype(float))):
        samples = values[:, :, None] * values[:, None, :]
        error = samples.std(0) / np.sqrt(len(x))
        assert np.all(np.abs(samples.mean(0) - relu_moments(order, order, C)) < 4 * error + 1e-9)

    def slope(a, b, i, j, step=1e-6):
        """∂E/∂C_ij at fixed diagonal, or ∂E/∂C_ii as it stands in row i."""
        move = np.zeros((3, 3))
        move[i, j] = move[j, i] = step
        up, down = relu_moments(a, b, C + move), relu_moments(a, b, C - move)
        return (up - down) / (2 * step)

    assert slope(0, 0, 0, 1)[0, 1] == pytest.approx(relu_moments(1, 1, C)[0, 1], rel=1e-6)
    assert 2 * slope(0, 0, 0, 0)[0, 1] == pytest.approx(relu_moments(2, 0, C)[0, 1], rel=1e-6)
