"""E[sign(y_1) … sign(y_n)] of correlated Gaussians, n ≤ 6: one smooth quadrature (Plackett)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import mpmath
import sympy
from sympy import Expr, Function, S, asin, pi, sqrt

from theory.errors import DomainError


def signs_of(arguments: int) -> int:
    """n, from the n(n−1)/2 correlations."""
    for n in (2, 4, 6):
        if n * (n - 1) // 2 == arguments:
            return n
    raise ValueError(f"{arguments} is not the number of correlations of 2, 4 or 6 fields")


def correlation_matrix(correlations: Any) -> sympy.Matrix:
    """The symmetric matrix with unit diagonal from its upper triangle, row by row."""
    n = signs_of(len(correlations))
    at = dict(zip(combinations(range(n), 2), correlations, strict=True))
    return sympy.Matrix(n, n, lambda i, j: S.One if i == j else at[min(i, j), max(i, j)])


class SignMoment(Function):
    r"""A_n(ρ_12, ρ_13, …) = E[sign(y_1) … sign(y_n)], y_i standard normal with correlations ρ_ij.

    With y_i = x_i + √a z_i it is E[Π erf(x_i/√2a)]: A_4 and A_6 of erf networks have
    ρ_ij = C_ij/√((1+C_ii)(1+C_jj)), those of relu networks a = 0. Two signs are an arcsine.

    Derivative (Plackett 1954): ∂A_n/∂ρ_ij = (2/π)(1−ρ_ij²)^(−1/2) A_{n−2}(given y_i = y_j = 0).
    ``evalf`` integrates that along ρ_1j → tρ_1j, to any precision.
    """

    @classmethod
    def eval(cls, *correlations: Expr) -> Expr | None:
        n = signs_of(len(correlations))
        if n == 2:
            return 2 / pi * asin(correlations[0])
        matrix = correlation_matrix(correlations)
        if any(all(matrix[i, j] == 0 for j in range(n) if j != i) for i in range(n)):
            return S.Zero
        for i, j in combinations(range(n), 2):
            if matrix[i, j] in (S.One, S.NegativeOne):
                left = [k for k in range(n) if k not in (i, j)]
                return matrix[i, j] * cls(*(matrix[a, b] for a, b in combinations(left, 2)))
        return None

    def fdiff(self, argindex: int = 1) -> Expr:
        n = signs_of(len(self.args))
        matrix = correlation_matrix(self.args)
        i, j = list(combinations(range(n), 2))[argindex - 1]
        left = [k for k in range(n) if k not in (i, j)]
        rho = matrix[i, j]

        def given(a: int, b: int) -> Expr:
            """(1−ρ²) × the covariance of y_a and y_b given y_i = y_j = 0."""
            cross = matrix[a, i] * matrix[b, i] + matrix[a, j] * matrix[b, j]
            mixed = matrix[a, i] * matrix[b, j] + matrix[a, j] * matrix[b, i]
            return (1 - rho**2) * matrix[a, b] - cross + rho * mixed

        conditional = (given(a, b) / sqrt(given(a, a) * given(b, b))
                       for a, b in combinations(left, 2))  # fmt: skip
        return 2 / pi / sqrt(1 - rho**2) * SignMoment(*conditional)

    def _eval_evalf(self, prec: int) -> Expr | None:
        values = [argument._eval_evalf(prec + 30) for argument in self.args]
        if not all(value is not None and value.is_Number for value in values):
            return None
        with mpmath.workprec(prec + 20):
            numbers = [mpmath.mpmathify(value._to_mpmath(prec + 20)) for value in values]
            result = sign_moment(numbers)
        return Expr._from_mpmath(result, prec)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        arguments = ", ".join(printer._print(argument) for argument in self.args)
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"A_{{{signs_of(len(self.args))}}}{power}\left({arguments}\right)"


def sign_moment(correlations: Any) -> Any:
    """A_n in the working precision of mpmath; correlations row by row.

    Raises: DomainError for a matrix that is no correlation matrix.
    """
    n = signs_of(len(correlations))
    M = mpmath.eye(n)
    for (i, j), rho in zip(combinations(range(n), 2), correlations, strict=True):
        M[i, j] = M[j, i] = rho
    slack = mpmath.mpf(2) ** (-mpmath.mp.prec // 2)
    if min(mpmath.eigsy(M, eigvals_only=True)) < -slack:
        raise DomainError(f"not a correlation matrix: {M}")
    return _moment(M)


def _moment(M: Any) -> Any:
    """E[Π sign(y_i)], y ~ N(0, M), M (n, n) positive semidefinite."""
    n = M.rows
    if n == 0:
        return mpmath.mpf(1)
    if n == 2:
        rest = M[0, 0] * M[1, 1] - M[0, 1] ** 2
        return 2 / mpmath.pi * mpmath.atan2(M[0, 1], mpmath.sqrt(max(rest, 0)))
    others = range(1, n)
    block = M[1:, 1:]
    row = mpmath.matrix([M[0, j] for j in others])
    if not any(row):
        return mpmath.mpf(0)
    explained = (row.T * _solve(block, row))[0] / M[0, 0]
    radius = mpmath.sqrt(min(explained, 1))

    def integrand(angle: Any) -> Any:
        """t = sin(angle)/R: the singularity nearest to the path, t = 1/R, is moved to π/2."""
        t = mpmath.sin(angle) / radius
        total = mpmath.mpf(0)
        for j in others:
            pivot = M[0, 0] * M[j, j] - (t * M[0, j]) ** 2
            left = [k for k in others if k != j]
            given = mpmath.matrix(n - 2)
            for p, a in enumerate(left):
                for q, b in enumerate(left):
                    cross = M[j, j] * t**2 * M[a, 0] * M[b, 0] + M[0, 0] * M[a, j] * M[b, j]
                    mixed = t**2 * M[0, j] * (M[a, 0] * M[b, j] + M[a, j] * M[b, 0])
                    given[p, q] = M[a, b] - (cross - mixed) / pivot
            total += M[0, j] / mpmath.sqrt(pivot) * _moment(given)
        return total * mpmath.cos(angle) / radius

    return 2 / mpmath.pi * mpmath.quad(integrand, [0, mpmath.asin(radius)])


def _solve(block: Any, row: Any) -> Any:
    """block⁻¹ row, in the least-squares sense if block is singular."""
    values, vectors = mpmath.eigsy(block)
    scale = max(values) * mpmath.mpf(2) ** (-mpmath.mp.prec // 2)
    projected = vectors.T * row
    for i in range(len(values)):
        projected[i] = projected[i] / values[i] if values[i] > scale else mpmath.mpf(0)
    return vectors * projected
