"""Gaussian averages by numbers, for any activation: Gauss–Hermite and Mehler's kernel.

This route knows none of the rules of ``theory.gaussian.closed_forms``, and so checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.activations import Activation, Signature
from theory.errors import DomainError
from theory.symbols import pairs

Array = NDArray[np.float64]

SLACK = 1e-10
"""An eigenvalue of a covariance may fall below zero by this share of the largest one."""
NODES = (0, 120, 60, 32, 20, 12, 8)
"""Nodes per direction by the number of fields."""


def gauss_hermite_average(
    function: Callable[..., Any], covariance: ArrayLike, nodes: int | None = None
) -> Array:
    """E[function(x_1, …, x_n)], x ~ N(0, C), C (…, n, n) → (…), by tensor Gauss–Hermite rules.

    The rule stands on C^½ = V√λ, so C may be singular; directions of zero variance cost nothing.
    Accuracy: for erf networks 1e-12 at variances ≤ 1 with 60 nodes a direction; it worsens with
    the variance (24 nodes: 5e-2 at eigenvalue 33) and is algebraic for functions with a kink.
    Raises: DomainError if C is not positive semidefinite; MemoryError beyond 5e7 nodes.
    """
    C = np.asarray(covariance, dtype=float)
    n = C.shape[-1]
    nodes = nodes or NODES[min(n, len(NODES) - 1)]
    flat = C.reshape(-1, n, n)
    results = [_one(function, matrix, nodes) for matrix in flat]
    return np.array(results).reshape(C.shape[:-2])


def _one(function: Callable[..., Any], C: Array, nodes: int) -> float:
    values, vectors = factor(C)
    live = values > 1e-14 * max(values[-1], 1e-300)
    directions = int(live.sum())
    if nodes**directions > 50_000_000:
        raise MemoryError(f"{nodes}^{directions} nodes are too many; take fewer per direction")
    z, weight = _hermite(nodes)
    grid = np.stack(np.meshgrid(*[z] * directions, indexing="ij")).reshape(directions, -1)
    weights = np.ones(1)
    for _ in range(directions):
        weights = np.multiply.outer(weights, weight).ravel()
    x = (vectors[:, live] * np.sqrt(values[live])) @ grid
    return float(np.sum(weights * function(*x)))


def factor(C: Array) -> tuple[Array, Array]:
    """Eigenvalues (n,), rounding below zero removed, and eigenvectors of a covariance (n, n)."""
    if not np.isfinite(C).all():
        raise DomainError(f"a covariance with an entry that is no number:\n{C}")
    values, vectors = np.linalg.eigh(C)
    if values[0] < -SLACK * max(values[-1], 1e-300):
        raise DomainError(f"no covariance: smallest eigenvalue {values[0]:.3g} of\n{C}")
    return np.maximum(values, 0.0), vectors


@cache
def _hermite(nodes: int) -> tuple[Array, Array]:
    """Nodes (n,) and weights of sum one."""
    z, basis = _oscillator(nodes)
    keep = basis[0] ** 2 > 1e-40
    return z[keep], basis[0, keep] ** 2


@cache
def _oscillator(nodes: int) -> tuple[Array, Array]:
    """Nodes z_i and the orthogonal matrix √weight_i He_n(z_i)/√n!, rows n (Golub and Welsch)."""
    off = np.sqrt(np.arange(1.0, nodes))
    z, basis = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    return z, basis * np.sign(basis[0])


COUNTS = (0, 200, 200, 100, 40)
"""Nodes per direction of ``average`` by the number of fields."""
ROUNDING = 1e-9
"""The share of a variance that conditioning on nearly equal fields may leave by rounding."""
CHUNK = 1 << 18
"""Values of g held at a time."""


def average(
    signature: Signature, activation: Activation, *entries: ArrayLike, nodes: int | None = None
) -> Array:
    """E[Π_i Π_k g^(k)(x_i)] at arrays of covariance entries C_11, C_12, … that broadcast.

    At most four fields. The first n − 2 stand on a Gauss–Hermite grid; the last two, given those,
    are correlated by Mehler's kernel Σ_n r^n He_n(u) He_n(v)/n! on their own nodes, which is exact
    at r = 0 and ±1 and costs one dimension instead of two. Singular covariances are allowed.

    Accuracy for tanh: two fields 1e-11 at variances ≤ 2 and 1e-5 at 10; four fields 1e-8 at 0.5,
    1e-5 at 2, 1e-2 at 10. Polynomials of degree below the number of nodes exactly; kinks
    algebraically.
    Raises: DomainError where the entries are no covariance.
    """
    n = len(signature)
    if not 1 <= n <= 4 or len(entries) != len(pairs(n)):
        raise ValueError(f"{len(entries)} entries of a covariance of {n} fields; n must be 1 to 4")
    arrays = np.broadcast_arrays(*(np.asarray(e, dtype=float) for e in entries))
    C = np.empty((arrays[0].size, n, n))
    for (i, j), entry in zip(pairs(n), arrays, strict=True):
        C[:, i, j] = C[:, j, i] = entry.ravel()
    nodes = nodes or COUNTS[n]
    step = max(1, CHUNK // nodes ** max(n - 1, 1))
    parts = [
        _averages(signature, activation, C[at : at + step], nodes) for at in range(0, len(C), step)
    ]
    return np.concatenate(parts).reshape(arrays[0].shape) if parts else np.empty(arrays[0].shape)


def _averages(signature: Signature, activation: Activation, C: Array, nodes: int) -> Array:
    """The averages for covariances (b, n, n)."""

    def slot(i: int, x: Array) -> Array:
        values = np.ones_like(x)
        for order in signature[i]:
            values = values * activation.dg(x, order)
        return values

    n, (z, basis) = C.shape[-1], _oscillator(nodes)
    weight = basis[0] ** 2
    if n == 1:
        return slot(0, _root(C[:, 0, 0])[:, None] * z) @ weight
    first = n - 2
    mean, rest, x, weights = _conditioned(C, z, weight)
    spread = _root(np.diagonal(rest, axis1=1, axis2=2))
    product = spread[:, 0] * spread[:, 1]
    # where the grid determines a field, its correlation is rounding over rounding
    scale = ROUNDING * np.sqrt(np.maximum(C[:, first, first] * C[:, first + 1, first + 1], 0.0))
    beyond = np.abs(rest[:, 0, 1]) - (1 + 1e-6) * product - scale
    if np.any(beyond > 0):
        raise DomainError(f"no covariance:\n{C[np.argmax(beyond)]}")
    r = np.divide(rest[:, 0, 1], product, out=np.zeros_like(product), where=product > scale)
    r = np.sign(r) * np.minimum(np.abs(r), 1.0)
    modes = [
        slot(first + i, mean[:, :, i, None] + spread[:, None, i, None] * z) @ (basis * basis[0]).T
        for i in range(2)
    ]
    powers = r[:, None] ** np.arange(nodes)
    inner = np.einsum("bpn,bpn,bn->bp", *modes, powers)
    for i in range(first):
        inner = inner * slot(i, x[:, :, i])
    return inner @ weights


def _conditioned(C: Array, z: Array, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Means (b, p, 2) and covariance (b, 2, 2) of the last two fields on a grid of the others.

    The grid x has shape (b, p, n − 2), its weights (p,).
    """
    first = C.shape[-1] - 2
    if first == 0:
        return np.zeros((len(C), 1, 2)), C, np.zeros((len(C), 1, 0)), np.ones(1)
    grid = np.stack(np.meshgrid(*[z] * first, indexing="ij"), -1).reshape(-1, first)
    weights = np.ones(1)
    for _ in range(first):
        weights = np.multiply.outer(weights, weight).ravel()
    values, vectors = np.linalg.eigh(C[:, :first, :first])
    top = np.maximum(values[:, -1:], 1e-300)
    if np.any(values < -SLACK * top):
        raise DomainError(f"no covariance:\n{C[np.argmin(values[:, 0])]}")
    live = values > 1e-14 * top
    scale = np.sqrt(np.where(live, values, 0.0))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=live)
    load = np.swapaxes(vectors * inverse[:, None, :], 1, 2) @ C[:, :first, first:]
    rest = C[:, first:, first:] - np.swapaxes(load, 1, 2) @ load
    return grid @ load, rest, grid @ np.swapaxes(vectors * scale[:, None, :], 1, 2), weights


def _root(variance: Array) -> Array:
    """√variance, zero where rounding took it below.

    Raises: DomainError for a variance that is negative beyond rounding.
    """
    if not np.all(variance >= -1e-8):
        raise DomainError(f"no covariance: a conditional variance is {np.min(variance)}")
    return np.sqrt(np.maximum(variance, 0.0))
