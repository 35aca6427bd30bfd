"""A family of flows ẋ = F(x, λ) whose zeros are sought and followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

STABILITY_TOLERANCE = 1e-10
"""A growth rate counts as positive above this share of the largest modulus of an eigenvalue."""


@dataclass(frozen=True)
class SignedPermutation:
    """The linear map (g x)_i = sign_i · x_{index_i}."""

    index: NDArray[np.intp]
    sign: Array

    def __call__(self, x: Array) -> Array:
        """g x, or g applied to every column of a matrix."""
        return (self.sign * x[self.index].T).T


def _no_symmetry(x: Array, parameter: float) -> Sequence[SignedPermutation]:
    return ()


def _always_physical(x: Array, parameter: float) -> float:
    return np.inf


def _one(parameter: float) -> float:
    return 1.0


def _everything(x: Array, parameter: float) -> Array:
    return np.eye(len(x))


def _coincide(x: Array, other: Array, parameter: float) -> bool:
    return bool(np.abs(x - other).max(initial=0.0) <= 1e-6 * (1 + np.abs(x).max(initial=0.0)))


@dataclass(frozen=True)
class Problem:
    """F(x, λ) with its Jacobian, what is physical, and which symmetries it has.

    ``residual`` and ``jacobian`` map (x (n,), λ) to F (n,) and ∂F/∂x (n, n), and
    ``parameter_derivative`` to ∂(F/rate)/∂λ (central differences of fourth order if absent).
    ``margin`` is ≥ 0 where x is physical. ``symmetries`` lists generators of the group that fixes
    x, ``equivalent`` tells whether a symmetry maps one state onto another, ``subspace`` gives an
    orthonormal basis (n, d) of a linear space that contains x and that the flow never leaves.
    ``rate`` (n,) are factors of F that may vanish at some λ, and are divided out when zeros are
    sought. λ is confined to [``lower``, ``upper``]. In a ``discrete`` problem F is the increment of
    a map, x ← x + F.
    """

    residual: Callable[[Array, float], Array]
    jacobian: Callable[[Array, float], Array]
    parameter_derivative: Callable[[Array, float], Array] | None = None
    margin: Callable[[Array, float], float] = _always_physical
    symmetries: Callable[[Array, float], Sequence[SignedPermutation]] = _no_symmetry
    equivalent: Callable[[Array, Array, float], bool] = _coincide
    subspace: Callable[[Array, float], Array] = _everything
    rate: Callable[[float], float | Array] = _one
    discrete: bool = False
    lower: float = -np.inf
    upper: float = np.inf
    name: str = "parameter"

    def scaled_slope(self, x: Array, parameter: float, unit: float) -> Array:
        """∂(F/rate)/∂λ, shape (n,); exact if F/rate is a polynomial of degree up to 3 in λ.

        Central differences of fourth order over 1e-3 of ``unit``; one-sided at a limit of λ.
        """
        if self.parameter_derivative is not None:
            return self.parameter_derivative(x, parameter)
        width = 1e-3 * unit

        def F(offset: int) -> Array:
            at = parameter + offset * width
            return self.residual(x, at) / self.rate(at)

        if parameter - 2 * width < self.lower or parameter + 2 * width > self.upper:
            side = 1 if parameter - 2 * width < self.lower else -1
            total = (
                -25 * F(0) + 48 * F(side) - 36 * F(2 * side) + 16 * F(3 * side) - 3 * F(4 * side)
            )
            return side * total / (12 * width)
        return (8 * (F(1) - F(-1)) - (F(2) - F(-2))) / (12 * width)

    def growth(self, eigenvalues: Spectrum) -> Array:
        """Growth rate of each mode: Re λ of a flow, |1 + λ| − 1 of a map."""
        return np.abs(1 + eigenvalues) - 1 if self.discrete else eigenvalues.real

    def spectrum(self, jacobian: Array) -> Spectrum:
        """The eigenvalues, fastest growing first."""
        values = np.linalg.eigvals(jacobian).astype(complex)
        return values[np.argsort(-self.growth(values), kind="stable")]

    def unstable(self, eigenvalues: Spectrum, neutral: int = 0) -> int:
        """The number of modes that grow, apart from so many that are neutral by themselves."""
        scale = np.abs(eigenvalues).max(initial=0.0)
        moving = moving_modes(eigenvalues, neutral)
        return int((self.growth(moving) > STABILITY_TOLERANCE * scale).sum())

    def invariant(self, x: Array, parameter: float) -> Array:
        """Orthonormal basis (n, d) of the states in ``subspace`` that share the symmetry of x."""
        fixed = invariant_basis(self.symmetries(x, parameter), len(x))
        vectors, cosines, _ = np.linalg.svd(fixed.T @ self.subspace(x, parameter))
        return fixed @ vectors[:, : int((cosines > 1 - 1e-9).sum())]


def moving_modes(eigenvalues: Spectrum, neutral: int) -> Spectrum:
    """All eigenvalues but the ``neutral`` ones of least modulus."""
    return eigenvalues[np.argsort(np.abs(eigenvalues))[neutral:]] if neutral else eigenvalues


def invariant_basis(generators: Sequence[SignedPermutation], size: int) -> Array:
    """Orthonormal basis (size, d) of the vectors that every generator leaves fixed.

    Coordinates are joined into orbits x_i = ±x_j; an orbit that demands x_i = −x_i vanishes.
    """
    member = np.full(size, -1)
    sign = np.ones(size)
    columns: list[Array] = []
    for first in range(size):
        if member[first] >= 0:
            continue
        stack, orbit, consistent = [first], [first], True
        member[first] = len(columns)
        while stack:
            i = stack.pop()
            for g in generators:
                j, s = int(g.index[i]), float(g.sign[i])
                if member[j] < 0:
                    member[j], sign[j] = len(columns), s * sign[i]
                    stack.append(j)
                    orbit.append(j)
                elif sign[j] != s * sign[i]:
                    consistent = False
        column = np.zeros(size)
        if consistent:
            column[orbit] = sign[orbit] / np.sqrt(len(orbit))
        columns.append(column)
    basis = np.array(columns).T.reshape(size, -1)
    return basis[:, np.abs(basis).any(axis=0)]
