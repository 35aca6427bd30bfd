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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import NoClosedFormError
from theory.finite import head_noise
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
from theory.rules.base import Rule

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


def step_of(rule: Rule, parameters: Mapping[str, Any]) -> Step:
    """The numbers of one outer step of a rule that the noise depends on."""
    return Step(
        inner_rate=parameters["inner_rate"], support=parameters["support"],
        query=parameters["query"], tasks_per_step=parameters["tasks_per_step"],
        label_noise=parameters["label_noise"], order=getattr(rule, "order", "first"),
        closure=getattr(rule, "noise", "cubature") == "gaussian-closure",
    )  # fmt: skip


def noise(
    C: ArrayLike, w: ArrayLike, heads: ArrayLike, weights: ArrayLike, step: Step,
    activation: Nonlinearity, *, budget: int = BUDGET,
) -> Array:  # fmt: skip
    """S (K, K) at field covariance C (n, n) and head w (K,), averaged over heads (t, M).

    ``weights`` (t,) of the heads add up to one; those of ``theory.finite.lattice.head_nodes`` are
    exact for a Gaussian head. Relative accuracy: ``noise_estimate``; 1e-5 for K + M ≤ 5 at
    ordinary variances. A polynomial g is integrated exactly.

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
    return difference(first, second)


def difference(first: Array, second: Array) -> float:
    """The largest difference relative to the first's largest entry."""
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
    K, n, P, eta, sigma = task.K, task.n, step.support, step.inner_rate, step.label_noise
    z1, z2 = _entries(task.plain(1, 1)), _entries(task.plain(2, 2))
    z3, z4 = [0.0] * K**3, [0.0] * K**4
    if not step.closure:
        z3, z4 = _entries(task.plain(3, 3)), _entries(task.plain(4, 4))
    head_noise.cumulants(K, z1, z2, z3, z4)
    if step.closure:
        z2, z3, z4 = [(c @ weights)[:, None] for c in z2], [0.0] * K**3, [0.0] * K**4
    old, u = _entries(task.w), _entries(task.u)

    def residual(rate: float) -> list[Values]:
        """s = (−v, u) after a step of this rate along the mean of z."""
        return [*(-(a + rate * b) for a, b in zip(old, z1, strict=True)), *u]

    k, l = np.tril_indices(K)
    J2 = _entries(table.paired[0][:, None, task.pair[k, l], 0])
    I4, total = _entries(task.fields(0)[:, None, k, l]), [0.0] * len(k)
    head_noise.query_noise(K, n, eta, P, sigma, residual(eta), z2, z3, z4, J2, I4, total)
    total = [entry / step.query for entry in total]
    if step.order == "exact":
        others, tied = (P, 0.0) if step.closure else (P - 1, 1.0)
        s = residual(eta * others / P)
        one = task.index.raised[1][task.index.raised[0][0]][:K]
        Phi, A4 = table.plain[2][:, None, one], task.fields(2)[:, None, k, l]
        head_noise.support_noise(
            K, n, eta, P, step.query, sigma, others, tied, old, s, z2, _entries(Phi),
            _entries(A4), total, *_support_averages(task, closure=step.closure),
        )  # fmt: skip
    S = np.empty((len(w), K, K), np.result_type(*total))
    for place, entry in enumerate(total):
        i, j = k[place], l[place]
        S[:, i, j] = S[:, j, i] = entry @ weights / step.tasks_per_step
    return S


SUPPORT_AVERAGES = ((2, 0), (1, 1), (0, 2), (3, 1), (2, 2), (1, 3), (4, 2), (3, 3), (2, 4))
"""(r, q) of E[D_k D_l e^r g_m…] with q units, as head_noise.support_noise asks for them."""


def _support_averages(task: _Task, *, closure: bool) -> list[list[Any]]:
    """These averages for all pairs l ≤ k; the closure reads the first three alone."""
    k, l = np.tril_indices(task.K)
    known = SUPPORT_AVERAGES[:3] if closure else SUPPORT_AVERAGES
    found: list[list[Any]] = [_entries(task.paired(r, q)[:, :, k, l]) for r, q in known]
    return found + [[0.0] * len(k) * task.K**q for _, q in SUPPORT_AVERAGES[len(known) :]]


def _entries(values: Values) -> list[Values]:
    """The entries of tensors (b, t, …) one after the other, each over (b, t)."""
    return list(np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0).copy())
