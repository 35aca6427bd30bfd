"""Statements of loops, and how those over the same two indices share one nest.

What belongs to one pair of units is a chain of small vectors and matrices. One by one they would
go through memory again and again; here the statements over both indices of a matrix run in one
nest of loops, entry by entry, as far as their dependencies allow. Sums run along the outer index,
so that the inner loop only adds up vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from theory.derivation.indexed import (
    Definition,
    entries_in,
    free_indices,
    index,
    names_in,
    range_of,
)

Pattern = tuple[Symbol, ...]
NAMES = {"N": ("c", "d"), "K": ("k2", "l2"), "M": ("m2", "n2")}
"""What the outer and the inner index of a nest are called, by their ranges."""


@dataclass(frozen=True)
class Statement:
    """X[at] = Σ expression, or += where it is not the ``first``, over the ``summed`` indices."""

    definition: Definition
    at: Pattern
    expression: Expr
    opened: Pattern
    summed: Pattern
    first: bool
    triangle: bool = False
    """Whether the two opened indices are those of a pair, and the value is symmetric in them."""

    @property
    def name(self) -> str:
        """What is written."""
        return self.definition.name

    @property
    def reads(self) -> frozenset[str]:
        """What is read."""
        return names_in(self.expression)

    def needs(self, earlier: Statement) -> bool:
        """Whether an earlier statement has to come first."""
        return earlier.first if earlier.name == self.name else earlier.name in self.reads

    def follows(self, earlier: Statement) -> bool:
        """Whether it can come after an earlier one, on which it depends, entry by entry."""
        own = {e.indices for e in entries_in(self.expression) if str(e.base.label) == earlier.name}
        return not earlier.summed and own <= {earlier.at}

    def in_nest(self, symmetric: Collection[str]) -> tuple[Pattern, Statement] | None:
        """The loops, and the statement in them, which reads all matrices along the inner one; None
        where it has other loops, or reads a matrix along both."""
        loops = (*self.summed, *self.opened)
        if self.triangle or len(loops) != 2 or {range_of(i) for i in loops} - set(NAMES):
            return None
        for outer, inner in (loops, loops[::-1]) if len(self.summed) == 2 else (loops,):
            names = {outer: index(NAMES[range_of(outer)][0]),
                     inner: index(NAMES[range_of(inner)][1])}  # fmt: skip
            made, bad = {}, False
            for entry in entries_in(self.expression):
                at = entry.indices
                if at[-2:] == (inner, outer) and str(entry.base.label) in symmetric:
                    at = (*at[:-2], outer, inner)
                bad |= at[-2:] == (inner, outer)
                made[entry] = entry.base[tuple(i.xreplace(names) for i in at)]
            if bad and self.summed:
                continue
            at, opened, summed = (
                tuple(i.xreplace(names) for i in part)
                for part in (self.at, self.opened, self.summed)
            )
            value = self.expression.xreplace(made)
            return tuple(names.values()), Statement(
                self.definition, at, value, opened, summed, self.first
            )
        return None


@dataclass(frozen=True)
class Nest:
    """Statements in the same two loops, and what is read by those after them."""

    loops: Pattern
    statements: tuple[Statement, ...]
    later: frozenset[str]

    @property
    def inner(self) -> Symbol:
        """The index of the inner loop."""
        return self.loops[-1]

    def entries(self) -> set[str]:
        """What nothing else reads: entry by entry it needs no array."""
        written = [s.name for s in self.statements]
        found = {s.name for s in self.statements if s.first and not s.summed}
        return {name for name in found - self.later if written.count(name) == 1}

    def sums(self) -> dict[Expr, list[tuple[Statement, Expr]]]:
        """What is summed up along the first loop, and the statements that it is for, each with
        the factor that does not depend on its index."""
        found: dict[Expr, list[tuple[Statement, Expr]]] = {}
        for one in self.statements:
            if one.summed:
                inside, rest = parted(one.expression, self.loops[:1])
                found.setdefault(inside, []).append((one, rest))
        return found


class Factors:
    """Products that depend on one index of a nest, or on none, and are evaluated outside of it."""

    def __init__(self, loops: Pattern, begin: int) -> None:
        self.loops, self.begin = loops, begin
        self.names: dict[Expr, Symbol] = {}

    def taken(self, expression: Expr) -> Expr:
        """The expression with such products by name."""
        if isinstance(expression, sympy.Add):
            return sympy.Add(*map(self.taken, expression.args))
        if not isinstance(expression, sympy.Mul):
            return expression
        factors = sympy.Mul.make_args(expression)
        along = [f for f in factors if free_indices(f) & {*self.loops} == {*self.loops[1:]}]
        both = [f for f in factors if free_indices(f) >= {*self.loops}]
        rest = [f for f in factors if f not in along and f not in both]
        parts = (self._named(sympy.Mul(*rest)), self._named(sympy.Mul(*along)))
        return sympy.Mul(*parts, *map(self.taken, both))

    def _named(self, product: Expr) -> Expr:
        if product.as_coeff_Mul()[1].is_Mul and product not in self.names:
            inner = self.loops[1]
            at = f"[{inner}]" if inner in free_indices(product) else ""
            number = self.begin + 1 + len(self.names)
            self.names[product] = Symbol(f"factor{number}{at}")
        return self.names.get(product, product)

    def along(self, indices: Pattern) -> dict[str, Expr]:
        """The products that depend on these of the loops' indices, by name."""
        return {
            str(name): product
            for product, name in self.names.items()
            if free_indices(product) & {*self.loops} == {*indices}
        }


def parted(product: Expr, along: Iterable[Symbol]) -> tuple[Expr, Expr]:
    """The factors that depend on some of these indices, and those that do not."""
    factors = sympy.Mul.make_args(product)
    inside = [f for f in factors if free_indices(f) & {*along}]
    return sympy.Mul(*inside), sympy.Mul(*(f for f in factors if f not in inside))


def scheduled(
    statements: Sequence[Statement], symmetric: Collection[str]
) -> Iterator[Statement | Nest]:
    """The statements in an order in which they can run, matrices together and as late as can be."""
    nested = [one.in_nest(symmetric) for one in statements]
    due = [{j for j in range(i) if one.needs(statements[j])} for i, one in enumerate(statements)]
    left, done = list(range(len(statements))), set[int]()
    while left:
        ready = [i for i in left if due[i] <= done]
        first = next((i for i in ready if nested[i] is None), None)
        if first is not None:
            yield statements[first]
            left.remove(first)
            done.add(first)
            continue
        inside: dict[int, Statement] = {}
        (loops, _) = nested[ready[0]] or ((), None)
        for i in left:
            here, open_ = nested[i], due[i] - done
            if here is None or here[0] != loops or not open_ <= set(inside):
                continue
            if all(here[1].follows(inside[j]) or here[1].name == inside[j].name for j in open_):
                inside[i] = here[1]
        left = [i for i in left if i not in inside]
        done |= set(inside)
        later = frozenset().union(*(statements[i].reads for i in left))
        yield Nest(loops, tuple(inside.values()), later)
