"""The noise of ANIL at a finite support as loops, in the subset of theory.generation.native."""

from __future__ import annotations

from typing import Any

from theory.finite.head_noise import (
    cumulants,
    empty,
    mirrored3,
    mirrored4,
    pair,
    query_noise,
    support_noise,
)
from theory.finite.lattice_loop import lattice_sums

Numbers = Any


def unfold(
    K: int, units: int, rank: int, sums: Numbers, at: int, scale: float, out: Numbers, first: int
) -> None:
    """The entries k ≥ l ≥ … of a symmetric tensor, from ``at`` on, to all of it from ``first``."""
    j = at
    for k in range(units):
        if rank == 1:
            out[first + k] = scale * sums[j]
            j = j + 1
        else:
            for l in range(k + 1):
                kl = k * units + l
                if rank == 2:
                    out[first + kl] = scale * sums[j]
                    out[first + l * units + k] = scale * sums[j]
                    j = j + 1
                else:
                    for m in range(l + 1):
                        if rank == 3:
                            out[first + kl * units + m] = scale * sums[j]
                            j = j + 1
                        else:
                            for p in range(m + 1):
                                out[first + (kl * units + m) * units + p] = scale * sums[j]
                                j = j + 1
    if rank == 3:
        mirrored3(K, first, out)
    if rank == 4:
        mirrored4(K, first, out)


def finite_noise(
    K: int, M: int, N: int, drawn: int, C: Numbers, w: Numbers, heads: Numbers, weights: Numbers,
    rate: float, support: float, query: float, tasks_per_step: float, sigma: float, exact: float,
    check: float, sums: Numbers, S: Numbers,
) -> None:  # fmt: skip
    """S (K, K) as by theory.finite.finite_support.noise with g = erf; NaN where C is none.

    ``exact`` and ``check`` are 1 for the order "exact" and for the independent lattice, else 0.
    ``sums`` is room for what theory.finite.block_sums sums up.
    """
    pairs = (K * (K + 1)) // 2
    both = (N * (N + 1)) // 2
    three = (pairs * (K + 2)) // 3
    four = (three * (K + 3)) // 4
    z1 = empty(K)
    z2 = empty(K * K)
    z3 = empty(K * K * K)
    z4 = empty(K * K * K * K)
    s = empty(N)
    J2 = empty((K * (K + 1)) // 2)
    I4 = empty((K * (K + 1)) // 2 * N * N)
    out = empty((K * (K + 1)) // 2)
    per_head = K + pairs + three + four
    fields = 1 + pairs + pairs * both
    at = fields
    if exact > 0.5:
        per_head = per_head + pairs * (1 + 2 * K + 3 * pairs + 2 * three + four)
        at = fields + K * N + pairs * both
    for i in range(at + drawn * per_head):
        sums[i] = 0.0
    lattice_sums(K, M, N, drawn, C, w, heads, sigma, exact, check, sums)
    scale = 1.0 / sums[0]
    for p in range(pairs):
        J2[p] = scale * sums[1 + p]
        unfold(K, N, 2, sums, 1 + pairs + p * both, scale, I4, p * N * N)
    for i in range(K * K):
        S[i] = 0.0
    for t in range(drawn):
        unfold(K, K, 1, sums, at, scale, z1, 0)
        unfold(K, K, 2, sums, at + K, scale, z2, 0)
        unfold(K, K, 3, sums, at + K + pairs, scale, z3, 0)
        unfold(K, K, 4, sums, at + K + pairs + three, scale, z4, 0)
        cumulants(K, z1, z2, z3, z4)
        for k in range(K):
            s[k] = -w[k] - rate * z1[k]
        for m in range(M):
            s[K + m] = heads[t * M + m]
        query_noise(K, N, rate, support, sigma, s, z2, z3, z4, J2, I4, out)
        for p in range(pairs):
            out[p] = out[p] / query
        if exact > 0.5:
            for k in range(K):
                s[k] = -w[k] - rate * (support - 1.0) / support * z1[k]
            of_support = at + K + pairs + three + four
            add_support_noise(
                K, N, rate, support, query, sigma, w, s, z2, sums, scale, fields, of_support, out
            )
        at = at + per_head
        for k in range(K):
            for l in range(K):
                S[k * K + l] = S[k * K + l] + weights[t] / tasks_per_step * out[pair(k, l)]


def add_support_noise(
    K: int, N: int, rate: float, support: float, query: float, sigma: float, w: Numbers,
    s: Numbers, k2: Numbers, sums: Numbers, scale: float, fields: int, at: int, out: Numbers,
) -> None:  # fmt: skip
    """What the supports add to S given the head, from ``sums``: of two to four fields from
    ``fields`` on, of the pairs of units of this head from ``at`` on."""
    pairs = (K * (K + 1)) // 2
    both = (N * (N + 1)) // 2
    three = (pairs * (K + 2)) // 3
    four = (three * (K + 3)) // 4
    Phi = empty(K * N)
    A4 = empty((K * (K + 1)) // 2 * N * N)
    X20 = empty((K * (K + 1)) // 2)
    X11 = empty((K * (K + 1)) // 2 * K)
    X02 = empty((K * (K + 1)) // 2 * K * K)
    X31 = empty((K * (K + 1)) // 2 * K)
    X22 = empty((K * (K + 1)) // 2 * K * K)
    X13 = empty((K * (K + 1)) // 2 * K * K * K)
    X42 = empty((K * (K + 1)) // 2 * K * K)
    X33 = empty((K * (K + 1)) // 2 * K * K * K)
    X24 = empty((K * (K + 1)) // 2 * K * K * K * K)
    for i in range(K * N):
        Phi[i] = scale * sums[fields + i]
    for p in range(pairs):
        unfold(K, N, 2, sums, fields + K * N + p * both, scale, A4, p * N * N)
        here = at + p * (1 + 2 * K + 3 * pairs + 2 * three + four)
        X20[p] = scale * sums[here]
        unfold(K, K, 1, sums, here + 1, scale, X11, p * K)
        unfold(K, K, 2, sums, here + 1 + K, scale, X02, p * K * K)
        unfold(K, K, 1, sums, here + 1 + K + pairs, scale, X31, p * K)
        unfold(K, K, 2, sums, here + 1 + 2 * K + pairs, scale, X22, p * K * K)
        here = here + 1 + 2 * K + 2 * pairs
        unfold(K, K, 3, sums, here, scale, X13, p * K * K * K)
        unfold(K, K, 2, sums, here + three, scale, X42, p * K * K)
        unfold(K, K, 3, sums, here + three + pairs, scale, X33, p * K * K * K)
        unfold(K, K, 4, sums, here + 2 * three + pairs, scale, X24, p * K * K * K * K)
    support_noise(
        K, N, rate, support, query, sigma, support - 1.0, 1.0, w, s, k2, Phi, A4, out,
        X20, X11, X02, X31, X22, X13, X42, X33, X24,
    )  # fmt: skip
