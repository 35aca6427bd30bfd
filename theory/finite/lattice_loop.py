"""The lattice of theory.finite.lattice as loops, in the subset of theory.generation.native."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

from theory.finite.block_sums import BLOCK, add_block
from theory.finite.head_noise import empty
from theory.finite.lattice import (
    BALLS,
    BUDGET,
    CLOSER,
    LARGEST,
    RADIUS,
    SHARE,
    STEP,
    WIDER,
    excess_of,
)

Numbers = Any


def eigen(N: int, A: Numbers, values: Numbers, vectors: Numbers) -> None:
    """Eigenvalues (N,) and vectors (N, N), in columns, of a symmetric A (N, N), which is spent.

    Jacobi's rotations, in cycles, until nothing is left off the diagonal.
    """
    for i in range(N):
        for j in range(N):
            vectors[i * N + j] = 0.0
        vectors[i * N + i] = 1.0
    left = 1.0
    cycles = 0
    while left > 1e-30 and cycles < 30:
        cycles = cycles + 1
        for q in range(N):
            for p in range(q):
                off = A[p * N + q]
                if abs(off) > 1e-200:
                    theta = 0.5 * (A[q * N + q] - A[p * N + p]) / off
                    t = 1.0 / (abs(theta) + sqrt(theta * theta + 1.0))
                    t = t if theta >= 0.0 else -t
                    c = 1.0 / sqrt(t * t + 1.0)
                    s = t * c
                    for i in range(N):
                        one = A[i * N + p]
                        two = A[i * N + q]
                        A[i * N + p] = c * one - s * two
                        A[i * N + q] = s * one + c * two
                    for i in range(N):
                        one = A[p * N + i]
                        two = A[q * N + i]
                        A[p * N + i] = c * one - s * two
                        A[q * N + i] = s * one + c * two
                    for i in range(N):
                        one = vectors[i * N + p]
                        two = vectors[i * N + q]
                        vectors[i * N + p] = c * one - s * two
                        vectors[i * N + q] = s * one + c * two
        left = 0.0
        size = 1e-300
        for i in range(N):
            for j in range(N):
                square = A[i * N + j] * A[i * N + j]
                size = size + square
                left = left + (square if i < j else 0.0)
        left = left / size
    for i in range(N):
        values[i] = A[i * N + i]


def lattice_sums(
    K: int, M: int, N: int, drawn: int, C: Numbers, w: Numbers, heads: Numbers, sigma: float,
    exact: float, check: float, sums: Numbers,
) -> None:  # fmt: skip
    """Adds what theory.finite.block_sums sums up, over the lattice of the covariance C (N, N).

    Odd g: one of x and −x is kept. ``check`` is 1 for the independent rule, else 0. Sums
    are NaN where an eigenvalue of C lies below −1e-8 Tr C, or C is not finite.
    """
    values = empty(N)
    resolved = empty(N)
    vectors = empty(N * N)
    spent = empty(N * N)
    root = empty(N * N)
    U = empty(N * N)
    for i in range(N * N):
        spent[i] = C[i]
    eigen(N, spent, values, vectors)
    trace = 0.0
    least = values[0]
    volume = 1.0
    for i in range(N):
        trace = trace + values[i]
        least = min(least, values[i])
        values[i] = max(values[i], 0.0)
        resolved[i] = 1.0 + values[i] / (1.0 + values[i] / LARGEST)
        volume = volume * resolved[i]
    none = 0.0 if least >= -1e-8 * trace and trace < 1e150 else 1.0
    sums[0] = 0.0 / (1.0 - none)
    radius = RADIUS * (1.0 + check * (WIDER - 1.0))
    step = STEP * (1.0 + check * (CLOSER - 1.0))
    ball = BALLS[N] * (radius / step) ** N
    excess = excess_of(ball, N, 0.0, sqrt(volume), BUDGET * (1.0 + check))
    radius = radius / excess**SHARE
    h = step * excess ** (1.0 - SHARE) / sqrt(2.0)
    for i in range(N):
        for j in range(N):
            at_root = 0.0
            at_metric = 0.0
            for p in range(N):
                product = vectors[i * N + p] * vectors[j * N + p] / resolved[p]
                at_metric = at_metric + product
                at_root = at_root + product * sqrt(values[p] * resolved[p])
            root[i * N + j] = h * at_root
            U[i * N + j] = at_metric
    # the metric U becomes its triangular factor: metric = UᵀU
    for i in range(N):
        for j in range(i, N):
            total = U[i * N + j]
            for p in range(i):
                total = total - U[p * N + i] * U[p * N + j]
            U[i * N + j] = sqrt(total) if i == j else total / U[i * N + i]
    for odd in range(2 - 2 * int(none)):
        walk(K, M, N, drawn, odd, check, h, radius, U, root, w, heads, sigma, exact, sums)


def walk(
    K: int, M: int, N: int, drawn: int, odd: float, check: float, h: float, radius: float,
    U: Numbers, root: Numbers, w: Numbers, heads: Numbers, sigma: float, exact: float,
    sums: Numbers,
) -> None:  # fmt: skip
    """The nodes x = root·k over the integer k ≡ odd mod 2 with h² |U k|² ≤ radius², in blocks.

    As ``theory.finite.lattice._points``, from the last coordinate to the first, which runs along
    lines. On the lattice that checks, the first half of the coordinates has the other parity.
    """
    x = empty(N * BLOCK)
    square = empty(BLOCK)
    share = empty(BLOCK)
    k = empty(N)
    centre = empty(N)
    top = empty(N)
    left = empty(N + 1)
    sole = empty(N + 1)
    from_above = empty((N + 1) * N)
    bound = (radius / h) * (radius / h)
    left[N] = bound
    sole[N] = 1.0
    for a in range(N):
        from_above[N * N + a] = 0.0
    count = 0
    level = N - 1
    entering = 1.0
    while level < N:
        if entering > 0.5:
            entering = 0.0
            middle = 0.0
            for j in range(level + 1, N):
                middle = middle - U[level * N + j] * k[j]
            middle = middle / U[level * N + level]
            width = sqrt(left[level + 1]) / U[level * N + level]
            low = middle - width
            low = max(low, 0.0) if sole[level + 1] > 0.5 else low
            parity = 1.0 - odd if check > 0.5 and 2 * level < N else odd
            first = parity + 2.0 * ceil(0.5 * (low - parity))
            centre[level] = middle
            top[level] = middle + width
            k[level] = first - 2.0
            if level == 0:
                for j in range(int(max(0.5 * (top[0] - first), -1.0) + 1.0)):
                    here = first + 2.0 * j
                    gap = U[0] * (here - middle)
                    for a in range(N):
                        x[a * BLOCK + count] = from_above[N + a] + root[a * N] * here
                    square[count] = h * h * (bound - max(left[1] - gap * gap, 0.0))
                    share[count] = 0.5 if sole[1] > 0.5 and here == 0.0 else 1.0
                    count = count + 1
                    if count == BLOCK:
                        add_block(
                            K, M, N, drawn, x, square, share, radius, w, heads, sigma, exact, sums
                        )
                        count = 0
        if level == 0:
            level = 1
        else:
            k[level] = k[level] + 2.0
            if k[level] > top[level]:
                level = level + 1
            else:
                gap = U[level * N + level] * (k[level] - centre[level])
                left[level] = max(left[level + 1] - gap * gap, 0.0)
                sole[level] = sole[level + 1] if k[level] == 0.0 else 0.0
                for a in range(N):
                    point = from_above[(level + 1) * N + a] + root[a * N + level] * k[level]
                    from_above[level * N + a] = point
                level = level - 1
                entering = 1.0
    if count > 0:
        for i in range(count, BLOCK):
            share[i] = 0.0
            square[i] = 0.0
            for a in range(N):
                x[a * BLOCK + i] = 0.0
        add_block(K, M, N, drawn, x, square, share, radius, w, heads, sigma, exact, sums)
