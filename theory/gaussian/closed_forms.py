"""Gaussian averages of products of x, S_a(x) and W_a(x), reduced by rules to closed forms.

S_a(x) = erf(x/√2a) and W_a = S_a' as in ``theory.gaussian.integrands``: sign and 2δ at a = 0. For
a list W of weights let M_W = C_WW + diag(a), and let M_W[e, f] be M_W bordered by the row of
x_e and the column of x_f. Then (derived):

* **Tilt.**  E[Π_W W_a F] = (2/π)^(|W|/2) (det M_W)^(−1/2) E_W[F], where under E_W the fields are
  Gaussian with covariance C'_ef = C_ef − C_eW M_W⁻¹ C_Wf = det M_W[e, f] / det M_W.
* **Stein.**  E_W[x_j F] = Σ_b C'_jb E_W[∂F/∂x_b].
* **Derivatives of weights.**  With A = a + C'_ii, E_W[W_a^(k)(x_i) F] =
  −(1/A) {Σ_b C'_ib E_W[W_a^(k−1)(x_i) ∂F/∂x_b] + (k−1) E_W[W_a^(k−2)(x_i) F]},
  from a W^(k) = −x W^(k−1) − (k−1) W^(k−2) and Stein; finite at a = 0.
* **Two signs.**  E_W[S_a(x_e) S_b(x_f)] = (2/π) asin(det M_W[e, f] / √(det M_We det M_Wf)).

Each step lowers the number of polynomial factors or of derivatives, so the reduction ends; what
is left are weights with 0, 2, 4 or 6 signs, the last two of which are one ``SignMoment``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations

import sympy
from sympy import Expr, Integer, S, pi, sqrt

from theory.errors import NoClosedFormError
from theory.gaussian.integrands import Integrand, Term
from theory.gaussian.sign_moments import SignMoment
from theory.symbols import covariance_symbols, pairs

Factor = tuple[int, Expr]
"""(slot, a) of a factor S_a or W_a."""
Weight = tuple[int, Expr, int]
"""(slot, a, k) of a factor W_a^(k)."""
Basis = tuple[tuple[Factor, ...], tuple[Factor, ...]]
"""The weights and the signs that are left."""


def average(integrand: Integrand, covariance: sympy.MatrixBase) -> Expr:
    """E[integrand] for zero-mean Gaussian variables of the given covariance.

    Raises: NoClosedFormError if more than six signs are left.
    """
    forms = sympy.Matrix(integrand.forms)
    C = forms * sympy.Matrix(covariance) * forms.T
    same = _first_equal_rows(C)
    used = sorted({same[slot] for term in integrand.terms for slot in _slots(term)})
    place = {slot: used.index(same[slot]) for slot in range(C.rows) if same[slot] in used}
    terms = [_relabelled(term, place, len(used)) for term in integrand.terms]
    entries = {
        symbol: C[used[i], used[j]]
        for (i, j), symbol in zip(pairs(len(used)), _symbols(len(used)), strict=True)
    }
    total = S.Zero
    for term in terms:
        generic = _average(term.powers, term.weights, term.signs)
        total += term.coefficient * generic.xreplace(entries)
    return total


def _symbols(n: int) -> tuple[sympy.Symbol, ...]:
    C = covariance_symbols(n)
    return tuple(C[i, j] for i, j in pairs(n))


def _slots(term: Term) -> Iterator[int]:
    yield from (slot for slot, power in enumerate(term.powers) if power)
    yield from (slot for slot, _, _ in term.weights)
    yield from (slot for slot, _ in term.signs)


def _first_equal_rows(C: sympy.Matrix) -> dict[int, int]:
    """For each field the first one that it equals (Var(x_i − x_j) = 0 and the same row)."""
    first: dict[tuple[Expr, ...], int] = {}
    return {i: first.setdefault(tuple(C[i, :]), i) for i in range(C.rows)}


def _relabelled(term: Term, place: dict[int, int], slots: int) -> Term:
    powers = [0] * slots
    for slot, power in enumerate(term.powers):
        if power:
            powers[place[slot]] += power
    weights = tuple(sorted((place[s], a, k) for s, a, k in term.weights))
    signs = _odd(tuple(sorted((place[s], a) for s, a in term.signs)))
    return Term(term.coefficient, tuple(powers), weights, signs)


def _odd(signs: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Signs with the squares of sharp ones (a = 0) left out: sign(x)² = 1."""
    return tuple(
        factor
        for position, factor in enumerate(signs)
        if factor[1] != 0 or (signs.count(factor) % 2 and signs.index(factor) == position)
    )


