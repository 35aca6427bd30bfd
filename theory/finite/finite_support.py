"""The noise S of ANIL with P support examples per task and one inner step, by cubature.

Given the head u of a task, the support examples are independent and everything is a polynomial in
the units' outputs: with s⁰ = (−w, u), e = s⁰·G(x) + σν and z = e·g(h),

    w' = w + (η/P) Σ_p z_p,   s' = (−w', u),   Δ = s'·G + σν,
    query:    c_k = Δ w'_k g'_k,
    support:  c_k = (η/P) g'_k [Γ_k e − w_k Σ_l Γ_l g_l],  Γ_l the mean over V queries of Δ g_l
              (order "exact" alone),
    S = [E(c_k c_l)_query / V + P·E(c_k c_l)_support] / T_b.

The cumulants k2, k3, k4 of z given u and the averages weighted by g'_k g'_l come from one lattice
(``theory.finite.lattice``); P, V, T_b and η enter algebraically; the average over u, of degree 4,
is a sum over given heads. Derived for this package; checked against Monte-Carlo of the update
itself. Several inner steps on one finite support do not close, and are refused when the flow
is derived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import NoClosedFormError
from theory.finite.field_moments import (
    DEGREE,
    Moments,
    Nonlinearity,
    Values,
    moments,
    moments_and_slopes,
    monomials,
    pairs,
)
from theory.finite.lattice import BUDGET, Nodes, gauss_hermite, lattice

Array = NDArray[np.float64]

COMPLEX_STEP = 1e-60


@dataclass(frozen=True, kw_only=True)
class Step:
    """One outer step: η, P, V, T_b, σ and the order of the rule, "first" or "exact".

    ``closure``: take w' given u for a Gaussian of the right mean, with the covariance averaged
    over u, and Γ for independent of the support example it multiplies. Low moments suffice, but
    the largest entry of S is then wrong by (η = V = 1, σ = 0, w = 0, u ~ N(0, 1), K = M = 2):

    | P               |  1   |  3   |  10  |  30  |
    |-----------------|------|------|------|------|
    | early, first    | 52 % | 47 % | 40 % | 28 % |
    | early, exact    | 31 % | 26 % | 22 % | 18 % |
    | trained, first  | 45 % | 21 % |  7 % |  2 % |
    | trained, exact  | 28 % | 14 % |  5 % |  2 % |

    (early: Q ≈ 0.4, R ≈ 0.1; trained: Q = 2, R = 1.3); up to 68 % at η = 2, below 2 % for heads
    near w = u0 = 1 at η ≤ 1 and P ≥ 3.
    """

    inner_rate: float
    support: float
    query: float = 1.0
    tasks_per_step: float = 1.0
    label_noise: float = 0.0
    order: str = "first"
    closure: bool = False

    def __post_init__(self) -> None:
        if self.order not in ("first", "exact"):
            raise ValueError(f"order is 'first' or 'exact', not {self.order!r}")
        if not np.isfinite(self.support) or min(self.support, self.query, self.tasks_per_step) < 1:
            raise ValueError("support must be finite; support, query, tasks_per_step at least 1")


def noise(
    C: ArrayLike, w: ArrayLike, heads: ArrayLike, weights: ArrayLike, step: Step,
    activation: Nonlinearity, *, budget: int = BUDGET,
) -> Array:  # fmt: skip
    """S (K, K) at field covariance C (n, n) and head w (K,), averaged over heads (t, M).

    ``weights`` (t,) of the heads add up to one; three Gauss–Hermite nodes per dimension of a
    Gaussian head are exact (``theory.finite.lattice.task_nodes``). Relative accuracy:
    ``noise_estimate``; 1e-5 for K + M ≤ 5 at ordinary variances. A polynomial g is integrated
    exactly.

    Raises: DomainError if C is no covariance.

    >>> from theory.activations import erf
    >>> step = Step(inner_rate=1.0, support=5)
    >>> noise([[1, 0.5], [0.5, 1]], [0.3], [[1.0]], [1.0], step, erf).round(4)
    array([[0.0147]])
    """
    w = np.asarray(w, float)
    table = moments(_nodes(C, activation, budget), activation, len(w), **_degrees(step))
    return _noise(_batch(table), w[None], heads, weights, step)[0]


def noise_estimate(
    C: ArrayLike, w: ArrayLike, heads: ArrayLike, weights: ArrayLike, step: Step,
    activation: Nonlinearity, *, budget: int = BUDGET,
) -> float:  # fmt: skip
    """Error of ``noise`` relative to its largest entry: its change on an independent lattice."""
    w = np.asarray(w, float)
    first, second = (
        _noise(
            _batch(moments(
                _nodes(C, activation, budget, check=check), activation, len(w),
                **_degrees(step),
            )),
            w[None], heads, weights, step,
        )
        for check in (False, True)
    )  # fmt: skip
    scale = np.abs(first).max()
    return float(np.abs(first - second).max() / scale) if scale > 0 else 0.0


def noise_jacobian(
    C: ArrayLike, w: ArrayLike, heads: ArrayLike, weights: ArrayLike, step: Step,
    activation: Nonlinearity, *, budget: int = BUDGET,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """S (K, K), ∂S/∂C (K, K, n, n) and ∂S/∂w (K, K, K).

    dS = Σ_ab (∂S/∂C_ab) dC_ab over all ordered entries, ∂S/∂C symmetric in a, b. By Price's
    theorem on the nodes of S (so for singular C too; the activation needs three derivatives) and
    a complex step through the polynomials that follow, which is exact. Price's integrands are
    sharper than those of S: relative accuracy 1e-5 to 1e-4 where S has 4e-6.

    Raises: DomainError if C is no covariance; NoClosedFormError if the activation has no values for
    its second or third derivative (relu).
    """
    w = np.asarray(w, float)
    K, n = len(w), len(np.asarray(C))
    try:
        activation.dg(np.zeros(1), 3)
    except ValueError as error:
        raise NoClosedFormError(
            f"the Jacobian of the noise at finite support needs three derivatives of g: {error}; "
            "integrate with a method that needs no Jacobian"
        ) from error
    value, slope = moments_and_slopes(
        _nodes(C, activation, budget), activation, K, **_degrees(step)
    )
    rows = n * (n + 1) // 2

    def along(base: Array, change: Array) -> Values:
        still = np.zeros((K, *base.shape))
        return base + 1j * COMPLEX_STEP * np.concatenate([change, still])

    table = Moments(
        {d: along(value.plain[d], slope.plain[d]) for d in value.plain},
        {d: along(value.paired[d], slope.paired[d]) for d in value.paired},
    )
    heads_along = np.concatenate([np.zeros((rows, K)), np.eye(K)])
    result = _noise(table, w + 1j * COMPLEX_STEP * heads_along, heads, weights, step)
    tangent = np.moveaxis(np.imag(result) / COMPLEX_STEP, 0, -1)
    dC = np.empty((K, K, n, n))
    a, b = np.triu_indices(n)
    dC[..., a, b] = dC[..., b, a] = tangent[..., :rows]
    return np.real(result[0]), dC, tangent[..., rows:]


def _nodes(C: ArrayLike, activation: Nonlinearity, budget: int, *, check: bool = False) -> Nodes:
    degree = _polynomial_degree(getattr(activation, "expression", None))
    if degree:  # moments of degree 8 in g, exactly if the budget allows
        count = min(4 * degree + 1, max(3, int(budget ** (1 / len(np.asarray(C))))))
        return gauss_hermite(C, count + check)
    even = bool(getattr(activation, "odd", False) or getattr(activation, "even", False))
    return lattice(C, even=even, check=check, budget=budget)


@cache
def _polynomial_degree(expression: Any) -> int:
    """The degree of a polynomial g, 0 for any other."""
    if expression is None or not expression.free_symbols:
        return 0
    import sympy

    (x,) = expression.free_symbols
    return int(sympy.degree(expression, x)) if expression.is_polynomial(x) else 0


def _degrees(step: Step) -> dict[str, int]:
    """Highest degrees of the moments that the step asks for."""
    if step.closure:
        return {"plain": 4, "paired": 2}
    return {"plain": 8, "paired": 2 if step.order == "first" else 6}


def _batch(table: Moments) -> Moments:
    return Moments(
        {d: e[None] for d, e in table.plain.items()}, {d: e[None] for d, e in table.paired.items()}
    )


class _Task:
    """Averages over one example given the head: indices b (batch), t (head), then learner units.

    At σ = 0, e^r = Σ_α powers[r]_α G^α with powers[r] (b, t, J_r).
    """

    def __init__(self, table: Moments, w: Values, heads: Array, sigma: float) -> None:
        self.table, self.sigma, self.K = table, sigma, w.shape[-1]
        batch, t = len(w), len(heads)
        self.w = np.broadcast_to(w[:, None], (batch, t, self.K))
        self.u = np.broadcast_to(heads, (batch, *heads.shape))
        self.n = self.K + heads.shape[1]
        self.index = monomials(self.n, DEGREE)
        s = np.concatenate([-self.w, self.u], axis=-1)
        powers = self.index.evaluate(np.moveaxis(s, -1, 0), range(5))
        self.powers = [np.moveaxis(powers[r], 0, -1) * self.index.multinomials[r] for r in powers]
        k, l = pairs(self.K)
        self.pair = np.empty((self.K, self.K), np.intp)
        self.pair[k, l] = self.pair[l, k] = np.arange(len(k))

    def plain(self, r: int, q: int) -> Values:
        """E[e^r g_k…] with q units, (b, t, K, …)."""
        return self._noisy(r, lambda p: self._plain(p, q))

    def paired(self, r: int, q: int) -> Values:
        """E[D_k D_l e^r g_m…] with q units after k, l: (b, t, K, K, K, …)."""
        return self._noisy(r, lambda p: self._paired(p, q))

    def _noisy(self, r: int, average: Callable[[int], Values]) -> Values:
        """E over ν of (e + σν)^r, from the averages of lower powers of e."""
        total = average(r)
        if self.sigma:
            for j, factor in {2: [(2, 1)], 3: [(2, 3)], 4: [(2, 6), (4, 3)]}.get(r, []):
                total = total + factor * self.sigma**j * average(r - j)
        return total

    def _plain(self, r: int, q: int) -> Values:
        places = self.index.tensor(r, self.K, q)
        values = self.table.plain[r + q][:, places.reshape(len(places), -1)]
        return (self.powers[r] @ values).reshape(*self.w.shape[:2], *[self.K] * q)

    def _paired(self, r: int, q: int) -> Values:
        places = self.index.tensor(r, self.K, q)
        values = self.table.paired[r + q][:, :, places.reshape(len(places), -1)]
        values = self.powers[r][:, None] @ values  # (b, pairs, t, …)
        values = np.moveaxis(values[:, self.pair], 3, 1)
        return values.reshape(*self.w.shape[:2], self.K, self.K, *[self.K] * q)

    def fields(self, rank: int) -> Values:
        """E[g_k g_l … G_c G_d …] with ``rank`` learner units and two fields: (b, K, …, n, n).

        Rank 0 gives E[D_k D_l G_c G_d], (b, K, K, n, n).
        """
        two = self.index.raised[1][self.index.raised[0][0]]  # (n, n)
        if rank == 0:
            return self.table.paired[2][:, self.pair][..., two]
        for d in range(2, 2 + rank):
            two = self.index.raised[d][two][..., : self.K]
        values = self.table.plain[2 + rank][:, two]
        return np.moveaxis(values, (1, 2), (-2, -1))


def _noise(table: Moments, w: Values, heads: ArrayLike, weights: ArrayLike, step: Step) -> Values:
    """S (b, K, K) from the moments and the head w (b, K)."""
    heads, weights = np.asarray(heads, float), np.asarray(weights, float)
    task = _Task(table, w, heads, step.label_noise)
    z = _cumulants(task, weights, step)
    total = _query(task, z, step) / step.query
    if step.order == "exact":
        total = total + _support(task, z, step)
    return np.einsum("btkl,t->bkl", total, weights) / step.tasks_per_step


def _cumulants(task: _Task, weights: Array, step: Step) -> list[Values]:
    """Mean and cumulants of z = e·g(h) given the head, (b, t, K), (b, t, K, K), …

    With the closure the covariance is its mean over heads, and the third and fourth vanish.
    """
    k1 = task.plain(1, 1)
    k2 = task.plain(2, 2) - _outer(k1, k1)
    if step.closure:
        return [k1, np.broadcast_to(np.einsum("btkl,t->bkl", k2, weights)[:, None], k2.shape)]
    k3 = task.plain(3, 3) - _deal(k1, k2) - _outer(k1, _outer(k1, k1))
    k1k1 = _outer(k1, k1)
    k4 = task.plain(4, 4) - _deal(k1, k3) - _deal(k2, k2) / 2 - _deal(k1k1, k2)
    return [k1, k2, k3, k4 - _outer(k1k1, k1k1)]


def _outer(a: Values, b: Values) -> Values:
    """a_k… b_l…, heads and batch in common."""
    tail_a, tail_b = a.shape[2:], b.shape[2:]
    return a.reshape(*a.shape, *[1] * len(tail_b)) * b.reshape(
        *b.shape[:2], *[1] * len(tail_a), *tail_b
    )


def _deal(a: Values, b: Values) -> Values:
    """Σ of a ⊗ b over all ways to deal the indices to a and b."""
    p, product = a.ndim - 2, _outer(a, b)
    rank = product.ndim - 2
    total = np.zeros_like(product)
    for chosen in combinations(range(rank), p):
        rest = [i for i in range(rank) if i not in chosen]
        total += np.moveaxis(product, range(2, 2 + rank), [2 + i for i in (*chosen, *rest)])
    return total


def _query(task: _Task, z: list[Values], step: Step) -> Values:
    """E[w'_k w'_l (s'ᵀ I4^{kl} s' + σ² J2_kl)] given the head, (b, t, K, K).

    w' = v + ζ with cumulants c2, c3, c4 of ζ; the bracket is q0 + q1·ζ + ζᵀ q2 ζ.
    """
    K, eta, P = task.K, step.inner_rate, step.support
    v = task.w + eta * z[0]
    s = np.concatenate([-v, task.u], axis=-1)
    I4 = task.fields(0)
    J2 = task.table.paired[0][:, task.pair, 0]
    I4s = np.einsum("bklcd,btd->btklc", I4, s)
    q0 = np.einsum("btklc,btc->btkl", I4s, s) + step.label_noise**2 * J2[:, None]
    q1, q2 = -2 * I4s[..., :K], I4[..., :K, :K]
    c2 = eta**2 / P * z[1]
    q2c2 = np.einsum("bklcd,btmd->btklcm", q2, c2)
    vv = _outer(v, v)
    total = vv * (q0 + np.einsum("btklcc->btkl", q2c2)) + q0 * c2
    total = total + c2 * np.einsum("btklcc->btkl", q2c2)
    total = total + 2 * np.einsum("btklcl,btck->btkl", q2c2, c2)
    cross = np.einsum("btklc,btcl->btkl", q1, c2)
    if len(z) > 2:
        c3, c4 = eta**3 / P**2 * z[2], eta**4 / P**3 * z[3]
        cross = cross + np.einsum("bklcd,btcdl->btkl", q2, c3)
        total = total + np.einsum("btklc,btckl->btkl", q1, c3)
        total = total + np.einsum("bklcd,btcdkl->btkl", q2, c4)
    cross = cross * v[..., :, None]
    return total + cross + np.swapaxes(cross, -1, -2)


def _support(task: _Task, z: list[Values], step: Step) -> Values:
    """P·E(c_k c_l) over the support given the head, (b, t, K, K).

    E[Γ_m Γ_q | x_p] = Γ0 + e Γ1·g + e² g·Γ2·g, as w' has mean w + (η/P)(z_p + (P−1) k1) and
    covariance (η/P)²(P−1) k2; with Γ's own mean over the V queries,
    E[Γ_m Γ_q | w'] = Σ_cd s'_c s'_d Γ4_mqcd + σ² Φ_mq/V, Γ4 = (1−1/V) Φ_mc Φ_qd + A4_mqcd/V.
    """
    K, V, P = task.K, step.query, step.support
    a = step.inner_rate / P
    one = task.index.raised[1][task.index.raised[0][0]][:K]
    Phi = task.table.plain[2][:, one]  # (b, K, n)
    A4 = task.fields(2)
    products = np.einsum("bmc,bqd->bmqcd", Phi, Phi)
    products = (products + np.swapaxes(products, -1, -2)) / 2
    G4 = (1 - 1 / V) * products + A4 / V
    head = task.w + a * (P - 1) * z[0]
    if step.closure:
        head = task.w + step.inner_rate * z[0]
    s = np.concatenate([-head, task.u], axis=-1)
    G4s = np.einsum("bmqcd,btd->btmqc", G4, s)
    spread = a * a * (P if step.closure else P - 1)
    G0 = np.einsum("btmqc,btc->btmq", G4s, s) + step.label_noise**2 / V * Phi[:, None, :, :K]
    G0 = G0 + spread * np.einsum("bmqcd,btcd->btmq", G4[..., :K, :K], z[1])
    X20, X11, X02 = task.paired(2, 0), task.paired(1, 1), task.paired(0, 2)
    square = G0 * X20
    cross = np.einsum("btkq,btklq->btkl", G0, X11)
    plain = np.einsum("btmq,btklmq->btkl", G0, X02)
    if not step.closure:
        G1, G2 = -2 * a * G4s[..., :K], a * a * G4[..., :K, :K]
        square = square + np.einsum("btklc,btklc->btkl", G1, task.paired(3, 1))
        square = square + np.einsum("bklcd,btklcd->btkl", G2, task.paired(4, 2))
        cross = cross + np.einsum("btkqc,btklqc->btkl", G1, task.paired(2, 2))
        cross = cross + np.einsum("bkqcd,btklqcd->btkl", G2, task.paired(3, 3))
        plain = plain + np.einsum("btmqc,btklmqc->btkl", G1, task.paired(1, 3))
        plain = plain + np.einsum("bmqcd,btklmqcd->btkl", G2, task.paired(2, 4))
    w = task.w
    cross = cross * w[..., None, :]
    total = square - cross - np.swapaxes(cross, -1, -2) + _outer(w, w) * plain
    return step.inner_rate**2 / P * total
