"""Sums over a block of nodes of what the noise at a finite support is made from, for g = erf.

In the subset of theory.generation.native. ``sums`` holds one after the other: the weights;
D_k D_l for each pair l ≤ k; D_k D_l G_a G_c for each pair and each c ≤ a; where the order is exact,
g_k G_a for each k and a, and g_k g_l G_a G_c like the above; then for each head e^r g_k…, r units
k ≥ l ≥ … for r = 1 to 4, and where the order is exact, for each pair D_k D_l e^r g_m… with q units,
(r, q) as theory.finite.finite_support.SUPPORT_AVERAGES lists them. All are averaged over label
noise.
"""

from __future__ import annotations

from math import exp, pi, sqrt
from typing import Any

from theory.finite.head_noise import empty
from theory.finite.lattice import weight_of
from theory.generation.special import erf_given

Numbers = Any
BLOCK = 128
"""Nodes taken at a time, so that what belongs to them stays in the fastest memory."""
SLOPE = sqrt(2 / pi)
"""g'(0)."""


def products(units: int, degree: int, g: Numbers, below: Numbers, out: Numbers) -> None:
    """Rows g_k g_l … of the degree, k ≥ l ≥ …, from those of the degree ``below``."""
    at = 0
    for k in range(units):
        number = k + 1
        if degree > 2:
            number = (number * (k + 2)) // 2
        if degree > 3:
            number = (number * (k + 3)) // 3
        for j in range(number):
            for i in range(BLOCK):
                out[(at + j) * BLOCK + i] = g[k * BLOCK + i] * below[j * BLOCK + i]
        at = at + number


def dots(v: Numbers, first: int, rows: Numbers, count: int, at: int, sums: Numbers) -> None:
    """sums[at + j] += v·rows[j] for so many rows, v the one numbered ``first``."""
    for j in range(count):
        total = 0.0
        for i in range(BLOCK):
            total = total + v[first * BLOCK + i] * rows[j * BLOCK + i]
        sums[at + j] = sums[at + j] + total


def powers_of(
    K: int, M: int, t: int, G: Numbers, w: Numbers, heads: Numbers, sigma: float, powers: Numbers
) -> None:
    """Averages of (e + σν)^r over ν for r = 0 to 4, (5, BLOCK), for the head numbered t."""
    s2 = sigma * sigma
    for i in range(BLOCK):
        powers[BLOCK + i] = 0.0
    for k in range(K):
        for i in range(BLOCK):
            powers[BLOCK + i] = powers[BLOCK + i] - w[k] * G[k * BLOCK + i]
    for m in range(M):
        for i in range(BLOCK):
            e = heads[t * M + m] * G[(K + m) * BLOCK + i]
            powers[BLOCK + i] = powers[BLOCK + i] + e
    for i in range(BLOCK):
        e = powers[BLOCK + i]
        e2 = e * e
        powers[i] = 1.0
        powers[2 * BLOCK + i] = e2 + s2
        powers[3 * BLOCK + i] = e * (e2 + 3.0 * s2)
        powers[4 * BLOCK + i] = e2 * (e2 + 6.0 * s2) + 3.0 * s2 * s2


def times(first: int, weight: Numbers, count: int, rows: Numbers, out: Numbers) -> None:
    """So many rows, each times the weight numbered ``first``."""
    for j in range(count):
        for i in range(BLOCK):
            out[j * BLOCK + i] = weight[first * BLOCK + i] * rows[j * BLOCK + i]


