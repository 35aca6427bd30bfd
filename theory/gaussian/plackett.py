"""E[sign(y_1) … sign(y_n)] of correlated Gaussians in numpy, n = 2, 4, 6, and A_n of erf networks.

With y_i = x_i + z_i, z_i standard normal, A_n = E[Π erf(x_i/√2)] is the sign moment at the
correlations ρ_ij = C_ij/√((1+C_ii)(1+C_jj)). Plackett's identity along ρ_1j → tρ_1j gives

    A_4 = (4/π²) Σ_j ρ_1j ∫₀¹ (1−t²ρ_1j²)^(−1/2) asin r_kl|1j(t) dt,

r the correlation of the other two fields given y_1 = y_j = 0. Along this path the integrand is
even in t, and its singularities lie on the real axis at |t| ≥ 1/R, R² the share of the variance
of y_1 that the other fields explain. The substitution t = 2τ/(R(1+τ²)) moves them to |τ| ≥ 1, and
Gauss–Legendre nodes on [−h, h], h = R/(1+√(1−R²)), then converge like b^(−2·nodes), b + 1/b = 2/h:
the number of nodes is known beforehand. Source: Plackett, Biometrika 41, 351 (1954); path derived.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, combinations_with_replacement, permutations
from typing import Any

import numpy as np
from numpy import arctan2, maximum, sqrt
from numpy.typing import ArrayLike, NDArray

from theory.errors import DomainError

Array = NDArray[np.float64]
Six = tuple[Array, Array, Array, Array, Array, Array]

COUNTS = (4, 8, 12, 16, 20, 24, 32, 40, 60, 92, 140)
"""Numbers of nodes on the half interval; the last also serves what would need more."""
DIGITS = 37.0
"""−ln of the quadrature error aimed at."""
REACH = tuple(1 / np.cosh(DIGITS / (4 * count - 2)) for count in COUNTS)
"""The largest h at which so many nodes are enough: b^(−4·nodes + 2) = exp(−DIGITS)."""
SLACK = 1e-12
"""A determinant of correlations may fall below zero by this much through rounding."""
FLOOR = 1e-16
"""Determinants are kept above this, so that where a field determines another one rounding is not
taken for an angle; costs 1e-8 at exactly singular correlations."""
SINGULAR = 1e-13
"""Three fields whose correlations have no larger determinant explain a fourth altogether."""
LEAST = 1e-8
"""R² is kept above this, so that it can be divided by."""
CHUNK = 4096
"""Integrand values held at a time, so that they stay in the processor's cache."""


def sign_moment(*correlations: ArrayLike) -> Array:
    """A_n at correlations ρ_12, ρ_13, …, row by row (1, 6 or 15 arrays that broadcast).

    Accuracy, absolute: 1e-13 at 1 − R² ≥ 0.01, then about 1e-16/(1 − R²)², 1e-8 where singular.
    Raises: DomainError where the correlations are those of no Gaussian.
    """
    fields = {1: 2, 6: 4, 15: 6}.get(len(correlations))
    if fields is None:
        raise ValueError(f"{len(correlations)} correlations are not those of 2, 4 or 6 fields")
    arrays = np.broadcast_arrays(*(np.asarray(c, dtype=float) for c in correlations))
    shape = arrays[0].shape
    flat = [_within_one(a.ravel()) for a in arrays]
    if fields == 2:
        return (2 / np.pi * np.arcsin(flat[0])).reshape(shape)
    if fields == 4:
        return _four(tuple(flat)).reshape(shape)  # type: ignore[arg-type]
    return np.array([_six(np.array(row)) for row in zip(*flat, strict=True)]).reshape(shape)


def a4(C: ArrayLike) -> Array:
    """A_4 = E[Π_i erf(x_i/√2)] for covariances C (…, 4, 4) → (…); fields may be repeated.

    Accuracy: 1e-13 up to variance 50, 1e-9 at 2000. Below 1 µs per value, many at a time.
    Raises: DomainError where C is no covariance.
    """
    return sign_moment(*_correlations(np.asarray(C, dtype=float), 4))


def a6(C: ArrayLike) -> Array:
    """A_6 = E[Π_i erf(x_i/√2)] for covariances C (…, 6, 6) → (…)."""
    return sign_moment(*_correlations(np.asarray(C, dtype=float), 6))


def a4_table(C: ArrayLike) -> Array:
    """E[g(x_i)g(x_j)g(x_k)g(x_l)] for all fields of a covariance C (…, n, n) → (…, n, n, n, n).

    One value per multiset of fields, n(n+1)(n+2)(n+3)/24 of them, copied to its permutations.
    """
    C = np.asarray(C, dtype=float)
    n = C.shape[-1]
    tuples, place = _multisets(n)
    rho = _normalised(C)
    values = sign_moment(
        *(rho[..., tuples[:, a], tuples[:, b]] for a, b in combinations(range(4), 2))
    )
    return values[..., place]


