"""Rewriting programs before they become loops: products two at a time, named roots, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Indexed, Symbol, expand_mul

from theory.derivation.indexed import (
    SIZES,
    Definition,
    Piece,
    Program,
    entries,
    free_indices,
    index,
    range_of,
)

LETTERS = {"N": "c", "K": "k", "M": "m", "H": "x", "tasks": "t", "L": "b", "Y": "y", "one": "o"}
"""The letter of an index that runs over a range."""


def _cost(indices: Iterable[Symbol]) -> float:
    return float(np.prod([SIZES[range_of(i)] for i in set(indices)]))


def binary(program: Program) -> Program:
    """The program with sums over several indices taken two factors at a time where cheaper."""
    made = program.rewritten()
    for definition in program.definitions:
        pieces = []
        for piece in definition.pieces:
            total = sympy.Integer(0)
            for term in piece.terms():
                summed = piece.summed(term)
                parts = sympy.Add.make_args(expand_mul(term, deep=False)) if summed else (term,)
                factored = [_factored(made, definition, piece, part) for part in parts]
                total += term if factored == list(parts) else sympy.Add(*factored)
            pieces.append(Piece(piece.at, total))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def _factored(program: Program, definition: Definition, piece: Piece, term: Expr) -> Expr:
    """A term with its cheapest product of two factors summed first, as a definition of its own."""
    summed = set(piece.summed(term))
    factors = [f for f in sympy.Mul.make_args(term) if f.has(Indexed)]
    if not summed or len(factors) < 3:
        return term
    best: tuple[float, Expr, set[Symbol]] | None = None
    for i, first in enumerate(factors):
        for second in factors[:i]:
            joint = free_indices(first) | free_indices(second)
            rest = [f for f in factors if f is not first and f is not second]
            outside = set(piece.at).union(*(free_indices(f) for f in rest))
            gone = joint - outside
            if gone and (best is None or _cost(joint) < best[0]):
                best = _cost(joint), first * second, set(joint & outside)
    if best is None or 2 * best[0] > _cost(free_indices(term)):
        return term
    _, product, kept = best
    units = definition.pieces[0].at[pair_axis(definition) :][:2] if definition.paired else ()
    paired = bool(units) and set(units) <= kept
    lead = (*(i for i in lead_of(definition) if i in kept), *units) if paired else ()
    if not definition.paired and set(row_of(definition)) <= kept:
        lead = row_of(definition)
    at = (*lead, *sorted(kept - set(lead), key=str)) or (index("o"),)
    base = program.define(f"{definition.name}_part", (at, product), paired=paired)
    return _factored(program, definition, piece, term / product * base[at])


def hoisted(program: Program) -> Program:
    """The program with roots and reciprocals of fewer indices evaluated once, not per entry."""
    made = program.rewritten()
    for definition in program.definitions:
        pieces = []
        for piece in definition.pieces:
            whole = free_indices(piece.expression) | set(piece.at)
            roots = {}
            powers = sorted(piece.expression.atoms(sympy.Pow), key=sympy.default_sort_key)
            for power in sorted(powers, key=sympy.count_ops, reverse=True):
                own = free_indices(power)
                cheap = power.exp.is_Integer and power.exp > 0
                if cheap or not own or not own < whole or any(r.has(power) for r in roots):
                    continue
                roots[power] = apart(made, definition, "root", power)
            pieces.append(Piece(piece.at, piece.expression.xreplace(roots)))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def apart(program: Program, definition: Definition, name: str, value: Expr) -> Expr:
    """The entry of a definition of its own that holds a factor of fewer indices."""
    units = definition.pieces[0].at[pair_axis(definition) :][:2] if definition.paired else ()
    own = free_indices(value)
    paired = bool(own & set(units))
    lead = lead_of(definition) if paired else ()
    units = units if paired else ()
    at = (*lead, *units, *sorted(own - set(lead) - set(units), key=str))
    names = {}
    if len(at) == len(lead) + len(units) + 1 and range_of(at[-1]) == "N":
        names = {at[-1]: index("c")}
    there = tuple(i.xreplace(names) for i in at)
    base = program.define(name, (there, value.xreplace(names)), paired=paired)
    return base[at]


def scheduled(program: Program) -> list[list[Definition]]:
    """Definitions in groups: single ones, and runs of those that can share the loops over what
    they begin with (``row_of``)."""
    left, done = list(program.definitions), set(program.inputs)
    groups: list[list[Definition]] = []
    while left:
        ready = [d for d in left if not row_of(d) and d.reads() <= done]
        group: list[Definition] = ready[:1]
        if not group:
            first = next(d for d in left if row_of(d) and d.reads() <= done)
            for definition in left:
                own = {d.name for d in group}
                alike = row_of(definition) == row_of(first) and definition.paired == first.paired
                if alike and definition.reads() - done <= _read_here(definition, own):
                    group.append(definition)
        groups.append(group)
        done |= {d.name for d in group}
        left = [d for d in left if d not in group]
    return groups


def row_of(definition: Definition) -> tuple[Symbol, ...]:
    """The indices that definitions in shared loops begin with: those of a pair of units and what
    stands before them, or of a unit and a teacher unit."""
    at = definition.pieces[0].at
    if definition.paired:
        return at[: pair_axis(definition) + 2]
    alike = all(piece.at[:2] == at[:2] for piece in definition.pieces)
    return at[:2] if definition.ranges[:2] == ("K", "M") and alike else ()


def _read_here(definition: Definition, names: set[str]) -> set[str]:
    """Those of the named tensors that a definition reads at its own row only."""
    elsewhere, width = set(), len(row_of(definition))
    for piece in definition.pieces:
        own = [piece.at[:width]]
        if definition.paired:
            *lead, k, l = piece.at[:width]
            own.append((*lead, l, k))
        for entry in entries(piece.expression, names):
            if entry.indices[:width] not in own:
                elsewhere.add(str(entry.base.label))
    return names - elsewhere


def pair_axis(definition: Definition) -> int:
    """Where the two axes of a pair begin."""
    ranges = definition.ranges
    return next(i for i in range(len(ranges) - 1) if ranges[i] == ranges[i + 1] == "K")


def lead_of(definition: Definition) -> tuple[Symbol, ...]:
    """The indices before the pair."""
    return definition.pieces[0].at[: pair_axis(definition)]


def with_names(program: Program) -> Program:
    """The program with roots, reciprocals and arguments of arcsines as definitions.

    Slopes are short then: those of a root x = u^p are multiples of powers of x.
    """
    made = program.rewritten()
    for definition in program.definitions:

        def named(expression: Expr, at: tuple[Symbol, ...], like: Definition = definition) -> Expr:
            if not expression.has(sympy.Pow, sympy.asin):
                return expression
            value = expression.func(*(named(part, at) for part in expression.args))
            own = free_indices(value)
            place = tuple(i for i in at if i in own) + tuple(sorted(own - set(at), key=str))
            paired = like.paired and set(like.pieces[0].at[pair_axis(like) :][:2]) <= own
            flags: dict[str, Any] = {"paired": paired, "symmetric": like.symmetric and place == at}
            angle = isinstance(value, sympy.asin)
            if angle and not isinstance(value.args[0], Indexed):
                base = made.define("correlation", (place, value.args[0]), **flags)
                value = sympy.asin(base[place])
            root = isinstance(value, sympy.Pow) and not (value.exp.is_Integer and value.exp > 0)
            if own and (angle or root):
                return made.define("angle" if angle else "root", (place, value), **flags)[place]
            return value

        pieces = []
        for piece in definition.pieces:
            alone = isinstance(piece.expression, sympy.Pow)
            value = piece.expression if alone else named(piece.expression, piece.at)
            pieces.append(Piece(piece.at, value))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


SYMMETRIC = {"Q", "T", "TT", "U"}
"""Inputs that are symmetric in their last two indices."""


def symmetric_tensors(program: Program) -> set[str]:
    """The tensors that are symmetric in their last two indices, as far as it can be told."""
    found = SYMMETRIC & set(program.inputs)
    for definition in program.definitions:
        if _is_symmetric(definition, found):
            found.add(definition.name)
    return found


def _is_symmetric(definition: Definition, known: set[str]) -> bool:
    """Whether exchanging the last two indices leaves the definition as it is."""
    if len(definition.ranges) < 2 or len(set(definition.ranges[-2:])) > 1:
        return False
    if definition.symmetric:
        return True

    def standard(piece: Piece, swapped: bool) -> tuple[tuple[Symbol, ...], Expr]:
        *lead, a, c = piece.at
        at = (*lead, c, a) if swapped else piece.at
        over = {i: index(f"{LETTERS[range_of(i)]}{n + 50}") for n, i in enumerate(at)}
        return tuple(over[i] for i in at), oriented(piece.expression.xreplace(over), known, ())

    plain = {standard(piece, False) for piece in definition.pieces}
    return plain == {standard(piece, True) for piece in definition.pieces}


def oriented(expression: Expr, symmetric: Set[str], first: Sequence[Symbol]) -> Expr:
    """Entries of symmetric tensors with their indices in one order, those of ``first`` in front."""
    names = {}
    for entry in expression.atoms(Indexed):
        if str(entry.base.label) in symmetric:
            *lead, a, c = entry.indices
            place = {i: n for n, i in enumerate(first)}
            a, c = sorted((a, c), key=lambda i: (place.get(i, 99), range_of(i) == "N", str(i)))
            names[entry] = entry.base[(*lead, a, c)]
    return expression.xreplace(names)
