"""Jacobians in blocks, in reverse: each rate's derivatives with respect to Q, R and w.

The adjoint of one entry of a rate, dQ_kl say, is carried back along the definitions as a sum of
*patterns*: entries X[k, c], X[c, d], … whose indices are those of the rate or run freely, each with
a weight. What a rate depends on at a few entries alone so costs a few operations, and the noise of
a pair (k, l) about as much as its value. ``push_forward``
(theory.derivation.differentiation) gives the same numbers by another route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import sympy
from sympy import Expr, Indexed, IndexedBase, KroneckerDelta, Symbol

from theory.derivation.differentiation import slope_of
from theory.derivation.indexed import (
    Definition,
    Piece,
    Program,
    entries,
    entries_in,
    free_indices,
    index,
    range_of,
)
from theory.generation.rewriting import LETTERS, oriented, symmetric_tensors

STATE = ("Q", "R", "w")
Pattern = tuple[Symbol, ...]
Names = Mapping[Symbol, Symbol]


class DensePatternError(ValueError):
    """An adjoint that this calculus does not hold; tangents are pushed forward instead."""


def derivative_blocks(program: Program, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Add ∂(output)/∂Q, ∂/∂R, ∂/∂w as definitions "dQ_by_Q", …; the names of those not zero.

    Entries [*output, *input]; those of Q at (k, l) and (l, k) are to be added up, Q being stored
    once per pair.
    """
    tensors = _Tensors.of(program)
    made = []
    for output in outputs:
        if output in tensors.active:
            made += _Rows(program, program[output], tensors).blocks()
    return tuple(made)


@dataclass(frozen=True)
class _Tensors:
    """What is known of the tensors of a program."""

    active: frozenset[str]
    """Those that depend on the state."""
    symmetric: set[str]
    """Those that are symmetric in their last two indices."""
    slices: Mapping[tuple[str, int], str]
    """The part of an axis of all fields on which a tensor depends on the state."""
    roots: Mapping[str, bool]
    """Those that are a negative power, and whether one entry of the state's decides it."""

    @classmethod
    def of(cls, program: Program) -> _Tensors:
        active, slices, roots = set[str](STATE), {}, {}
        for definition in program.definitions:
            moving = [p for p in definition.pieces if entries(p.expression, active)]
            if not moving:
                continue
            value = moving[0].expression
            if len(moving) == 1 and value.is_Pow and value.exp.is_negative:
                roots[definition.name] = len(entries(value, active)) == 1
            active.add(definition.name)
            for axis, over in enumerate(definition.ranges):
                parts = {range_of(p.at[axis]) for p in moving}
                if over == "N" and len(parts) == 1:
                    slices[definition.name, axis] = parts.pop()
        return cls(frozenset(active), symmetric_tensors(program), slices, roots)


