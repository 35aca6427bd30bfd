"""Nodes and weights for Gaussian averages over the K+M fields: a smooth lattice rule."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, pi
from typing import Any

import numpy as np
from numpy import exp, minimum
from numpy.typing import ArrayLike, NDArray

from theory.errors import DomainError
from theory.overlaps import PHYSICAL_TOLERANCE

Array = NDArray[np.float64]

STEP = 0.9
"""Lattice step at eigenvalue 0, in standard deviations of the field."""
RADIUS = 6.2
"""Nodes lie within this many standard deviations of the origin."""
WIDER, CLOSER = 1.08, 0.95
"""How much further out and closer the nodes lie of the rule that checks."""
EDGE = 14 / 15
"""The share of the radius beyond which weights fade out."""
BUDGET = 30_000
"""Nodes at most, by default; where they do not suffice, the error estimate tells."""
SHARE = 0.3
"""The share that a smaller radius has in keeping to the budget; wider steps have the rest."""
LARGEST = 1e4
"""Steps become no narrower beyond eigenvalues of this size, so that the budget holds."""
BALLS = tuple(pi ** (n / 2) / gamma(n / 2 + 1) for n in range(65))
"""Volumes of the unit balls."""


@dataclass(frozen=True)
class Nodes:
    """Fields ``x`` (n, N) and weights (N,) of sum one: E[F(x)] ≈ Σ_i weight_i F(x[:, i])."""

    x: Array
    weight: Array


def spectrum(C: ArrayLike) -> tuple[Array, Array]:
    """Eigenvalues, zero where they fall below it by rounding, and eigenvectors of a covariance C.

    Raises DomainError if an eigenvalue lies below −1e-8 Tr C.
    """
    C = np.asarray(C, float)
    if not np.isfinite(C).all():
        raise DomainError(f"no covariance of fields: not finite\n{C}")
    values, vectors = np.linalg.eigh(C)
    if not values[0] >= -PHYSICAL_TOLERANCE * np.trace(C):
        raise DomainError(f"no covariance of fields: smallest eigenvalue {values[0]:.3g} of\n{C}")
    return np.maximum(values, 0.0), vectors


def excess_of(ball: Any, n: Any, halves: Any, volume: Any, budget: Any) -> Any:
    """How much radius/step has to shrink so that no more nodes are in the ball than the budget.

    ``volume`` = √det(1 + C); ``halves`` is 1 where x and −x are both kept, else 0.
    """
    count = ball * volume / 2.0 ** (0.5 * n - halves)
    return max((count / budget) ** (1.0 / n), 1.0)


def weight_of(square: Any, radius: Any) -> Any:
    """exp(−z²/2) at z² = ``square``, fading to zero at the edge."""
    edge = minimum((radius**2.0 - square) / (radius**2.0 * (1.0 - EDGE * EDGE)), 1.0)
    return exp(-0.5 * square) * edge * edge * edge * (10.0 + edge * (6.0 * edge - 15.0))


def lattice(C: ArrayLike, *, even: bool, check: bool = False, budget: int = BUDGET) -> Nodes:
    """Trapezoid rule for N(0, C), C (n, n), on the lattice D_n* (body-centred cubic at n = 3).

    x = C^½ z with z = (h/√2) (1 + C)^-½ k, weight ∝ exp(−z²/2), over the integer vectors k whose
    entries are all even or all odd, |z| ≤ 6.2. The steps scale as 1/√(1+eigenvalue) along the
    eigenvectors of C, but the axes stay those of the fields: so the result is a smooth function
    of C, singular or not, and equivariant under permutations of fields. Weights fade to zero at
    the edge: nodes come and go smoothly too.
    ``even`` promises F(x) = F(−x) and keeps one of x and −x. ``check`` gives an independent,
    somewhat better rule, whose difference is the error: a shifted lattice, closer and further
    out. ``budget`` bounds the nodes (twice as many for the check), by wider steps in a smaller
    ball.
    Accuracy for the erf averages of ``theory.finite.finite_support``: 4e-6 where the budget
    suffices: 7500 nodes at n = 4 and eigenvalues about 1/2, growing as Π√(1+eigenvalue); with
    30 000 nodes 1e-5 at n = 5 and 1e-3 at n = 6, eigenvalues about 1. A kink in the integrand
    leaves ~ h².

    Raises: DomainError if C is no covariance.
    Source: derived. By Poisson summation the error falls as exp(−½(2π/h)²) times a factor of g.
    """
    values, vectors = spectrum(C)
    n = len(values)
    radius, step = RADIUS, STEP
    if check:
        radius, step, budget = WIDER * RADIUS, CLOSER * STEP, 2 * budget
    ball = BALLS[n] * (radius / step) ** n
    resolved = 1.0 + values / (1.0 + values / LARGEST)
    excess = excess_of(ball, n, 1 - even, np.sqrt(np.prod(resolved)), budget)
    radius, h = radius / excess**SHARE, step * excess ** (1 - SHARE) / 2**0.5
    metric = (vectors / resolved) @ vectors.T
    parity = np.zeros(n)
    if check:
        parity[: (n + 1) // 2] = 1.0
    found = [_points(metric, (radius / h) ** 2, p, half=even) for p in (parity, 1.0 - parity)]
    k, square = (np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))
    square = h * h * square
    weight = weight_of(square, radius)
    if even:
        weight[~k.any(axis=0)] *= 0.5
    root = (vectors * np.sqrt(values / resolved)) @ vectors.T
    return Nodes(h * (root @ k), weight / weight.sum())


def _points(metric: Array, bound: float, parity: Array, *, half: bool) -> tuple[Array, Array]:
    """Integer vectors k (n, N) ≡ ``parity`` mod 2 with kᵀ·metric·k ≤ bound, and these values (N,).

    One coordinate after another, the last first (Fincke and Pohst, Math. Comp. 44, 463, 1985);
    ``half`` keeps those whose last nonzero coordinate is positive, and the origin.
    """
    U = np.linalg.cholesky(metric).T
    n = len(U)
    k = np.zeros((n, 1))
    left = np.full(1, bound)
    for i in reversed(range(n)):
        centre = -(U[i, i + 1 :] @ k[i + 1 :]) / U[i, i]
        width = np.sqrt(left) / U[i, i]
        low = np.ceil(centre - width)
        if half:
            low = np.where(k.any(axis=0), low, np.maximum(low, 0.0))
        low += (low + parity[i]) % 2
        number = np.maximum((centre + width - low) // 2 + 1, 0).astype(np.intp)
        parent = np.repeat(np.arange(len(number)), number)
        place = np.arange(len(parent)) - np.repeat(np.cumsum(number) - number, number)
        k = k[:, parent]
        k[i] = low[parent] + 2 * place
        left = np.maximum(left[parent] - (U[i, i] * (k[i] - centre[parent])) ** 2, 0.0)
    return k, bound - left


def gauss_hermite(C: ArrayLike, count: int) -> Nodes:
    """Tensor Gauss–Hermite rule for N(0, C): exact for polynomials of degree 2·count − 1."""
    values, vectors = spectrum(C)
    z, weight = np.polynomial.hermite_e.hermegauss(count)
    live = values > 1e-15 * values[-1]
    n = int(live.sum())
    places = np.indices((count,) * n).reshape(n, count**n)
    weights = weight[places].prod(axis=0)
    root = vectors[:, live] * np.sqrt(values[live])
    return Nodes(root @ z[places], weights / weights.sum())


def task_nodes(mean: ArrayLike, covariance: ArrayLike, count: int = 3) -> tuple[Array, Array]:
    """Heads (t, M) and weights (t,): averages over u ~ N(mean, covariance), exact to 2·count − 1.

    ``count`` Gauss–Hermite nodes along each eigenvector with variance.
    """
    nodes = gauss_hermite(covariance, count)
    return np.asarray(mean, float) + nodes.x.T, nodes.weight


def head_nodes(mean: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array]:
    """Heads (t, M) and weights (t,): averages over u ~ N(mean, covariance), exact to degree 5.

    The mean, and points at √(n+2) standard deviations that integrate degree 5 over the sphere, n
    the number of directions with variance: 3, 7, 13, 25 nodes at n = 1 to 4, beyond that 2n² + 1
    of which 2n have negative weights.
    Source: Stroud, Approximate Calculation of Multiple Integrals (1971), E_n^{r²} 5-1 and 5-2.
    """
    values, vectors = spectrum(covariance)
    live = values > 1e-15 * values[-1]
    n = int(live.sum())
    points, weights = _on_sphere(n)
    root = (vectors[:, live] * np.sqrt(values[live] * (n + 2))).T
    points = np.concatenate([np.zeros((1, n)), points])
    weights = np.concatenate([[2.0], n * weights]) / (n + 2)
    return np.asarray(mean, float) + points @ root, weights


def _on_sphere(n: int) -> tuple[Array, Array]:
    """Points of the unit sphere (p, n) and weights of sum one, exact to degree 5."""
    signs = [(s, t) for s in (1.0, -1.0) for t in (1.0, -1.0)]
    if n < 2:
        points = np.array([[1.0], [-1.0]])[: 2 * n, :n]
    elif n == 2:  # a hexagon
        angles = np.pi / 3 * np.arange(6)
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif n == 3:  # an icosahedron
        golden = (1 + 5**0.5) / 2
        corners = [np.roll([0.0, s, golden * t], i) for s, t in signs for i in range(3)]
        points = np.array(corners) / (1 + golden**2) ** 0.5
    else:
        unit = np.eye(n)
        far = [(s * unit[i] + t * unit[j]) / 2**0.5 for i in range(n) for j in range(i)
               for s, t in signs]  # fmt: skip
        near = [*unit, *-unit] if n > 4 else []
        weights = [(4 - n) / (2 * n * (n + 2))] * len(near) + [1 / (n * (n + 2))] * len(far)
        return np.array([*near, *far]), np.array(weights)
    return points, np.full(len(points), 1 / max(len(points), 1))
