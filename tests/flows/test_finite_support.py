"""The noise of ANIL at finite support against Monte-Carlo of the update, and its derivatives."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import erf

from theory.activations import erf as ERF
from theory.activations import polynomial, relu
from theory.errors import NoClosedFormError
from theory.finite.finite_support import (
    Step,
    noise,
    noise_estimate,
    noise_jacobian,
)
from theory.finite.lattice import task_nodes

K, M = 3, 2
ROOT = np.array(
    [
        [0.7, 0.1, 0.0, 0.2, 0.1],
        [0.1, 0.6, 0.2, -0.1, 0.1],
        [-0.3, 0.2, 0.8, 0.1, -0.2],
        [0.4, -0.2, 0.3, 0.8, 0.2],
        [-0.2, 0.5, 0.1, 0.1, 0.7],
    ]
)
C = ROOT @ ROOT.T
W = np.array([-0.6, 0.4, 0.9])
MEAN, SPREAD = np.array([1.1, -0.6]), np.array([[0.7, -0.2], [-0.2, 1.3]])
HEADS = task_nodes(MEAN, SPREAD)
SIGMA = 0.4

# Reference values of S, upper triangle, relative accuracy 1e-5: V = 2, η = 0.8, σ = 0.3, K = M = 2.
REFERENCE = {
    ("first", 1): [[0.3424189724955421, -0.0486965079679513], [0, 0.2842153856387083]],
    ("first", 4): [[0.1927432223257345, -0.0812874864718510], [0, 0.1119502288885974]],
    ("exact", 1): [[0.5466719687942383, -0.0055590358014691], [0, 0.5210976271892693]],
    ("exact", 4): [[0.2392095444030051, -0.0736537356620200], [0, 0.1646802056881437]],
}


def reference_state() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    Q, R = [[0.339, 0.09], [0.09, 0.483]], np.array([[0.02, 0.009], [-0.074, -0.135]])
    covariance = np.block([[np.array(Q), R], [R.T, np.array([[0.969, 0.156], [0.156, 0.91]])]])
    heads = task_nodes([1.706, -0.875], [[0.757, -0.233], [-0.233, 2.062]])
    return covariance, np.array([-0.618, 0.391]), heads


def step(
    order: str, P: int, V: int = 1, T_b: int = 1, *, sigma: float = SIGMA, closure: bool = False
) -> Step:
    return Step(
        inner_rate=0.8, label_noise=sigma, support=P, query=V, tasks_per_step=T_b, order=order,
        closure=closure,
    )  # fmt: skip


def slope(x: np.ndarray) -> np.ndarray:
    return np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)


def outer_loss(
    support: np.ndarray, query: np.ndarray, u: np.ndarray, nu: np.ndarray, rule: Step,
    frozen: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Query loss of one task after its inner step, as a function of all its fields.

    Fields (samples, examples, K+M); ``frozen``: the displacement of the head, held constant.
    """
    P = support.shape[1]
    G = erf(support / np.sqrt(2))
    if frozen is None:
        e = np.einsum("spm,sm->sp", G[..., K:], u) + SIGMA * nu[:, :P] - G[..., :K] @ W
        frozen = rule.inner_rate / P * np.einsum("sp,spk->sk", e, G[..., :K])
    G = erf(query / np.sqrt(2))
    delta = np.einsum("svm,sm->sv", G[..., K:], u) + SIGMA * nu[:, P:]
    delta = delta - np.einsum("svk,sk->sv", G[..., :K], W + frozen)
    return 0.5 * (delta**2).mean(axis=1)