@dataclass
class _Rows:
    """The derivatives of one output."""

    program: Program
    output: Definition
    tensors: _Tensors
    due: dict[str, dict[Pattern, list[Piece]]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=lambda: count(100))

    @property
    def at(self) -> Pattern:
        return self.output.pieces[0].at

    def blocks(self) -> list[str]:
        """Define the blocks; their names."""
        self.due[self.output.name] = {self.at: [Piece(self.at, sympy.Integer(1))]}
        for definition in reversed(self.program.definitions[:]):
            for weights in self._by_width(definition):
                for pattern, bar in self._bars(definition, weights):
                    self._check(definition, pattern)
                    for piece in definition.pieces:
                        self._through(definition, piece, pattern, bar)
        return [self._block(name) for name in STATE if name in self.due]

    def _block(self, name: str) -> str:
        parts = tuple(
            Piece((*self.at, *pattern), piece.expression)
            for pattern, pieces in self.due[name].items()
            for piece in _merged(pieces)
        )
        base = IndexedBase(f"{self.output.name}_by_{name}")
        ranges = (*self.output.ranges, *self.program.inputs[name])
        block = Definition(base, ranges, parts, paired=self.output.paired)
        self.program.definitions.append(block)
        return block.name

    def _check(self, definition: Definition, pattern: Pattern) -> None:
        """Tensors per pair with further indices are known at the output's own pair alone."""
        if definition.external:
            raise DensePatternError(definition.external)
        if definition.paired and "N" in definition.ranges:
            where = definition.ranges.index("K")
            mine = self.output.ranges.index("K") if "K" in self.output.ranges else 0
            if not self.output.paired or pattern[where:][:2] != self.at[mine:][:2]:
                raise DensePatternError(definition.name)

    def _carried(self, pattern: Pattern) -> Pattern:
        """Indices of a weight: those of the output, and the free ones of the pattern."""
        return tuple(dict.fromkeys((*self.at, *pattern)))

    def _by_width(self, definition: Definition) -> list[dict[Pattern, list[Piece]]]:
        """The weights of a tensor's patterns, each with those over a part of the same entries."""
        found: list[dict[Pattern, list[Piece]]] = []
        due = self.due.pop(definition.name, {})
        for pattern in sorted(due, key=lambda p: -sum(range_of(i) == "N" for i in p)):
            group = next((g for g in found if self._within(definition, pattern, next(iter(g)))), {})
            if not group:
                found.append(group)
            group[pattern] = due[pattern]
        return found

    def _within(self, definition: Definition, pattern: Pattern, wide: Pattern) -> bool:
        """Whether a pattern is the part of another where some indices run over some fields."""
        pairs = set(zip(pattern, wide, strict=True))
        one = len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs})
        alike = self._dense(definition, pattern) == self._dense(definition, wide)
        return (
            one
            and alike
            and all(
                i == j or (not {i, j} & {*self.at} and range_of(j) in ("N", range_of(i)))
                for i, j in pairs
            )
        )

    def _bars(
        self, definition: Definition, weights: dict[Pattern, list[Piece]]
    ) -> list[tuple[Pattern, Expr]]:
        """The weight of a pattern: a definition of its own, unless it is short, known but for a
        constant matrix, or read once and no sum that makes a vector."""
        weights = {pattern: _merged(pieces) for pattern, pieces in weights.items()}
        each = [(pattern, p.expression) for pattern, pieces in weights.items() for p in pieces]
        reads = [e for p in definition.pieces for e in entries(p.expression, self.tensors.active)]
        vector = len(definition.ranges) == 1 and definition.name not in self.tensors.roots
        summed = any(Piece(self._carried(at), value).summed(value) for at, value in each)
        if (len(reads) == 1 and not (vector and summed)) or all(self._plain(*one) for one in each):
            return each
        wide = next(iter(weights))
        name = f"{definition.name}_of_{self.output.name}"
        dense = self._dense(definition, wide)
        parts = [
            (self._carried(pattern), self._mean(pattern, value) if dense else value)
            for pattern, value in each
        ]
        ranges = [range_of(i) for i in self._carried(wide)]
        bar = self.program.define(name, *parts, ranges=ranges, paired=self.output.paired)
        self.made.add(str(bar.label))
        if dense:
            self.tensors.symmetric.add(str(bar.label))
        return [(wide, bar[self._carried(wide)])]

    def _dense(self, definition: Definition, pattern: Pattern) -> bool:
        """Whether a pattern runs over all of a symmetric tensor's last two indices."""
        free = {*pattern[-2:]} - {*self.at}
        alike = len(free) == 2 == 1 + len({range_of(i) for i in free})
        return alike and definition.name in self.tensors.symmetric

    def _mean(self, pattern: Pattern, value: Expr) -> Expr:
        """A weight of a symmetric tensor, as symmetric as that."""
        *_, a, c = pattern
        return self._oriented((value + value.xreplace({a: c, c: a})) / 2, pattern)

    def _plain(self, pattern: Pattern, value: Expr) -> bool:
        """Whether a weight is a number, or at most one tensor of this row times constants.

        So are those of heads: their components belong to matrices that all rows share, and that
        can be multiplied once for all.
        """
        local = self.made | {d.name for d in self.program.definitions if d.paired}
        heads = {i for i in pattern if range_of(i) == "H"} - {*self.at}
        if not Piece(self._carried(pattern), value).summed(value):
            depend = [e for e in entries_in(value) if {*e.indices} - {*self.at}]
            if len(entries_in(value)) < 2 or (len(depend) == 1 and value.is_Mul):
                return True
        for term in sympy.Add.make_args(sympy.expand_mul(value, deep=False)):
            own = [e for e in entries_in(term) if str(e.base.label) in local]
            inside = {i for e in own for i in e.indices}
            if len(own) > 1 or not term.is_Mul or not heads - inside:
                return False
        return True

    def _through(self, definition: Definition, piece: Piece, pattern: Pattern, bar: Expr) -> None:
        """Carry a weight back to the entries that a piece reads."""
        matched = _Match(set(self.at), self._fresh).match(pattern, piece.at)
        if matched is None:
            return
        moved, bound, delta = matched
        inner = {i for term in piece.terms() for i in piece.summed(term)}
        bound |= {i: self._fresh(range_of(i)) for i in sorted(inner, key=str)}
        spare = free_indices(bar) - set(self._carried(pattern))
        moved |= {i: self._fresh(range_of(i)) for i in sorted(spare, key=str)}
        expression, weight = piece.expression.xreplace(bound), bar.xreplace(moved) * delta
        reach = set(self._carried(tuple(i.xreplace(moved) for i in pattern)))
        itself = definition.base[tuple(i.xreplace(bound) for i in piece.at) or (index("o"),)]
        alone = len(definition.pieces) == 1
        for entry in entries(expression, self.tensors.active):
            by_itself = alone and self._divides(expression, entry)
            slope = weight * (itself / entry if by_itself else _slope(expression, entry, itself))
            if reach - free_indices(slope) - set(self.at) - set(entry.indices):
                raise DensePatternError(f"{entry} is summed over")
            self._add(entry, slope)

    def _divides(self, product: Expr, entry: Indexed) -> bool:
        """Whether ∂X/∂r = X/r, of a product X with a root r, and costs least: where r is known for
        the row, or where its own slope, r³ times another, makes a power of it."""
        once = self.tensors.roots.get(str(entry.base.label))
        if once is None or entry not in sympy.Mul.make_args(product):
            return False
        return (once or {*entry.indices} <= {*self.at}) and not (product / entry).has(entry)

    def _add(self, entry: Indexed, slope: Expr) -> None:
        """Note a weight under the pattern of its entry, with standard names of indices."""
        name = str(entry.base.label)
        names = self._canonical(self._oriented(entry), free_indices(slope))
        if names is None:
            return
        pattern = tuple(self._oriented(entry.xreplace(names)).args[1:])
        value = self._oriented(slope.xreplace(names), pattern)
        due = self.due.setdefault(name, {}).setdefault(pattern, [])
        due.append(Piece(self._carried(pattern), value))

    def _oriented(self, expression: Expr, then: Pattern = ()) -> Any:
        return oriented(expression, self.tensors.symmetric, (*self.at, *then))

    def _fresh(self, over: str) -> Symbol:
        return index(f"{LETTERS[over]}{next(self.numbers)}")

    def _canonical(self, entry: Indexed, others: frozenset[Symbol]) -> dict[Symbol, Symbol] | None:
        """Names of free indices by their order, first those of the entry, then those summed.

        None where the entry lies outside of the part that depends on the state.
        """
        narrow: dict[Symbol, str] = {}
        for axis, i in enumerate(entry.indices):
            part = self.tensors.slices.get((str(entry.base.label), axis), "N")
            if len(entry.indices) == 1 and part == "K":
                part = "N"  # a vector's weight is summed up for all fields at once
            if {part, narrow.get(i, range_of(i))} == {"K", "M"}:
                return None
            if part != "N":
                narrow[i] = part
        own = [i for i in dict.fromkeys(entry.indices) if i not in self.at]
        rest = sorted(others - set(own) - set(self.at), key=str)
        taken = {str(i) for i in self.at}
        names = {}
        for i in (*own, *rest):
            letter = LETTERS[narrow.get(i, range_of(i))]
            name = next(f"{letter}{n}" for n in count(2) if f"{letter}{n}" not in taken)
            taken.add(name)
            names[i] = index(name)
        return names