def add_block(
    K: int, M: int, N: int, drawn: int, x: Numbers, square: Numbers, share: Numbers,
    radius: float, w: Numbers, heads: Numbers, sigma: float, exact: float, sums: Numbers,
) -> None:  # fmt: skip
    """Adds the sums over the nodes x (N, BLOCK), z² = ``square``, of which ``share`` counts."""
    one = empty(BLOCK)
    weight = empty(BLOCK)
    slope = empty(K * BLOCK)
    G = empty(N * BLOCK)
    G2 = empty((N * (N + 1)) // 2 * BLOCK)
    g2 = empty((K * (K + 1)) // 2 * BLOCK)
    g3 = empty((K * (K + 1) * (K + 2)) // 6 * BLOCK)
    g4 = empty((K * (K + 1) * (K + 2) * (K + 3)) // 24 * BLOCK)
    DD = empty((K * (K + 1)) // 2 * BLOCK)
    v = empty((K * (K + 1)) // 2 * BLOCK)
    powers = empty(5 * BLOCK)
    u = empty(5 * BLOCK)
    pairs = (K * (K + 1)) // 2
    three = (pairs * (K + 2)) // 3
    four = (three * (K + 3)) // 4
    both = (N * (N + 1)) // 2
    for i in range(BLOCK):
        one[i] = 1.0
        weight[i] = share[i] * weight_of(square[i], radius)
    for i in range(K * BLOCK):
        gauss = exp(-0.5 * x[i] * x[i])
        slope[i] = SLOPE * gauss
        G[i] = erf_given(x[i], gauss)
    for i in range(K * BLOCK, N * BLOCK):
        G[i] = erf_given(x[i], exp(-0.5 * x[i] * x[i]))
    products(N, 2, G, G, G2)
    products(K, 2, G, G, g2)
    products(K, 3, G, g2, g3)
    products(K, 4, G, g3, g4)
    products(K, 2, slope, slope, v)
    times(0, weight, pairs, v, DD)
    dots(weight, 0, one, 1, 0, sums)
    dots(one, 0, DD, pairs, 1, sums)
    at = 1 + pairs
    for p in range(pairs):
        dots(DD, p, G2, both, at + p * both, sums)
    at = at + pairs * both
    if exact > 0.5:
        times(0, weight, K, G, v)
        for k in range(K):
            dots(v, k, G, N, at + k * N, sums)
        at = at + K * N
        times(0, weight, pairs, g2, v)
        for p in range(pairs):
            dots(v, p, G2, both, at + p * both, sums)
        at = at + pairs * both
    for t in range(drawn):
        powers_of(K, M, t, G, w, heads, sigma, powers)
        times(0, weight, 5, powers, u)
        dots(u, 1, G, K, at, sums)
        dots(u, 2, g2, pairs, at + K, sums)
        dots(u, 3, g3, three, at + K + pairs, sums)
        dots(u, 4, g4, four, at + K + pairs + three, sums)
        at = at + K + pairs + three + four
        if exact > 0.5:
            for p in range(pairs):
                times(p, DD, 5, powers, u)
                add_pair(K, u, one, G, g2, g3, g4, at, sums)
                at = at + 1 + 2 * K + 3 * pairs + 2 * three + four


def add_pair(
    K: int, u: Numbers, one: Numbers, G: Numbers, g2: Numbers, g3: Numbers, g4: Numbers, at: int,
    sums: Numbers,
) -> None:  # fmt: skip
    """Adds the averages D_k D_l e^r g_m… of one pair, u (5, BLOCK) being D_k D_l e^r."""
    pairs = (K * (K + 1)) // 2
    three = (pairs * (K + 2)) // 3
    four = (three * (K + 3)) // 4
    dots(u, 2, one, 1, at, sums)
    dots(u, 1, G, K, at + 1, sums)
    dots(u, 0, g2, pairs, at + 1 + K, sums)
    dots(u, 3, G, K, at + 1 + K + pairs, sums)
    dots(u, 2, g2, pairs, at + 1 + 2 * K + pairs, sums)
    second = at + 1 + 2 * K + 2 * pairs
    dots(u, 1, g3, three, second, sums)
    dots(u, 4, g2, pairs, second + three, sums)
    dots(u, 3, g3, three, second + three + pairs, sums)
    dots(u, 2, g4, four, second + 2 * three + pairs, sums)
