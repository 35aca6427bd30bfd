"""The noise S given the head of a task, from averages over one example: sums over units alone.

Every entry of an argument is a number for one head, or an array over heads and whatever else is
computed at once: the text runs as it stands, and is compiled (theory.generation.native) for one
head at a time. Tensors lie row by row in one axis; those symmetric in a pair of units k, l hold
it once, at ``pair(k, l)``.
"""

from __future__ import annotations

from typing import Any

Numbers = Any
"""Entries one after the other: numbers, or arrays of a common shape."""


def empty(size: int) -> list[Any]:
    """Room for so many entries."""
    return [0.0] * size


def pair(k: int, l: int) -> int:
    """Where a pair of units stands."""
    return (max(k, l) * (max(k, l) + 1)) // 2 + min(k, l)


def cumulants(K: int, z1: Numbers, z2: Numbers, z3: Numbers, z4: Numbers) -> None:
    """Moments E[z_k …], (K,), (K, K), … become the cumulants of the same order."""
    for k in range(K):
        for l in range(K):
            z2[k * K + l] = z2[k * K + l] - z1[k] * z1[l]
    for k in range(K):
        for l in range(k + 1):
            for m in range(l + 1):
                less = z1[k] * z2[l * K + m] + z1[l] * z2[k * K + m] + z1[m] * z2[k * K + l]
                at = (k * K + l) * K + m
                z3[at] = z3[at] - less - z1[k] * z1[l] * z1[m]
    mirrored3(K, 0, z3)
    for k in range(K):
        for l in range(k + 1):
            for m in range(l + 1):
                for p in range(m + 1):
                    less = z1[k] * z3[(l * K + m) * K + p] + z1[l] * z3[(k * K + m) * K + p]
                    less = less + z1[m] * z3[(k * K + l) * K + p] + z1[p] * z3[(k * K + l) * K + m]
                    kl = z2[k * K + l] + z1[k] * z1[l]
                    mp = z2[m * K + p] + z1[m] * z1[p]
                    less = less + kl * mp
                    less = less + z2[k * K + m] * z2[l * K + p] + z2[k * K + p] * z2[l * K + m]
                    less = less + z1[k] * z1[m] * z2[l * K + p] + z1[k] * z1[p] * z2[l * K + m]
                    less = less + z1[l] * z1[m] * z2[k * K + p] + z1[l] * z1[p] * z2[k * K + m]
                    at = ((k * K + l) * K + m) * K + p
                    z4[at] = z4[at] - less
    mirrored4(K, 0, z4)


def mirrored3(K: int, first: int, z: Numbers) -> None:
    """Copies the entries k ≥ l ≥ m of a symmetric tensor (K, K, K), which begins at
    ``first``, to all others."""
    for k in range(K):
        for l in range(K):
            for m in range(K):
                high = max(max(k, l), m)
                low = min(min(k, l), m)
                at = (high * K + k + l + m - high - low) * K + low
                z[first + (k * K + l) * K + m] = z[first + at]


def mirrored4(K: int, first: int, z: Numbers) -> None:
    """Copies the entries k ≥ l ≥ m ≥ p of a symmetric tensor (K, K, K, K), which begins at
    ``first``, to all others."""
    for k in range(K):
        for l in range(K):
            for m in range(K):
                for p in range(K):
                    one = min(max(k, l), max(m, p))
                    two = max(min(k, l), min(m, p))
                    high = max(max(k, l), max(m, p))
                    low = min(min(k, l), min(m, p))
                    at = ((high * K + max(one, two)) * K + min(one, two)) * K + low
                    z[first + ((k * K + l) * K + m) * K + p] = z[first + at]


def query_noise(
    K: int, N: int, rate: float, support: float, sigma: float, s: Numbers, k2: Numbers,
    k3: Numbers, k4: Numbers, J2: Numbers, I4: Numbers, out: Numbers,
) -> None:  # fmt: skip
    """E[w'_k w'_l (s'ᵀ I4^{kl} s' + σ² J2_kl)] given the head, to ``out`` (pairs,).

    s = (−v, u), v the mean of w' = v + ζ; the cumulants of ζ are (η/P)² P k2, (η/P)³ P k3, … The
    bracket is q0 + q1·ζ + ζᵀ q2 ζ. J2 (pairs,) and I4 (pairs, N, N) are E[D_k D_l] and
    E[D_k D_l G_c G_d].
    """
    c2 = rate * rate / support
    c3 = c2 * rate / support
    c4 = c3 * rate / support
    I4s = empty(N)
    for k in range(K):
        for l in range(k + 1):
            p = pair(k, l)
            q0 = sigma * sigma * J2[p]
            for c in range(N):
                total = 0.0
                for d in range(N):
                    total = total + I4[(p * N + c) * N + d] * s[d]
                I4s[c] = total
                q0 = q0 + total * s[c]
            slope_k = 0.0
            slope_l = 0.0
            both = 0.0
            fourth = 0.0
            for c in range(K):
                first_k = c2 * k2[c * K + k]
                first_l = c2 * k2[c * K + l]
                q1 = -2.0 * I4s[c]
                slope_k = slope_k + q1 * first_k
                slope_l = slope_l + q1 * first_l
                both = both + q1 * c3 * k3[(c * K + k) * K + l]
                for d in range(K):
                    q2 = I4[(p * N + c) * N + d]
                    at = (c * K + d) * K
                    q0 = q0 + q2 * c2 * k2[c * K + d]
                    slope_k = slope_k + q2 * c3 * k3[at + k]
                    slope_l = slope_l + q2 * c3 * k3[at + l]
                    both = both + q2 * 2.0 * c2 * first_k * k2[d * K + l]
                    fourth = fourth + q2 * c4 * k4[(at + k) * K + l]
            here = q0 * (s[k] * s[l] + c2 * k2[k * K + l])
            out[p] = here + both + fourth - slope_k * s[l] - slope_l * s[k]