def coefficients(x: np.ndarray, u: np.ndarray, nu: np.ndarray, rule: Step) -> np.ndarray:
    """c_k = −∂(query loss)/∂h_k of every example, (samples, examples, K): the update itself."""
    P, V = int(rule.support), int(rule.query)
    G, D = erf(x / np.sqrt(2)), slope(x[..., :K])
    y = np.einsum("sem,sm->se", G[..., K:], u) + SIGMA * nu
    e = y[:, :P] - G[:, :P, :K] @ W
    adapted = W + rule.inner_rate / P * np.einsum("sp,spk->sk", e, G[:, :P, :K])
    delta = y[:, P:] - np.einsum("svk,sk->sv", G[:, P:, :K], adapted)
    query = delta[..., None] * D[:, P:] * adapted[:, None] / V
    descent = np.einsum("sv,svk->sk", delta, G[:, P:, :K]) / V
    back = e[..., None] * descent[:, None]
    back = back - np.einsum("sl,spl->sp", descent, G[:, :P, :K])[..., None] * W
    support = rule.inner_rate / P * D[:, :P] * back
    if rule.order == "first":
        support = 0 * support
    return np.concatenate([support, query], axis=1)


def samples(
    rule: Step, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    examples = int(rule.support + rule.query)
    x = rng.standard_normal((size, examples, K + M)) @ ROOT.T
    u = MEAN + rng.standard_normal((size, M)) @ np.linalg.cholesky(SPREAD).T
    return x, u, rng.standard_normal((size, examples))


@pytest.mark.parametrize("order", ["first", "exact"])
def test_the_monte_carlo_below_follows_the_gradient_of_the_outer_loss(order, rng):
    rule = step(order, 3, V=2)
    x, u, nu = samples(rule, 4, rng)
    c = coefficients(x, u, nu, rule)
    e = np.einsum("spm,sm->sp", erf(x[:, :3, K:] / 2**0.5), u) + SIGMA * nu[:, :3]
    g = erf(x[:, :3, :K] / 2**0.5)
    moved = rule.inner_rate / 3 * np.einsum("sp,spk->sk", e - g @ W, g)
    frozen = moved if order == "first" else None
    for example, unit in product(range(5), range(K)):
        shifted = x.astype(complex)
        shifted[:, example, unit] += 1e-40j
        loss = outer_loss(shifted[:, :3], shifted[:, 3:], u, nu, rule, frozen)
        assert_allclose(c[:, example, unit], -np.imag(loss) / 1e-40, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("order", ["first", "exact"])
@pytest.mark.parametrize(
    ("P", "V", "T_b"), [(1, 1, 1), (1, 2, 2), (3, 1, 2), (3, 2, 1), (10, 1, 1)]
)
def test_noise_is_that_of_the_microscopic_update(order, P, V, T_b, rng):
    rule = step(order, P, V, T_b)
    draws = []
    for _ in range(5):
        tasks = [
            coefficients(*samples(rule, 24_000, rng), rule) / T_b for _ in range(T_b)
        ]  # a step is a mean over tasks; different examples have orthogonal inputs
        draws.append(np.sum([np.einsum("sek,sel->skl", c, c) for c in tasks], axis=0))
    S = np.concatenate(draws)
    error = S.std(axis=0) / len(S) ** 0.5
    exact = noise(C, W, *HEADS, rule, ERF)
    assert np.all(error < 0.03 * np.abs(np.diag(exact)).max())
    assert np.abs(S.mean(axis=0) - exact).max() < 4 * error.max()
    assert np.all(np.abs(S.mean(axis=0) - exact) < 4 * error)


@pytest.mark.parametrize(("order", "P"), REFERENCE)
def test_reference_values(order, P):
    covariance, w, heads = reference_state()
    rule = step(order, P, V=2, sigma=0.3)
    S = noise(covariance, w, *heads, rule, ERF)
    expected = np.triu(REFERENCE[order, P])
    scale = np.abs(expected).max()
    # both sides err by up to 5e-6; the estimate must not hide it
    assert_allclose(np.triu(S), expected, atol=1e-5 * scale, rtol=0)
    assert_allclose(S, S.T, atol=1e-14)
    assert noise_estimate(covariance, w, *heads, rule, ERF) < 1e-5


@pytest.mark.parametrize("order", ["first", "exact"])
def test_infinite_support_is_approached_as_one_over_P(order):
    def at(P: int, order: str = order) -> np.ndarray:
        return noise(C, W, *HEADS, step(order, P), ERF)

    limit = at(10**9, "first")
    near, far = at(200) - limit, at(400) - limit
    assert_allclose(far, near / 2, rtol=0.02, atol=2e-4 * np.abs(near).max())
    # at infinite support w' = w + η(Ψu − Φw) given u: the quartic form in s' alone
    if order == "first":
        corner = np.einsum("tkl,t->kl", infinite_support(0.8), HEADS[1])
        assert_allclose(limit, corner, rtol=0, atol=1e-5 * np.abs(corner).max())


def infinite_support(eta: float) -> np.ndarray:
    """E[w'_k w'_l Δ² g'_k g'_l] for each head, by the closed forms I2 and I4 (tilt)."""

    def I2(A: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        scale = np.sqrt(1 + np.diag(A))
        return 2 / np.pi * np.arcsin((A / np.outer(scale, scale))[rows, columns])

    full = slice(None)
    correlation = I2(C, slice(0, K), full)
    result = np.zeros((len(HEADS[0]), K, K))
    for t, u in enumerate(HEADS[0]):
        w = W + eta * (correlation[:, K:] @ u - correlation[:, :K] @ W)
        s = np.concatenate([-w, u])
        for k, l in product(range(K), repeat=2):
            B, block = C[:, [k, l]], C[np.ix_([k, l], [k, l])]
            block = np.eye(2) + block
            J2 = 2 / np.pi / np.sqrt(np.linalg.det(block))
            tilted = C - B @ np.linalg.solve(block, B.T)
            result[t, k, l] = w[k] * w[l] * J2 * (s @ I2(tilted, full, full) @ s + SIGMA**2)
    return result


@pytest.mark.parametrize("order", ["first", "exact"])
@pytest.mark.parametrize("closure", [False, True])
def test_jacobian_is_the_derivative(order, closure):
    rule = step(order, 2, V=2, closure=closure)
    covariance, w, heads = reference_state()
    S, dC, dw = noise_jacobian(covariance, w, *heads, rule, ERF)
    assert_allclose(S, noise(covariance, w, *heads, rule, ERF), rtol=1e-12)
    assert_allclose(dC, np.swapaxes(dC, -1, -2), rtol=0, atol=1e-15)
    h = 1e-4
    scale = np.abs(dC).max()
    for a, b in product(range(4), repeat=2):
        E = np.zeros((4, 4))
        E[a, b] += h / 2
        E[b, a] += h / 2
        up, down = (noise(covariance + e, w, *heads, rule, ERF) for e in (E, -E))
        # differences of S carry its cubature error 1e-6 times the field's number of derivatives
        assert_allclose(dC[..., a, b], (up - down) / (2 * h), rtol=0, atol=1e-4 * scale)
    for a in range(2):
        e = 1e-4 * np.eye(2)[a]
        up, down = (noise(covariance, w + f, *heads, rule, ERF) for f in (e, -e))
        assert_allclose(dw[..., a], (up - down) / 2e-4, rtol=1e-6, atol=1e-7)


def test_singular_covariances_are_approached_smoothly():
    rule = step("exact", 2)
    covariance, w, heads = reference_state()
    B = np.eye(2)
    perfect = np.block([[B, B], [B, B]])  # Q = R = T: eigenvalues 2, 2, 0, 0
    S, dC, _ = noise_jacobian(perfect, w, *heads, rule, ERF)
    for size in (1e-3, 1e-5, 1e-7):
        near, slope_near, _ = noise_jacobian(perfect + size * covariance, w, *heads, rule, ERF)
        linear = S + size * np.einsum("klab,ab->kl", dC, covariance)
        assert_allclose(near, linear, rtol=0, atol=20 * size**2 + 1e-5 * np.abs(S).max())
        assert_allclose(slope_near, dC, rtol=0, atol=(5 * size + 1e-4) * np.abs(dC).max())


def test_relabelling_units_and_heads_relabels_the_noise():
    rule, order = step("exact", 2), [2, 0, 1]
    fields = [*order, 4, 3]
    heads, weights = HEADS
    S = noise(C, W, heads, weights, rule, ERF, budget=5000)
    C_moved, W_moved = C[np.ix_(fields, fields)], W[order]
    moved = noise(C_moved, W_moved, heads[:, ::-1], weights, rule, ERF, budget=5000)
    assert_allclose(moved, S[np.ix_(order, order)], rtol=1e-12, atol=1e-14)


def test_given_heads_are_averaged_as_they_are():
    rule = step("exact", 3)
    heads = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.1]])
    each = [noise(C, W, [u], [1.0], rule, ERF, budget=3000) for u in heads]
    together = noise(C, W, heads, np.full(3, 1 / 3), rule, ERF, budget=3000)
    assert_allclose(together, np.mean(each, axis=0), rtol=1e-12)


