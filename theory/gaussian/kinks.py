"""Averages of activations with kinks, whose closed forms are singular where fields coincide.

Closed forms of relu averages hold √(C_ii C_jj − C_ij²) below fractions and in angles. Where two
slots name the same field the average is another one, of fewer fields: it has its own closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from theory.activations import Activation
from theory.averages import closed_form

Signature = tuple[tuple[int, ...], ...]


def average(
    signature: Signature, activation: Activation, *entries: ArrayLike
) -> NDArray[np.float64]:
    """⟨Π g^(r)(x_i)⟩ by closed form, for arrays of covariances given by their upper triangle.

    Slots are the same field where their variances and their covariance are equal. Accuracy: that
    of the closed form, which loses digits like the square root of 1 − |correlation|.
    """
    values = np.broadcast_arrays(*(np.asarray(e, float) for e in entries))
    n, shape = len(signature), values[0].shape
    flat = [v.ravel() for v in values]
    at = {pair: i for i, pair in enumerate((i, j) for i in range(n) for j in range(i, n))}
    first = np.tile(np.arange(n)[:, None], flat[0].size)
    for i, j in combinations(range(n), 2):
        same = (flat[at[i, j]] == flat[at[i, i]]) & (flat[at[i, j]] == flat[at[j, j]])
        first[j] = np.where(same & (first[j] == j), first[i], first[j])
    result = np.empty(flat[0].size)
    patterns, which = np.unique(first, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        here = which.ravel() == number
        function = _function(signature, activation, tuple(int(i) for i in pattern))
        result[here] = function(*(v[here] for v in flat))
    return result.reshape(shape)


@cache
def _function(
    signature: Signature, activation: Activation, pattern: tuple[int, ...]
) -> Callable[..., Any]:
    """The closed form for slots that coincide with the slots ``pattern`` names, as a function."""
    from theory.gaussian.plackett import sign_moment

    n = len(signature)
    names = {(i, j): sympy.Symbol(f"C{i}{j}", real=True) for i in range(n) for j in range(i, n)}

    def covariance(i: int, j: int) -> sympy.Symbol:
        a, b = sorted((pattern[i], pattern[j]))
        return names[a, b]

    form = closed_form(signature, activation, sympy.Matrix(n, n, covariance))
    return sympy.lambdify(
        list(names.values()), form, modules=[{"SignMoment": sign_moment}, "numpy"], cse=True
    )
