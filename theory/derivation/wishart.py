"""Averages of words in the Gram matrix of one finite support, by Stein's lemma; for linear units.

With z = (h, e), e the residual of an example, and W = (1/P) Σ_p z_p z_pᵀ, several inner steps on
one support move a linear head by d = Σ_i p_i (ΠW)^i ΠW ê: Π projects on the units, ê on e. What
the flow needs of it are ⟨d⟩ and ⟨d dᵀ⟩, averages of words W A_1 W A_2 … W with A ∈ {Π, êêᵀ}.
Stein's lemma on the first factor z of the first W contracts it with the other z of that W, or with
one of a later W (of the word, or of a trace that it has split off) at the price 1/P; what is left
has one W fewer. Source: derived here, checked by Monte-Carlo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import sympy
from sympy import Expr, IndexedBase

from theory.derivation.indexed import Program, indices

Word = tuple[str, ...]
"""Letters A between matrices: a chain of m matrices has m − 1 of them, a trace of m has m."""
Terms = tuple[tuple[tuple[Word, tuple[Word, ...], int], int], ...]
"""((chain, traces, power of 1/P), count): ⟨word⟩ as words in the covariance S of z."""

UNIT, RESIDUAL = "h", "e"


@cache
def chain_mean(chain: Word, traces: tuple[Word, ...] = ()) -> Terms:
    """⟨W A_1 W … W · Π tr(W B_1 … W B_r)⟩, in words of the covariance.

    >>> [(c, t, p, n) for (c, t, p), n in chain_mean(("h",))]
    [(('h',), (), 0, 1), (('h',), (), 1, 1), ((), (('h',),), 1, 1)]
    """
    total: Counter[tuple[Word, tuple[Word, ...], int]] = Counter()

    def add(letters: Word, rest: tuple[Word, ...], cost: int) -> None:
        """S A_1 ⟨W A_2 W …⟩, or S alone where no letter is left."""
        if not letters:
            for (loops, power), count in _loops_mean(rest):
                total[(), loops, power + cost] += count
            return
        for (word, loops, power), count in chain_mean(letters[1:], rest):
            total[(letters[0], *word), loops, power + cost] += count

    add(chain, traces, 0)
    for j in range(len(chain)):
        before, after = chain[:j], chain[j + 1 :]
        add((chain[j], *before[::-1], *after), traces, 1)
        add(after, _sorted((*traces, chain[: j + 1])), 1)
    for number, loop in enumerate(traces):
        others = traces[:number] + traces[number + 1 :]
        for turn in range(len(loop)):
            turned = loop[turn:] + loop[:turn]
            add((*turned, *chain), others, 1)
            add((*turned[::-1], *chain), others, 1)
    return tuple(total.items())


@cache
def _loops_mean(traces: tuple[Word, ...]) -> tuple[tuple[tuple[tuple[Word, ...], int], int], ...]:
    """⟨Π tr(W B_1 … W B_r)⟩: the first trace as a chain that its last letter closes."""
    if not traces:
        return ((((), 0), 1),)
    total: Counter[tuple[tuple[Word, ...], int]] = Counter()
    *letters, last = traces[0]
    for (word, loops, power), count in chain_mean(tuple(letters), traces[1:]):
        total[_sorted((*loops, (*word, last))), power] += count
    return tuple(total.items())


def _sorted(traces: tuple[Word, ...]) -> tuple[Word, ...]:
    """Traces in a fixed order, each turned and read so that equal ones look alike."""

    def canonical(loop: Word) -> Word:
        both = (loop, loop[::-1])
        return min(word[i:] + word[:i] for word in both for i in range(len(loop)))

    return tuple(sorted(canonical(loop) for loop in traces))


@cache
def _polynomial(rates: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Coefficients p_i of d = Σ_i p_i Wⁱ v: a step at rate η makes of p(W) (1 − ηW) p(W) + η."""
    p: list[Expr] = []
    for eta in rates:
        shifted = [sympy.Integer(0), *(-eta * c for c in p)]
        p = [c + s for c, s in zip([*p, sympy.Integer(0)], shifted, strict=True)]
        p[0] += eta
    return tuple(sympy.factor(c) for c in p)


class SupportMoments:
    """⟨d⟩ and Cov(d) of a linear head's displacement after steps on one support, as definitions.

    ``covariance`` (N, N) of the fields, ``residual`` ⟨e h_k⟩ (K, H) affine in the task, ``square``
    ⟨e²⟩ over tasks and noise, a sum over indices; ``U`` is the second moment of û = (1, u).
    """

    def __init__(
        self, program: Program, covariance: IndexedBase, residual: IndexedBase, square: Expr,
        U: IndexedBase, support: Expr, rates: Sequence[Expr],
    ) -> None:  # fmt: skip
        self.program, self.square, self.U = program, square, U
        self.support, self.p = support, _polynomial(tuple(rates))
        self.powers, self.vectors = [covariance], [residual]
        k, l, x, k2 = indices("k l x k2")
        while len(self.vectors) < 2 * len(self.p) - 1:
            step = covariance[k, k2]
            power = program.define("Q_power", ((k, l), step * self.powers[-1][k2, l]))
            vector = program.define("e_power", ((k, x), step * self.vectors[-1][k2, x]))
            self.powers, self.vectors = [*self.powers, power], [*self.vectors, vector]

        mean = {(UNIT,) * i: c for i, c in enumerate(self.p)}
        self.drift = program.define(
            "d", ((k, x), self._total(mean, lambda word: self.vectors[len(word)][k, x]))
        )
        """⟨d⟩ given the task (K, H), the coefficients of û."""

    @property
    def spread(self) -> Expr:
        """Cov(d_k, d_l) over supports, averaged over tasks."""
        k, l, x, z = indices("k l x z")
        chains: dict[Word, Expr] = {}
        for i, first in enumerate(self.p):
            for j, second in enumerate(self.p):
                chains[(UNIT,) * i + (RESIDUAL,) + (UNIT,) * j] = first * second

        def entry(word: Word) -> Expr:
            if RESIDUAL not in word:
                return self.powers[len(word)][k, l]
            i = word.index(RESIDUAL)
            return self.vectors[i][k, x] * self.U[x, z] * self.vectors[len(word) - 1 - i][l, z]

        return self._total(chains, entry) - self.drift[k, x] * self.U[x, z] * self.drift[l, z]

    def _total(self, chains: dict[Word, Expr], entry: Callable[[Word], Expr]) -> Expr:
        """Σ of coefficient × ⟨chain⟩, like words taken together."""
        found: dict[tuple[Word, tuple[Word, ...]], Expr] = {}
        for chain, coefficient in chains.items():
            for (word, loops, power), count in chain_mean(chain):
                term = coefficient * count / self.support**power
                found[word, loops] = found.get((word, loops), sympy.Integer(0)) + term
        return sympy.Add(
            *(
                sympy.factor(coefficient) * self._traces(loops) * entry(word)
                for (word, loops), coefficient in found.items()
            )
        )

    def _traces(self, loops: tuple[Word, ...]) -> Expr:
        """Π of traces, each a number with a definition of its own."""
        k, x, z, o = indices("k x z o")
        total = sympy.Integer(1)
        for loop in loops:
            if RESIDUAL not in loop:
                name, value = "trace", self.powers[len(loop) - 1][k, k]
            elif len(loop) == 1:
                name, value = "e_square", self.square
            else:
                other = self.vectors[len(loop) - 2]
                name, value = "e_trace", self.vectors[0][k, x] * self.U[x, z] * other[k, z]
            total *= self.program.define(name, ((o,), value))[o]
        return total
