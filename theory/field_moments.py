"""Averages of monomials in the units' outputs, plain and weighted by g'_k g'_l, and their slopes.

With G = g(x) over the n = K+M fields and D = g'(h) over the K learner fields, all that a moment
of a learning step can ask for is E[G^α] and E[D_k D_l G^α], α a multi-index. Their derivatives
with respect to C are the same kind of average by Price's theorem, also where C is singular.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from math import factorial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.lattice import Nodes

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Values = NDArray[Any]  # real, or complex in a complex step

CHUNK = 512
"""Nodes handled at a time, so that their monomials stay in the processor's cache."""


class Nonlinearity(Protocol):
    """A unit's g: its value, and its derivatives of the given order, on arrays."""

    def g(self, x: Array, /) -> Array: ...

    def dg(self, x: Array, order: int, /) -> Array: ...


@dataclass(frozen=True)
class Monomials:
    """The monomials G^α in n variables, degree by degree, and how to move between them."""

    variables: int
    degree: int

    @cached_property
    def exponents(self) -> tuple[Index, ...]:
        """α of every monomial, (J_d, n) for each degree d, in lexicographic order."""
        rows = []
        for d in range(self.degree + 1):
            picks = combinations_with_replacement(range(self.variables), d)
            rows.append(
                np.array(
                    [
                        np.bincount(p, minlength=self.variables)
                        if p
                        else np.zeros(self.variables, np.intp)
                        for p in picks
                    ]
                )
            )
        return tuple(rows)

    @cached_property
    def _places(self) -> tuple[dict[tuple[int, ...], int], ...]:
        return tuple({tuple(a): i for i, a in enumerate(rows)} for rows in self.exponents)

    @cached_property
    def raised(self) -> tuple[Index, ...]:
        """Place of α + e_a among the next degree's monomials, (J_d, n) for d < degree."""
        unit = np.eye(self.variables, dtype=np.intp)
        return tuple(
            np.array([[self._places[d + 1][tuple(a + e)] for e in unit] for a in rows])
            for d, rows in enumerate(self.exponents[:-1])
        )

    @cached_property
    def lowered(self) -> tuple[Index, ...]:
        """Place of α − e_a among the degree below, (J_d, n); 0 where α_a = 0."""
        unit = np.eye(self.variables, dtype=np.intp)
        places = ({}, *self._places[:-1])
        return tuple(
            np.array([[places[d].get(tuple(a - e), 0) for e in unit] for a in rows])
            for d, rows in enumerate(self.exponents)
        )

    @cached_property
    def multinomials(self) -> tuple[Array, ...]:
        """d!/Πα_a!, so that (s·G)^d = Σ_α multinomial · s^α G^α."""
        factorials = np.array([factorial(d) for d in range(self.degree + 1)], float)
        return tuple(factorials[d] / factorials[a].prod(1) for d, a in enumerate(self.exponents))

    @cached_property
    def _halves(self) -> tuple[tuple[Index, Index], ...]:
        """Places of two monomials, of degrees d // 2 and d − d // 2, whose product is each G^α."""
        found = []
        for d, rows in enumerate(self.exponents):
            flat = [np.repeat(np.arange(self.variables), a) for a in rows]
            unit = np.eye(self.variables, dtype=np.intp)
            parts = [[unit[v].sum(axis=0) for v in (f[: d // 2], f[d // 2 :])] for f in flat]
            left = [self._places[d // 2][tuple(p)] for p, _ in parts]
            right = [self._places[d - d // 2][tuple(q)] for _, q in parts]
            found.append((np.array(left), np.array(right)))
        return tuple(found)

    def evaluate(self, G: Values, degrees: Iterable[int]) -> dict[int, Values]:
        """G^α for G (n, …): an array (J_d, …) for every degree d asked for."""
        values: dict[int, Values] = {0: np.ones((1, *G.shape[1:]), G.dtype), 1: G}

        def value(d: int) -> Values:
            if d not in values:
                left, right = self._halves[d]
                values[d] = value(d // 2)[left] * value(d - d // 2)[right]
            return values[d]

        return {d: value(d) for d in degrees}

    def tensor(self, degree: int, learners: int, rank: int) -> Index:
        """Places of α + e_k + e_l + …, (J_degree, K, …, K) with ``rank`` learner indices."""
        places = np.arange(len(self.exponents[degree]))
        for d in range(degree, degree + rank):
            places = self.raised[d][places][..., :learners]
        return places


@lru_cache
def monomials(variables: int, degree: int) -> Monomials:
    """The one table of monomials of this size."""
    return Monomials(variables, degree)


@dataclass(frozen=True)
class Moments:
    """E[G^α] (…, J_d) and E[D_k D_l G^α] (…, K(K+1)/2, J_d), keyed by the even degree d."""

    plain: dict[int, Array]
    paired: dict[int, Array]


def pairs(K: int) -> tuple[Index, Index]:
    """The pairs k ≤ l in the order in which ``Moments.paired`` holds them."""
    return np.triu_indices(K)


def moments(nodes: Nodes, activation: Nonlinearity, K: int, *, plain: int, paired: int) -> Moments:
    """All averages up to the even degrees ``plain`` and ``paired``."""
    sums = _sums(nodes, activation, K, plain, paired, slopes=False)
    return Moments(_keyed(sums, "1", 0), _keyed(sums, "DD"))


def moments_and_slopes(
    nodes: Nodes, activation: Nonlinearity, K: int, *, plain: int, paired: int
) -> tuple[Moments, Moments]:
    """The averages, and ½E[∂_a∂_b …] over the pairs a ≤ b of fields on a leading axis.

    This half of the second derivative is ∂/∂C_ab in the convention dE = Σ_ab (∂E/∂C_ab) dC_ab
    over all ordered entries (Price). The activation needs three derivatives.
    """
    n = len(nodes.x)
    sums = _sums(nodes, activation, K, plain, paired, slopes=True)
    value = Moments(_keyed(sums, "1", 0), _keyed(sums, "DD"))
    table = monomials(n, plain)
    k, l = pairs(K)
    slope_plain = {d: np.zeros((n * (n + 1) // 2, *e.shape)) for d, e in value.plain.items()}
    slope_paired = {d: np.zeros((n * (n + 1) // 2, *e.shape)) for d, e in value.paired.items()}
    for i, (a, b) in enumerate(zip(*np.triu_indices(n), strict=True)):
        same = a == b
        for d, slope in slope_plain.items():
            down = _Lowering(table, d)
            slope[i] = down.twice(sums["11"], i, a, b)
            if same:
                slope[i] += down.once(sums["2"], a, a)
        for d, slope in slope_paired.items():
            down = _Lowering(table, d)
            slope[i] = down.twice(sums["DD11"], i, a, b)
            if same:
                slope[i] += down.once(sums["DD2"], a, a)
            for c, e in ((a, b), (b, a)):  # ∂_c on the weight, ∂_e on the monomial
                if c < K:
                    slope[i] += down.once(sums["dDD1"], c * n + e, e)
            if b < K:
                slope[i] += sums["ddDD"][d][a * K + b]
    for slope in (*slope_plain.values(), *slope_paired.values()):
        slope *= 0.5
    return value, Moments(slope_plain, slope_paired)


@dataclass(frozen=True)
class _Lowering:
    """Derivatives of the monomials of one degree, read off sums over lower degrees."""

    table: Monomials
    degree: int

    def once(self, sums: dict[int, Array], row: int, a: int) -> Array | float:
        """∂G^α/∂G_a = α_a G^(α−a)."""
        if self.degree < 1:
            return 0.0
        alpha = self.table.exponents[self.degree][:, a]
        return alpha * sums[self.degree - 1][row][..., self.table.lowered[self.degree][:, a]]

    def twice(self, sums: dict[int, Array], row: int, a: int, b: int) -> Array | float:
        """∂²G^α/∂G_a∂G_b = α_a (α_b − δ_ab) G^(α−a−b)."""
        if self.degree < 2:
            return 0.0
        alpha = self.table.exponents[self.degree]
        factor = alpha[:, a] * (alpha[:, b] - (a == b))
        place = self.table.lowered[self.degree][:, a]
        place = self.table.lowered[self.degree - 1][place, b]
        return factor * sums[self.degree - 2][row][..., place]


Sums = dict[str, dict[int, Array]]


def _keyed(sums: Sums, name: str, row: int | None = None) -> dict[int, Array]:
    return {d: (s if row is None else s[row]) for d, s in sums[name].items()}


def _sums(
    nodes: Nodes, activation: Nonlinearity, K: int, plain: int, paired: int, *, slopes: bool
) -> Sums:
    """Averages of every weight of ``_weights`` times the monomials of the degrees it needs."""
    table = monomials(len(nodes.x), plain)
    degrees = {"1": range(0, plain + 1, 2), "DD": range(0, paired + 1, 2)}
    if slopes:
        degrees |= {
            "11": range(0, plain - 1, 2),
            "2": range(1, plain, 2),
            "DD11": range(0, paired - 1, 2),
            "DD2": range(1, paired, 2),
            "dDD1": range(1, paired, 2),
            "ddDD": range(0, paired + 1, 2),
        }
    needed = set().union(*degrees.values())
    total: Sums = {name: dict.fromkeys(ds, np.zeros(())) for name, ds in degrees.items()}
    for start in range(0, nodes.x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        x, weight = nodes.x[:, part], nodes.weight[part]
        values = table.evaluate(activation.g(x), needed)
        for name, factor in _weights(x, activation, K, slopes=slopes).items():
            flat = (factor * weight).reshape(-1, x.shape[1])
            for d in degrees[name]:
                product = (flat @ values[d].T).reshape(*factor.shape[:-1], -1)
                total[name][d] = total[name][d] + product
    return total


def _weights(x: Array, activation: Nonlinearity, K: int, *, slopes: bool) -> dict[str, Array]:
    """The factors that multiply a monomial: rows × (pairs k ≤ l) × nodes.

    1; DD = g'_k g'_l; 11 = g'_a g'_b over a ≤ b; 2 = g''_a; DD11 and DD2 their products;
    dDD1 = ∂_c(g'_k g'_l) g'_e, row c·n + e; ddDD = ∂_c∂_e(g'_k g'_l), row c·K + e.
    """
    n = len(x)
    k, l = pairs(K)
    if not slopes:
        first = activation.dg(x[:K], 1)
        return {"1": np.ones((1, x.shape[1])), "DD": first[k] * first[l]}
    first, second = activation.dg(x, 1), activation.dg(x, 2)
    third = activation.dg(x[:K], 3)
    DD = first[k] * first[l]
    a, b = np.triu_indices(n)
    unit = np.eye(K)
    at_k, at_l = unit[:, k, None], unit[:, l, None]  # (K, pairs, 1)
    dDD = at_k * (second[k] * first[l]) + at_l * (first[k] * second[l])
    both = at_k[:, None] * at_l[None] + at_l[:, None] * at_k[None]
    ddDD = both * (second[k] * second[l])
    ddDD += at_k[:, None] * at_k[None] * (third[k] * first[l])
    ddDD += at_l[:, None] * at_l[None] * (first[k] * third[l])
    return {
        "1": np.ones((1, x.shape[1])),
        "DD": DD,
        "11": first[a] * first[b],
        "2": second,
        "DD11": (first[a] * first[b])[:, None] * DD,
        "DD2": second[:, None] * DD,
        "dDD1": (dDD[:, None] * first[:, None]).reshape(K * n, len(k), -1),
        "ddDD": ddDD.reshape(K * K, len(k), -1),
    }