@cache
def _average(
    powers: tuple[int, ...], weights: tuple[Weight, ...], signs: tuple[Factor, ...]
) -> Expr:
    parts = _reduce(powers, weights, signs)
    n = len(powers)
    return sympy.Add(*(_merged(n, c, *b) * _value(n, *b) for b, c in parts.items()))


def _merged(
    n: int, coefficient: Expr, tilt: tuple[Factor, ...], signs: tuple[Factor, ...]
) -> Expr:
    """Over one denominator where determinants may vanish (a = 0), so that equal factors cancel.

    Denominators are products of known factors, which are divided out one by one:
    ``sympy.factor`` draws random numbers, and like ``sympy.cancel`` may take minutes.
    """
    if not coefficient.is_Add or all(a != 0 for _, a in tilt + signs):
        return coefficient
    below: dict[Expr, int] = {}
    for term in coefficient.args:
        for base, power in term.as_powers_dict().items():
            if base.free_symbols and power.is_Integer and power < 0:
                below[base] = max(below.get(base, 0), -int(power))
    under = sympy.Mul(*(base**power for base, power in below.items()))
    above = sympy.expand(sympy.Add(*(term * under for term in coefficient.args)))
    known = sorted(below | {determinant(n, tilt): 0}, key=sympy.default_sort_key)
    found = sympy.Integer(1)
    for factor in (f for f in known if f.free_symbols):
        quotient, rest = sympy.div(above, factor)
        while rest == 0 and quotient != 0:
            found, above = found * factor, quotient
            quotient, rest = sympy.div(above, factor)
    return sympy.factor_terms(found * above) / under


@cache
def _reduce(
    powers: tuple[int, ...], weights: tuple[Weight, ...], signs: tuple[Factor, ...]
) -> dict[Basis, Expr]:
    """The average as a linear combination of averages of weights and signs alone."""
    n = len(powers)
    tilt = tuple((s, a) for s, a, k in weights if k == 0)
    derived = tuple(w for w in weights if w[2] > 0)
    if derived:
        (i, a, k), others = derived[0], tuple((s, b, 0) for s, b in tilt) + derived[1:]
        spread = determinant(n, (*tilt, (i, a)))
        parts = [
            (-bordered(n, tilt, i, b) / spread * factor, (p, _sorted((*w, (i, a, k - 1))), e))
            for b in range(n)
            for factor, (p, w, e) in _gradient(b, powers, others, signs)
        ]
        if k > 1:
            lower = (powers, _sorted((*others, (i, a, k - 2))), signs)
            parts.append(((1 - k) * determinant(n, tilt) / spread, lower))
        return _combined(parts)
    if any(powers):
        j = next(slot for slot, power in enumerate(powers) if power)
        rest = (*powers[:j], powers[j] - 1, *powers[j + 1 :])
        volume = determinant(n, tilt)
        return _combined(
            [
                (bordered(n, tilt, j, b) / volume * factor, further)
                for b in range(n)
                for factor, further in _gradient(b, rest, weights, signs)
            ]
        )
    return _basis(tilt, signs)


def _gradient(
    b: int,
    powers: tuple[int, ...],
    weights: tuple[Weight, ...],
    signs: tuple[Factor, ...],
) -> Iterator[tuple[Expr, tuple[tuple[int, ...], tuple[Weight, ...], tuple[Factor, ...]]]]:
    """∂/∂x_b of the product by the product rule; weights with k = 0 belong to the measure."""
    if powers[b]:
        lower = (*powers[:b], powers[b] - 1, *powers[b + 1 :])
        yield Integer(powers[b]), (lower, weights, signs)
    for position, (s, a) in enumerate(signs):
        if s == b:
            fewer = signs[:position] + signs[position + 1 :]
            yield S.One, (powers, _sorted((*weights, (s, a, 0))), fewer)
    for position, (s, a, k) in enumerate(weights):
        if s == b and k > 0:
            raised = (*weights[:position], (s, a, k + 1), *weights[position + 1 :])
            yield S.One, (powers, _sorted(raised), signs)


