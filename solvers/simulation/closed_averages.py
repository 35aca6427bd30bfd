"""The loss over infinitely many examples, and its slopes, from averages of pairs of fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.activations import erf, linear, relu

Array = NDArray[np.float64]
PairMoments = Callable[[int, int, Array], Array]
"""(a, b, C) ↦ E[g⁽ᵃ⁾(x_i) g⁽ᵇ⁾(x_j)] for x ~ N(0, C): C (…, n, n) gives (…, n, n)."""

NODES = 64


def pair_moments(activation: Any) -> PairMoments:
    """The averages of this activation: closed for erf, linear and relu, by quadrature otherwise.

    Orders a + b ≤ 4 with a + b even, as Price's theorem makes them from E[g g].
    """
    for known, moments in ((erf, erf_moments), (linear, linear_moments), (relu, relu_moments)):
        if activation == known:
            return moments
    return lambda a, b, C: quadrature_moments(activation, a, b, C)


def erf_moments(a: int, b: int, C: Array) -> Array:
    """Closed form for g(x) = erf(x/√2): E[g g] = (2/π) asin(c/√(pq)) with p = 1 + C_ii,
    q = 1 + C_jj, c = C_ij, and its derivatives by Price's theorem.

    Source: Saad & Solla, Phys. Rev. E 52, 4225 (1995) for (0, 0) and (1, 1); the others derived.
    """
    if a < b:
        return erf_moments(b, a, C).mT
    width = 1.0 + np.diagonal(C, axis1=-2, axis2=-1)
    p, q = width[..., :, None], width[..., None, :]
    if (a, b) == (0, 0):
        return 2 / np.pi * np.arcsin(C / np.sqrt(p * q))
    det = p * q - C * C
    root = 2 / np.pi / np.sqrt(det)
    if (a, b) == (1, 1):
        return root
    if (a, b) == (2, 0):
        return -root * C / p
    if (a, b) == (2, 2):
        return root * C / det
    if (a, b) == (3, 1):
        return -root * q / det
    if (a, b) == (4, 0):
        return root * C * (2 / (p * p) + q / (p * det))
    raise ValueError(f"no average of the derivatives of orders {a} and {b}")


def linear_moments(a: int, b: int, C: Array) -> Array:
    """g(x) = x: E[g g] = C, E[g' g'] = 1, and nothing else."""
    if (a, b) == (0, 0):
        return C
    return np.full_like(C, float((a, b) == (1, 1)))


def relu_moments(a: int, b: int, C: Array) -> Array:
    """g(x) = max(x, 0): E[g g] = (√d + c(π/2 + asin(c/√(pq))))/2π, the arc-cosine kernel, with
    p = C_ii, q = C_jj, c = C_ij, d = pq − c², and its derivatives by Price's theorem. Those of
    order 4 are infinite on the diagonal.
    """
    if a < b:
        return relu_moments(b, a, C).mT
    diagonal = np.diagonal(C, axis1=-2, axis2=-1)
    p, q = diagonal[..., :, None], diagonal[..., None, :]
    root = np.sqrt(np.maximum(p * q - C * C, 0.0))  # rounding on the diagonal, where it is 0
    angle = np.pi - np.arctan2(root, C)
    forms = {(0, 0): root + C * angle, (1, 1): angle, (2, 0): root / p}
    if (a, b) not in forms:
        raise ValueError(f"relu has no average of the derivatives of orders {a} and {b}")
    return forms[a, b] / (2 * np.pi)


def quadrature_moments(activation: Any, a: int, b: int, C: Array) -> Array:
    """Mehler's kernel Σ_n rⁿ E[g⁽ᵃ⁾(x_i) H_n(x_i)] E[g⁽ᵇ⁾(x_j) H_n(x_j)], r the correlation and
    H_n the normalised Hermite polynomials, on 64 nodes: exact for polynomials; about 1e-3 for a
    kink (relu).
    """
    node, modes = _hermite_modes()
    scale = np.sqrt(np.maximum(np.diagonal(C, axis1=-2, axis2=-1), 0.0))
    first, second = (_d(activation, order, scale[..., None] * node) @ modes for order in (a, b))
    product = scale[..., :, None] * scale[..., None, :]
    r = np.divide(C, product, out=np.zeros_like(product), where=product > 0)
    r = np.minimum(np.maximum(r, -1.0), 1.0)  # overlaps of vectors: beyond 1 by rounding alone
    powers = np.ones((*r.shape, NODES))
    powers[..., 1:] = r[..., None]
    np.cumprod(powers, axis=-1, out=powers)
    return np.einsum("...in,...jn,...ijn->...ij", first, second, powers)


@cache
def _hermite_modes() -> tuple[Array, Array]:
    """Nodes z_p, and weight_p H_n(z_p), (nodes, modes) (Golub and Welsch)."""
    off = np.sqrt(np.arange(1.0, NODES))
    node, basis = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    return node, (basis * basis[0]).T


def _d(activation: Any, order: int, x: Array) -> Array:
    return activation.g(x) if order == 0 else activation.dg(x, order)


class Averages:
    """The loss ε = ½ Σ_cd s_c s_d E[g_c g_d], s = (−w, u), of a head w on the task u, where the
    fields have covariance Σ_b λ_b C^b: its slopes, and derivatives back through them.

    Axes: w (…, K), u (…, M), C (…, L, n, n), variance (L,).
    """

    def __init__(self, moments: PairMoments, w: Array, u: Array, C: Array, variance: Array) -> None:
        self.C, self.variance = C, variance
        blocks = variance[:, None, None] * C
        self.total = blocks[..., 0, :, :] if len(variance) == 1 else blocks.sum(-3)
        self.moments = moments
        self.w, self.K = w, w.shape[-1]
        if w.shape[:-1] != u.shape[:-1]:
            lead = np.broadcast_shapes(w.shape[:-1], u.shape[:-1])
            self.w = np.broadcast_to(w, (*lead, self.K))
            u = np.broadcast_to(u, (*lead, u.shape[-1]))
        self.s = np.concatenate([-self.w, u], axis=-1)
        self._tables: dict[tuple[int, int], Array] = {}

    def moment(self, a: int, b: int) -> Array:
        """E[g⁽ᵃ⁾(x_i) g⁽ᵇ⁾(x_j)], shape (…, n, n)."""
        if (a, b) not in self._tables:
            self._tables[a, b] = self.moments(a, b, self.total)
        return self._tables[a, b]

    @property
    def error(self) -> Array:
        """ε (…,)."""
        return 0.5 * np.einsum("...c,...cd,...d->...", self.s, self.moment(0, 0), self.s)

    @property
    def pull_of_head(self) -> Array:
        """e_k = ∂ε/∂w_k = −Σ_c s_c E[g_k g_c], with s = (−w, u)."""
        return -(self.moment(0, 0)[..., : self.K, :] @ self.s[..., None])[..., 0]

    @property
    def pull_of_representation(self) -> tuple[Array, Array]:
        """A_kl = w_k w_l E[g'_k g'_l] − δ_kl w_k t_k, D_kn = −w_k u_n E[g'_k g'_n]:
        ∂ε/∂J = (A J + D B)/N."""
        K, w, s, slope = self.K, self.w, self.s, self.moment(1, 1)
        A = w[..., :, None] * w[..., None, :] * slope[..., :K, :K]
        A = A - (w * self.bend)[..., None] * np.eye(K)
        return A, -w[..., :, None] * s[..., None, K:] * slope[..., :K, K:]

    @property
    def bend(self) -> Array:
        """t_k = Σ_c s_c E[g''_k g_c]."""
        return (self.moment(2, 0)[..., : self.K, :] @ self.s[..., None])[..., 0]

    def back(
        self, on_e: Array, on_A: Array | None = None, on_D: Array | None = None
    ) -> tuple[Array, Array]:
        """From derivatives with respect to e, A and D to those with respect to w and C."""
        K, w, s = self.K, self.w, self.s
        first = on_e[..., :, None] * -s[..., None, :]
        on_s = -(on_e[..., None, :] @ self.moment(0, 0)[..., :K, :])[..., 0, :]
        on_w = np.zeros(())
        C = self.through((0, 0), self._rows(first))
        if on_A is not None and on_D is not None:
            slope, bend = self.moment(1, 1), self.bend
            pairs = w[..., :, None] * w[..., None, :]
            second = np.concatenate(
                [on_A * pairs, -on_D * w[..., :, None] * s[..., None, K:]], axis=-1
            )
            both = on_A + on_A.mT
            on_w = on_w + ((both * slope[..., :K, :K]) @ w[..., None])[..., 0]
            on_w = on_w - ((on_D * slope[..., :K, K:]) @ s[..., K:, None])[..., 0]
            diagonal = np.diagonal(on_A, axis1=-2, axis2=-1)
            on_w = on_w - diagonal * bend
            on_bend = -diagonal * w
            third = on_bend[..., :, None] * s[..., None, :]
            on_s = on_s + (on_bend[..., None, :] @ self.moment(2, 0)[..., :K, :])[..., 0, :]
            C = C + self.through((1, 1), self._rows(second))
            C = C + self.through((2, 0), self._rows(third))
        on_w = on_w - on_s[..., :K]
        return on_w, self.to_blocks(C)

    def _rows(self, part: Array) -> Array:
        """A learner block (…, K, n) as a full table (…, n, n)."""
        n = self.s.shape[-1]
        full = np.zeros((*part.shape[:-2], n, n))
        full[..., : self.K, :] = part
        return full

    def through(self, orders: tuple[int, int], on_table: Array) -> Array:
        """From ∂/∂(table) to ∂/∂C by Price's theorem: the entries C_ij, C_ii and C_jj."""
        a, b = orders
        on_C = on_table * self.moment(a + 1, b + 1)
        left = 0.5 * (on_table * self.moment(a + 2, b)).sum(-1)
        right = 0.5 * (on_table * self.moment(a, b + 2)).sum(-2)
        return on_C + (left + right)[..., None] * np.eye(on_table.shape[-1])

    def to_blocks(self, on_total: Array) -> Array:
        """∂/∂C^b = λ_b ∂/∂C."""
        return self.variance[:, None, None] * on_total[..., None, :, :]