def test_a_smaller_budget_is_less_exact_and_says_so():
    rule = step("first", 1)
    exact = noise(C, W, *HEADS, rule, ERF)
    rough = noise(C, W, *HEADS, rule, ERF, budget=1500)
    estimate = noise_estimate(C, W, *HEADS, rule, ERF, budget=1500)
    error = np.abs(rough - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 3 * estimate


def test_linear_units_by_an_independent_count():
    """g(x) = x, K = M = 1, C = 1, w = 0, σ = 0, η = P = V = 1.

    w' = u b h, so E[w'² Δ²] = E[w'⁴] + u² E[w'²] = 9u⁴ + u⁴.
    """
    rule = Step(inner_rate=1.0, support=1)
    S = noise(np.eye(2), [0.0], [[1.3]], [1.0], rule, polynomial([0, 1]))
    assert_allclose(S, [[10 * 1.3**4]], rtol=1e-12)


# Error of the Gaussian closure in per cent of the largest entry of S, at η = V = 1, σ = 0, w = 0,
# heads u ~ N(0, 1), K = M = 2: the figures that the documentation quotes.
EARLY = np.array([[0.339, 0.09], [0.09, 0.483]]), np.array([[0.02, 0.009], [-0.074, -0.135]])
LATE = 2.0 * np.eye(2), 1.3 * np.eye(2)
CLOSURE = [
    ("first", EARLY, {1: 52.2, 3: 47.3, 10: 40.2}),
    ("first", LATE, {1: 44.7, 3: 20.9, 10: 6.6}),
    ("exact", EARLY, {1: 31.1, 3: 25.5, 10: 22.5}),
    ("exact", LATE, {1: 28.4, 3: 14.2, 10: 5.5}),
]


@pytest.mark.parametrize(("order", "overlaps", "percents"), CLOSURE)
def test_the_gaussian_closure_is_as_wrong_as_documented(order, overlaps, percents):
    Q, R = overlaps
    T = np.array([[0.969, 0.156], [0.156, 0.91]]) if overlaps is EARLY else np.eye(2)
    fields, heads = np.block([[Q, R], [R.T, T]]), task_nodes([0, 0], np.eye(2))
    for P, percent in percents.items():
        rule = Step(inner_rate=1.0, support=P, order=order)
        exact = noise(fields, [0.0, 0.0], *heads, rule, ERF)
        closed = noise(fields, [0.0, 0.0], *heads, replace(rule, closure=True), ERF)
        error = 100 * np.abs(closed - exact).max() / np.abs(exact).max()
        assert error == pytest.approx(percent, abs=0.1)


def test_a_kink_has_noise_with_an_estimate_and_no_jacobian():
    covariance, w, heads = reference_state()
    rule = step("first", 4)
    assert 1e-5 < noise_estimate(covariance, w, *heads, rule, relu) < 0.05
    with pytest.raises(NoClosedFormError, match="three derivatives"):
        noise_jacobian(covariance, w, *heads, rule, relu)


def test_steps_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match="finite"):
        Step(inner_rate=1.0, support=np.inf)
    with pytest.raises(ValueError, match="order"):
        Step(inner_rate=1.0, support=1, order="second")