def _sorted(weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    return tuple(sorted(weights, key=lambda w: (w[0], sympy.default_sort_key(w[1]), w[2])))


def _combined(parts: list[tuple[Expr, tuple]]) -> dict[Basis, Expr]:
    total: dict[Basis, Expr] = {}
    for factor, further in parts:
        if factor != 0:
            for basis, coefficient in _reduce(*further).items():
                total[basis] = total.get(basis, S.Zero) + factor * coefficient
    return {basis: coefficient for basis, coefficient in total.items() if coefficient != 0}


def _basis(tilt: tuple[Factor, ...], signs: tuple[Factor, ...]) -> dict[Basis, Expr]:
    """The average itself as a basis element, or zero where it vanishes by symmetry."""
    left: list[Factor] = []
    for factor in signs:
        if factor[1] == 0 and factor in left:
            left.remove(factor)
        else:
            left.append(factor)
    at_zero = any(a == 0 and (s, a) in tilt for s, a in left)
    return {} if at_zero or len(left) % 2 else {(tilt, tuple(left)): S.One}


def _value(n: int, tilt: tuple[Factor, ...], signs: tuple[Factor, ...]) -> Expr:
    """(2/π)^(|W|/2) det(M_W)^(−1/2) × the average of the signs under the tilt."""
    norm = (2 / pi) ** sympy.Rational(len(tilt), 2) / sqrt(determinant(n, tilt))
    if not signs:
        return norm
    variances = [determinant(n, (*tilt, factor)) for factor in signs]

    def correlation(e: int, f: int) -> Expr:
        product = bordered(n, tilt, signs[e][0], signs[f][0])
        same = variances[e] == variances[f]
        return product / (variances[e] if same else sqrt(variances[e] * variances[f]))

    if len(signs) == 2:
        if signs[0][1] == 0 and signs[1][1] == 0:
            product = bordered(n, tilt, signs[0][0], signs[1][0])
            rest = determinant(n, tilt) * determinant(n, (*tilt, *signs))
            return norm * 2 / pi * sympy.atan2(product, sqrt(rest))
        return norm * 2 / pi * sympy.asin(correlation(0, 1))
    if len(signs) > 6:
        raise NoClosedFormError(f"averages with {len(signs)} plain activations have no closed form")
    return norm * SignMoment(
        *(correlation(e, f) for e in range(len(signs)) for f in range(e + 1, len(signs)))
    )


@cache
def determinant(n: int, factors: tuple[Factor, ...]) -> Expr:
    """det(C_WW + diag(a)) over the slots and widths of ``factors``."""
    return _leibniz(_matrix(n, factors))


@cache
def bordered(n: int, tilt: tuple[Factor, ...], e: int, f: int) -> Expr:
    """The determinant of M_W bordered by the row of x_e and the column of x_f.

    Where x_e (x_f) has a weight itself, the row (column) of that weight is subtracted from the
    border: all but one of its entries then vanish, and with them what would cancel.
    """
    C = covariance_symbols(n)
    slots = [s for s, _ in tilt]
    border = [C[e, s] for s in slots]
    matrix = [[*row, C[s, f]] for row, s in zip(_matrix(n, tilt), slots, strict=True)]
    matrix.append([*border, C[e, f]])
    if e in slots:
        p = slots.index(e)
        matrix[-1] = [S.Zero] * (len(slots) + 1)
        matrix[-1][p] = -tilt[p][1]
    if f in slots:
        p = slots.index(f)
        for row in matrix:
            row[-1] = sympy.expand(row[-1] - row[p])
    return _leibniz(matrix)


def _matrix(n: int, factors: tuple[Factor, ...]) -> list[list[Expr]]:
    C = covariance_symbols(n)
    return [
        [C[s, t] + (a if p == q else 0) for q, (t, _) in enumerate(factors)]
        for p, (s, a) in enumerate(factors)
    ]


def _leibniz(matrix: list[list[Expr]]) -> Expr:
    """The determinant as a sum of products of entries, none of them expanded."""
    size = len(matrix)
    products = []
    for order in permutations(range(size)):
        swaps = sum(order[i] > order[j] for i in range(size) for j in range(i + 1, size))
        products.append((-1) ** swaps * sympy.Mul(*(matrix[i][order[i]] for i in range(size))))
    return sympy.Add(*products)