def _slope(expression: Expr, entry: Indexed, itself: Indexed) -> Expr:
    """∂(expression)/∂(entry); powers of what ``itself`` is a power of are written by it."""
    slope = slope_of(expression, entry)
    if not isinstance(expression, sympy.Pow):
        return slope
    base, power = expression.as_base_exp()
    same = {
        other: itself ** (other.exp / power)
        for other in slope.atoms(sympy.Pow)
        if other.base == base and (other.exp / power).is_Integer and other.exp / power > 0
    }
    return slope.xreplace(same)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """The terms of pieces with the same indices, those that are summed over alike as one."""
    groups: dict[tuple[Symbol, ...], Expr] = {}
    for piece in pieces:
        for term in piece.terms():
            summed = piece.summed(term)
            groups[summed] = groups.get(summed, sympy.Integer(0)) + term
    at = pieces[0].at
    return [Piece(at, total) for total in groups.values() if total != 0]


@dataclass
class _Match:
    """Where a pattern meets the entries that a piece defines."""

    fixed: set[Symbol]
    fresh: Callable[[str], Symbol]

    def match(self, pattern: Pattern, at: Pattern) -> tuple[dict, dict, Expr] | None:
        """New names of the pattern's indices and of the piece's, and a Kronecker factor."""
        moved: dict[Symbol, Symbol] = {}
        bound: dict[Symbol, Symbol] = {}
        delta: Expr = sympy.Integer(1)

        def rename(old: Symbol, new: Symbol) -> None:
            for names in (moved, bound):
                names.update({i: new for i, j in names.items() if j == old})
            moved[old] = new

        for given, own in zip(pattern, at, strict=True):
            here = moved.get(given, given)
            if {range_of(here), range_of(own)} == {"K", "M"}:
                return None
            if own not in bound:
                if range_of(here) == "N" != range_of(own):
                    rename(here, self.fresh(range_of(own)))
                bound[own] = moved.get(given, given)
                continue
            there = bound[own]
            if here == there:
                continue
            if {range_of(here), range_of(there)} == {"K", "M"}:
                return None
            if here in self.fixed and there in self.fixed:
                delta *= KroneckerDelta(here, there)
            elif here in self.fixed or (there not in self.fixed and range_of(there) == "N"):
                rename(there, here)
            else:
                rename(here, there)
        return moved, bound, delta