def support_noise(
    K: int, N: int, rate: float, support: float, query: float, sigma: float, others: float,
    tied: float, w: Numbers, s: Numbers, k2: Numbers, Phi: Numbers, A4: Numbers, out: Numbers,
    X20: Numbers, X11: Numbers, X02: Numbers, X31: Numbers, X22: Numbers, X13: Numbers,
    X42: Numbers, X33: Numbers, X24: Numbers,
) -> None:  # fmt: skip
    """P·E(c_k c_l) over the support given the head, added to ``out`` (pairs,).

    E[Γ_m Γ_q | x_p] = Γ0 + e Γ1·g + e² g·Γ2·g: given the example p, w' is a·z_p (a = η/P) plus the
    share of the ``others``, P − 1 examples, with mean v, s = (−v, u), and covariance a²(P − 1) k2.
    With Γ's own mean over the V queries, E[Γ_m Γ_q | w'] = Σ_cd s'_c s'_d Γ4_mqcd + σ² Φ_mq/V,
    Γ4 = (1−1/V) Φ_mc Φ_qd + A4_mqcd/V. Phi (K, N) and A4 (pairs, N, N) are E[g_k G_a] and
    E[g_m g_q G_c G_d]; Xrq (pairs, K, …, K) is E[D_k D_l e^r g_m…] with q units. ``tied`` is 1;
    the closure takes ``others`` = P and ``tied`` = 0.
    """
    a = rate / support
    G4 = empty((K * (K + 1)) // 2 * N * N)
    G0 = empty((K * (K + 1)) // 2)
    G1 = empty((K * (K + 1)) // 2 * K)
    for m in range(K):
        for q in range(m + 1):
            p = pair(m, q)
            zero = sigma * sigma / query * Phi[m * N + q]
            for c in range(N):
                total = 0.0
                for d in range(N):
                    two = Phi[m * N + c] * Phi[q * N + d] + Phi[m * N + d] * Phi[q * N + c]
                    at = (p * N + c) * N + d
                    G4[at] = 0.5 * (1.0 - 1.0 / query) * two + A4[at] / query
                    total = total + G4[at] * s[d]
                zero = zero + total * s[c]
                if c < K:
                    G1[p * K + c] = -2.0 * tied * a * total
                    for d in range(K):
                        zero = zero + G4[(p * N + c) * N + d] * (a * a * others * k2[c * K + d])
            G0[p] = zero
    second = tied * a * a
    for k in range(K):
        for l in range(k + 1):
            p = pair(k, l)
            square = G0[p] * X20[p]
            plain = 0.0
            cross_k = 0.0
            cross_l = 0.0
            for c in range(K):
                square = square + G1[p * K + c] * X31[p * K + c]
                for d in range(K):
                    at = (p * K + c) * K + d
                    square = square + second * G4[(p * N + c) * N + d] * X42[at]
            for q in range(K):
                here = p * K + q
                kq = pair(k, q)
                lq = pair(l, q)
                cross_k = cross_k + G0[kq] * X11[here]
                cross_l = cross_l + G0[lq] * X11[here]
                for c in range(K):
                    at = here * K + c
                    cross_k = cross_k + G1[kq * K + c] * X22[at]
                    cross_l = cross_l + G1[lq * K + c] * X22[at]
                    for d in range(K):
                        three = second * X33[at * K + d]
                        cross_k = cross_k + G4[(kq * N + c) * N + d] * three
                        cross_l = cross_l + G4[(lq * N + c) * N + d] * three
                for m in range(K):
                    at = here * K + m
                    mq = pair(m, q)
                    plain = plain + G0[mq] * X02[at]
                    for c in range(K):
                        plain = plain + G1[mq * K + c] * X13[at * K + c]
                        for d in range(K):
                            four = second * X24[(at * K + c) * K + d]
                            plain = plain + G4[(mq * N + c) * N + d] * four
            total = square - w[l] * cross_k - w[k] * cross_l + w[k] * w[l] * plain
            out[p] = out[p] + rate * a * total
