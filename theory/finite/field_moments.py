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
from math import comb, factorial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.finite.lattice import Nodes

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Values = NDArray[Any]  # real, or complex in a complex step

DEGREE = 8
"""The highest degree: E[e⁴ g_k g_l g_m g_n]."""
CHUNK = 1024
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
        rows, unit = [], np.eye(self.variables, dtype=np.intp)
        for d in range(self.degree + 1):
            picks = combinations_with_replacement(range(self.variables), d)
            rows.append(np.array([unit[list(p)].sum(axis=0) for p in picks]))
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

    def evaluate(self, G: Values, degrees: Iterable[int]) -> dict[int, Values]:
        """G^α for G (n, …): an array (J_d, …) for every degree d asked for.

        Those with G_v as first factor are G_v times the last ones of the degree below, which hold
        no factor before v.
        """
        values = {0: np.ones((1, *G.shape[1:]), G.dtype), 1: G}
        for d in range(2, max(degrees, default=0) + 1):
            below = values[d - 1]
            values[d] = np.empty((len(self.exponents[d]), *G.shape[1:]), G.dtype)
            start = 0
            for v, factor in enumerate(G):
                number = comb(self.variables - v + d - 2, d - 1)
                np.multiply(factor, below[-number:], out=values[d][start : start + number])
                start += number
        return {d: values[d] for d in degrees}

    def tensor(self, degree: int, learners: int, rank: int) -> Index:
        """Places of α + e_k + e_l + …, (J_degree, K, …, K) with ``rank`` learner indices."""
        places = np.arange(len(self.exponents[degree]))
        for d in range(degree, degree + rank):
            places = self.raised[d][places][..., :learners]
        return places

    def own(self, learners: int, degree: int) -> Index:
        """Places of the monomials in the first K variables alone."""
        return np.flatnonzero(~self.exponents[degree][:, learners:].any(axis=1))

    def products(self, left: int, learners: int, right: int) -> Index:
        """Places of α + κ, κ of degree ``right`` in the first K variables: (J_κ, J_left)."""
        places = np.arange(len(self.exponents[left]))
        rows = []
        for picks in combinations_with_replacement(range(learners), right):
            row = places
            for d, pick in enumerate(picks):
                row = self.raised[left + d][row, pick]
            rows.append(row)
        return np.array(rows)


@lru_cache
def monomials(variables: int, degree: int) -> Monomials:
    """The one table of monomials of this size."""
    return Monomials(variables, degree)


@dataclass(frozen=True)
class Moments:
    """E[G^α] (…, J_d) and E[D_k D_l G^α] (…, K(K+1)/2, J_d), keyed by the even degree d.

    Held are those α with as many learner factors as ``PLAIN`` and ``PAIRED`` say, else zero.
    """

    plain: dict[int, Array]
    paired: dict[int, Array]


PLAIN = {0: 0, 2: 1, 4: 2, 6: 3, 8: 4}
"""Learner factors that every E[G^α] of a degree has: it stems from a power of z = e·g(h)."""
PAIRED = {0: 0, 2: 0, 4: 1, 6: 2}
"""Learner factors of E[D_k D_l G^α]."""


@lru_cache
def pairs(K: int) -> tuple[Index, Index]:
    """The pairs k ≤ l in the order in which ``Moments.paired`` holds them."""
    return np.triu_indices(K)


def moments(nodes: Nodes, activation: Nonlinearity, K: int, *, plain: int, paired: int) -> Moments:
    """All averages up to the even degrees ``plain`` and ``paired``."""
    return _moments(_sums(nodes, activation, K, _factors(plain, paired)))


def moments_and_slopes(
    nodes: Nodes, activation: Nonlinearity, K: int, *, plain: int, paired: int
) -> tuple[Moments, Moments]:
    """The averages, and ½E[∂_a∂_b …] over the pairs a ≤ b of fields on a leading axis.

    This half of the second derivative is ∂/∂C_ab in the convention dE = Σ_ab (∂E/∂C_ab) dC_ab
    over all ordered entries (Price). The activation needs three derivatives.
    """
    n = len(nodes.x)
    factors = _factors(plain, paired)
    sums = _sums(nodes, activation, K, factors | _factors_of_slopes(factors))
    value = _moments(sums)
    table = monomials(n, DEGREE)
    k, l = pairs(K)
    rows = n * (n + 1) // 2
    slope = Moments(
        {d: np.zeros((rows, *e.shape)) for d, e in value.plain.items()},
        {d: np.zeros((rows, *e.shape)) for d, e in value.paired.items()},
    )
    fields = [(int(a), int(b)) for a, b in zip(*np.triu_indices(n), strict=True)]
    for i, (a, b) in enumerate(fields):
        for d, change in slope.plain.items():
            down = _Lowering(table, d)
            change[i] += down.twice(sums["11"], i, a, b)
            if a == b:
                change[i] += down.once(sums["2"], a, a)
        for d, change in slope.paired.items():
            down = _Lowering(table, d)
            change[i] += down.twice(sums["DD11"], i, a, b)
            if a == b:
                change[i] += down.once(sums["DD2"], a, a)
            for c, e in ((a, b), (b, a)):  # ∂_c on the weight, ∂_e on the monomial
                change[i] += (k == c)[:, None] * down.once(sums["dD D1"], e, e)
                change[i] += (l == c)[:, None] * down.once(sums["D dD1"], e, e)
            change[i] += ((k == a) & (k == b))[:, None] * sums["ddDD"][d][0]
            change[i] += ((l == a) & (l == b))[:, None] * sums["ddDD"][d][1]
            crossed = 1 * ((k == a) & (l == b)) + ((k == b) & (l == a))
            change[i] += crossed[:, None] * sums["ddDD"][d][2]
    for change in (*slope.plain.values(), *slope.paired.values()):
        change *= 0.5
    return value, slope


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
Factors = dict[str, dict[int, int]]


