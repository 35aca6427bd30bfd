"""The Symbols of the Gaussian averages, and the order in which covariances are written down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from math import isqrt
from typing import Any

import sympy
from sympy import Expr, Symbol

X = Symbol("x", real=True)
"""The argument of every activation."""


@cache
def pairs(n: int) -> tuple[tuple[int, int], ...]:
    """Pairs i ≤ j of n fields, in the order of the upper triangle, row by row.

    >>> pairs(2)
    ((0, 0), (0, 1), (1, 1))
    """
    return tuple(combinations_with_replacement(range(n), 2))


def fields_of(entries: int) -> int:
    """n, from the n(n+1)/2 entries of the upper triangle."""
    n = (isqrt(8 * entries + 1) - 1) // 2
    if n * (n + 1) // 2 != entries:
        raise ValueError(f"{entries} is not the number of entries of an upper triangle")
    return n


@cache
def covariance_symbols(n: int) -> sympy.ImmutableMatrix:
    """The covariance (n, n) of the fields x_1 … x_n as symbols C_11, C_12, …"""
    entries = [
        Symbol(f"C{i + 1}{j + 1}", nonnegative=True) if i == j
        else Symbol(f"C{i + 1}{j + 1}", real=True)
        for i, j in pairs(n)
    ]  # fmt: skip
    return matrix_of(entries)


def matrix_of(entries: Sequence[Any]) -> sympy.ImmutableMatrix:
    """The symmetric matrix whose upper triangle, row by row, is given."""
    n = fields_of(len(entries))
    at = dict(zip(pairs(n), entries, strict=True))
    return sympy.ImmutableMatrix(n, n, lambda i, j: at[min(i, j), max(i, j)])


def upper_triangle(matrix: sympy.MatrixBase) -> tuple[Expr, ...]:
    """The upper triangle of a symmetric matrix, row by row."""
    return tuple(matrix[i, j] for i, j in pairs(matrix.rows))