@cache
def _multisets(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The sorted index tuples (p, 4), and for each index tuple which of them it is (n, n, n, n)."""
    tuples = np.array(list(combinations_with_replacement(range(n), 4)), dtype=np.intp)
    place = np.empty((n,) * 4, dtype=np.intp)
    for order in permutations(range(4)):
        place[tuple(tuples[:, order].T)] = np.arange(len(tuples))
    return tuples, place


def _normalised(C: Array) -> Array:
    """The correlations C_ij/√((1+C_ii)(1+C_jj)) of x_i + z_i and x_j + z_j, also for i = j."""
    spread = 1.0 + np.diagonal(C, axis1=-2, axis2=-1)
    if not np.all(spread >= 1.0):
        raise DomainError(f"no covariance: a variance is negative or not a number in\n{C}")
    return C / np.sqrt(spread[..., :, None] * spread[..., None, :])


def _correlations(C: Array, n: int) -> list[Array]:
    if C.shape[-2:] != (n, n):
        raise ValueError(f"covariances of {n} fields have shape (…, {n}, {n}), not {C.shape}")
    rho = _normalised(C)
    return [rho[..., i, j] for i, j in combinations(range(n), 2)]


def _within_one(rho: Array) -> Array:
    """ρ, brought back to ±1 where it lies beyond by a few roundings."""
    beyond = np.abs(rho) > 1.0
    if beyond.any() or np.isnan(rho).any():
        if not np.all(np.abs(rho) <= 1.0 + SLACK):
            raise DomainError(f"a correlation beyond ±1: {rho[~(np.abs(rho) <= 1.0 + SLACK)][0]}")
        rho = np.where(beyond, np.sign(rho), rho)
    return rho


def volume_of(a: Any, b: Any, c: Any) -> Any:
    """The determinant of three fields with correlations a, b, c."""
    return 1.0 - a * a - b * b - c * c + 2.0 * a * b * c


def explained_of(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """The variance of y_1 that y_2, y_3, y_4 explain, times their determinant."""
    alone = a * a * (1 - f * f) + b * b * (1 - e * e) + c * c * (1 - d * d)
    return alone + 2 * (a * b * (e * f - d) + a * c * (d * f - e) + b * c * (d * e - f))


def angle_of(t2: Any, rest: Any, one: Any, two: Any, three: Any, d: Any, e: Any, other: Any) -> Any:
    """ρ_1j (1−t²ρ_1j²)^(−1/2) asin r_kl|1j(t), where ρ_1j, ρ_1k, ρ_1l, ρ_jk, ρ_jl, ρ_kl are the
    last six arguments and ``rest`` is the determinant of all four fields at t."""
    pivot = 1.0 - one * one * t2
    slope = one * (two * e + three * d) - other * one * one - two * three
    return one * arctan2(other - d * e + slope * t2, sqrt(pivot * rest)) / sqrt(pivot)


ROLES = (
    (0, 1, 2, 3, 4, 5),
    (0, 3, 4, 1, 2, 5),
    (1, 3, 5, 0, 2, 4),
    (2, 4, 5, 0, 1, 3),
)
"""Where ρ_12, ρ_13, ρ_14, ρ_23, ρ_24, ρ_34 stand when field 1, 2, 3 or 4 is taken as the first."""


def _four(rho: Six) -> Array:
    """A_4 for flat arrays of correlations, nodes chosen per element."""
    r12, r13, r14, r23, r24, r34 = rho
    volumes = np.stack(
        [
            volume_of(r23, r24, r34),
            volume_of(r13, r14, r34),
            volume_of(r12, r14, r24),
            volume_of(r12, r13, r23),
        ]
    )
    first = np.argmin(volumes, axis=0)
    table = np.stack(rho)
    roles = np.array(ROLES)[first].T
    a, b, c, d, e, f = np.take_along_axis(table, roles, axis=0)
    volume = np.take_along_axis(volumes, first[None], axis=0)[0]
    explained = explained_of(a, b, c, d, e, f)
    if not (np.all(volumes >= -SLACK) and np.all(volume - explained >= -SLACK)):
        bad = int(np.argmin(np.minimum(volumes.min(axis=0), volume - explained)))
        raise DomainError(f"no correlation matrix: {[float(x[bad]) for x in rho]}")
    safe = volume > SINGULAR
    ratio = np.divide(explained, volume, out=np.ones_like(volume), where=safe)
    radius = np.sqrt(np.minimum(np.maximum(ratio, LEAST), 1.0))
    half = half_of(radius)
    bucket = np.searchsorted(REACH[:-1], half)
    result = np.empty_like(a)
    for which in np.unique(bucket):
        node, weight = legendre(COUNTS[which])
        members = np.flatnonzero(bucket == which)
        step = max(1, CHUNK // len(node))
        for start in range(0, len(members), step):
            m = members[start : start + step]
            six = (a[m], b[m], c[m], d[m], e[m], f[m])
            result[m] = _integrated(six, volume[m], explained[m], radius[m], half[m], node, weight)
    return result


def half_of(radius: Any) -> Any:
    """The end h of the path, t = 1."""
    return radius / (1 + sqrt(1 - radius * radius))


def integrand_of(
    node: Any, half: Any, radius: Any, volume: Any, explained: Any,
    a: Any, b: Any, c: Any, d: Any, e: Any, f: Any,
) -> Any:  # fmt: skip
    """Σ_j ρ_1j (1−t²ρ_1j²)^(−1/2) asin r_kl|1j dt/dτ at τ = h·node, but for the factor 1/R."""
    tau2 = half * half * node * node
    share = 2 / (1 + tau2)
    t2 = tau2 * share * share / (radius * radius)
    rest = maximum(volume - explained * t2, FLOOR)
    total = angle_of(t2, rest, a, b, c, d, e, f)
    total = total + angle_of(t2, rest, b, a, c, d, f, e)
    total = total + angle_of(t2, rest, c, a, b, e, f, d)
    return total * share * (share - 1)


@cache
def legendre(count: int) -> tuple[Array, Array]:
    """The positive nodes of the 2·count point Gauss–Legendre rule on [−1, 1], and their weights."""
    node, weight = np.polynomial.legendre.leggauss(2 * count)
    return node[count:], weight[count:]


def _integrated(
    rho: Six,
    volume: Array,
    explained: Array,
    radius: Array,
    half: Array,
    node: Array,
    weight: Array,
) -> Array:
    """The integral over the path, nodes on the first axis."""
    values = integrand_of(node[:, None], half, radius, volume, explained, *rho)
    return 4 / np.pi**2 * half / radius * (weight @ values)


def _six(correlations: Array) -> float:
    """A_6 of one set of fifteen correlations: the same path, with A_4 of the conditional fields."""
    M = np.eye(6)
    rows, columns = np.triu_indices(6, 1)
    M[rows, columns] = M[columns, rows] = correlations
    values = np.linalg.eigvalsh(M)
    if values[0] < -SLACK:
        raise DomainError(f"no correlation matrix, smallest eigenvalue {values[0]:.3g}:\n{M}")
    shares = [_explained(M, i) for i in range(6)]
    first = int(np.argmin(shares))
    order = [first, *(i for i in range(6) if i != first)]
    M = M[np.ix_(order, order)]
    radius = np.sqrt(min(max(shares[first], LEAST), 1.0))
    half = half_of(radius)
    node, weight = legendre(COUNTS[np.searchsorted(REACH[:-1], half)])
    share = 2 / (1 + (half * node) ** 2)
    t = half * node * share / radius
    row = t[:, None] * M[0, 1:]
    total = np.zeros_like(t)
    for j in range(5):
        left = [k for k in range(5) if k != j]
        pivot = 1.0 - row[:, j] ** 2
        A, B = row[:, left], M[1 + j, 1:][left]
        mixed = row[:, j, None, None] * (A[:, :, None] * B + B[:, None] * A[:, None, :])
        given = M[1:, 1:][np.ix_(left, left)] - (
            A[:, :, None] * A[:, None, :] + B[:, None] * B - mixed
        ) / pivot[:, None, None]  # fmt: skip
        spread = np.sqrt(np.maximum(np.diagonal(given, axis1=1, axis2=2), SLACK))
        rho = given / (spread[:, :, None] * spread[:, None, :])
        six = tuple(_within_one(rho[:, p, q]) for p, q in combinations(range(4), 2))
        total += M[0, 1 + j] / np.sqrt(pivot) * _four(six)  # type: ignore[arg-type]
    return float(2 / np.pi * half / radius * (weight @ (total * share * (share - 1))))


def _explained(M: Array, i: int) -> float:
    """R² of field i: the share of its variance that the other fields explain."""
    others = [k for k in range(len(M)) if k != i]
    row = M[i, others]
    return float(row @ np.linalg.lstsq(M[np.ix_(others, others)], row, rcond=1e-13)[0])