def _moments(sums: Sums) -> Moments:
    return Moments({d: e[0] for d, e in sums["1"].items()}, sums["DD"])


def _sums(nodes: Nodes, activation: Nonlinearity, K: int, factors: Factors) -> Sums:
    """Averages of the weights of ``_weights`` times the monomials of the degrees asked for.

    G^α is split into κ, of learner factors alone, and the rest, so that the sum over nodes is one
    matrix product per weight and degree.
    """
    table = monomials(len(nodes.x), DEGREE)
    degrees = {part for need in factors.values() for d, c in need.items() for part in (d - c, c)}
    own = {d: table.own(K, d) for d in degrees}
    total: dict[tuple[str, int], Any] = {}
    for start in range(0, nodes.x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        x, weight = nodes.x[:, part], nodes.weight[part]
        values = table.evaluate(activation.g(x), degrees)
        learner = {d: values[d][own[d]] for d in degrees}
        for name, factor in _weights(x, activation, K, factors).items():
            weighted, left = factor * weight, {}
            for d, c in factors[name].items():
                if c not in left:
                    part = weighted[..., None, :] * learner[c] if c else weighted
                    left[c] = part.reshape(-1, x.shape[1])
                product = (left[c] @ values[d - c].T).reshape(*factor.shape[:-1], -1)
                total[name, d] = total.get((name, d), 0.0) + product
    sums: Sums = {name: {} for name in factors}
    for (name, d), value in total.items():
        c = factors[name][d]
        sums[name][d] = np.zeros((*value.shape[:-1], len(table.exponents[d])))
        sums[name][d][..., table.products(d - c, K, c).ravel()] = value
    return sums


def _factors(plain: int, paired: int) -> Factors:
    """For every weight, the degrees of its monomials and the learner factors they surely have."""
    return {
        "1": {d: c for d, c in PLAIN.items() if d <= plain},
        "DD": {d: c for d, c in PAIRED.items() if d <= paired},
    }


def _factors_of_slopes(factors: Factors) -> Factors:
    """The same for what second derivatives with respect to two fields need besides."""

    def less(name: str, by: int) -> dict[int, int]:
        return {d - by: max(c - by, 0) for d, c in factors[name].items() if d >= by}

    return {
        "11": less("1", 2),
        "2": less("1", 1),
        "DD11": less("DD", 2),
        "DD2": less("DD", 1),
        "dD D1": less("DD", 1),
        "D dD1": less("DD", 1),
        "ddDD": factors["DD"],
    }


def _weights(x: Array, activation: Nonlinearity, K: int, factors: Factors) -> dict[str, Array]:
    """The factors that multiply a monomial: (rows ×) (pairs k ≤ l ×) nodes.

    With D, dD, ddD the derivatives of g of order 1, 2, 3: 1; DD = D_k D_l; 11 = D_a D_b over
    a ≤ b; 2 = dD_a; DD11 and DD2 their products; dD D1 = dD_k D_l D_e and D dD1 = D_k dD_l D_e over
    e; ddDD = ddD_k D_l, D_k ddD_l, dD_k dD_l.
    """
    one = np.ones((1, x.shape[1]))
    k, l = pairs(K)
    if len(factors) == 2:
        first = activation.dg(x[:K], 1)
        return {"1": one, "DD": first[k] * first[l]}
    first, second = activation.dg(x, 1), activation.dg(x, 2)
    third = activation.dg(x[:K], 3)
    DD = first[k] * first[l]
    a, b = np.triu_indices(len(x))
    return {
        "1": one,
        "DD": DD,
        "11": first[a] * first[b],
        "2": second,
        "DD11": (first[a] * first[b])[:, None] * DD,
        "DD2": second[:, None] * DD,
        "dD D1": first[:, None] * (second[k] * first[l]),
        "D dD1": first[:, None] * (first[k] * second[l]),
        "ddDD": np.stack([third[k] * first[l], first[k] * third[l], second[k] * second[l]]),
    }
