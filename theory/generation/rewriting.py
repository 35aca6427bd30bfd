"""Rewriting programs before they become loops: products two at a time, named roots, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from itertools import count
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
    entries_in,
    free_indices,
    index,
    names_in,
    range_of,
)

LETTERS = {"N": "c", "K": "k", "M": "m", "H": "x", "tasks": "t", "L": "b", "Y": "y", "one": "o"}
"""The letter of an index that runs over a range."""


def _cost(indices: Iterable[Symbol]) -> float:
    return float(np.prod([SIZES[range_of(i)] for i in set(indices)]))


def binary(program: Program) -> Program:
    """The program with sums over several indices taken two factors at a time where cheaper."""
    made, symmetric = program.rewritten(), symmetric_tensors(program)
    for definition in program.definitions:
        pieces = []
        for piece in definition.pieces:
            total = sympy.Integer(0)
            for term in piece.terms():
                summed = piece.summed(term)
                parts = sympy.Add.make_args(expand_mul(term, deep=False)) if summed else (term,)
                factored = [_factored(made, definition, piece, part, symmetric) for part in parts]
                total += term if factored == list(parts) else sympy.Add(*factored)
            pieces.append(Piece(piece.at, total))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def _factored(
    program: Program, definition: Definition, piece: Piece, term: Expr, symmetric: Set[str]
) -> Expr:
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
    names = {} if lead else _canonical(program, product, at)
    there = tuple(i.xreplace(names) for i in at)
    value = oriented(product.xreplace(names), symmetric, there)
    base = program.define(f"{definition.name}_part", (there, value), paired=paired)
    return _factored(program, definition, piece, term / product * base[at], symmetric)


def _canonical(program: Program, product: Expr, at: Sequence[Symbol]) -> dict[Symbol, Symbol]:
    """Names under which products that differ by those of their indices, or by the part of all
    fields that these run over, are one."""
    axes: dict[Symbol, set[str]] = {}
    for entry in sorted(product.atoms(Indexed), key=str):
        for i, over in zip(entry.indices, program.ranges(str(entry.base.label)), strict=True):
            axes.setdefault(i, set()).add(over)
    names, numbers = {}, count(2)
    summed = sorted(set(axes) - set(at), key=str)
    for i in (*(i for i in at if i in axes), *summed):
        wide = axes[i] == {"N"} and i not in summed
        names[i] = index(f"{LETTERS['N' if wide else range_of(i)]}{next(numbers)}")
    return names


def turned(program: Program) -> Program:
    """The program with sums, and matrices made for many rows, reading along the last index of what
    they make where that can be: symmetric tensors the other way round, of others a copy."""
    made, symmetric = program.rewritten(), symmetric_tensors(program)
    for definition in program.definitions:
        row, pieces = row_of(definition), []
        for piece in definition.pieces:
            names: dict[Expr, Expr] = {}
            free = len({*piece.at} - {*row})
            for term in piece.terms() if free else ():
                if piece.summed(term) or (row and free > 1):
                    names |= _turned(made, term, piece.at[-1], symmetric)
            pieces.append(Piece(piece.at, piece.expression.xreplace(names)))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def _turned(program: Program, term: Expr, along: Symbol, symmetric: Set[str]) -> dict[Expr, Expr]:
    """The entries of a term as they are read along their last index, if all of them can be."""
    found = {}
    for entry in sorted(entries_in(term), key=str):
        name, at = str(entry.base.label), entry.indices
        if along not in at[:-1] or at[-1] == along:
            continue
        *lead, a, c = at
        known = name in program.inputs or not row_of(program[name])
        if a == along and name in symmetric:
            found[entry] = entry.base[(*lead, c, a)]
        elif not lead and known:
            ranges = enumerate(program.ranges(name), 2)
            first, second = (index(f"{LETTERS[over]}{n}") for n, over in ranges)
            copy = program.define(f"{name}_turned", ((second, first), entry.base[first, second]))
            found[entry] = copy[c, a]
        else:
            return {}
    return found


def hoisted(program: Program) -> Program:
    """The program with roots and reciprocals of fewer indices evaluated once, not per entry."""
    made, symmetric = program.rewritten(), symmetric_tensors(program)
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
                roots[power] = apart(made, definition, "root", power, symmetric)
            pieces.append(Piece(piece.at, piece.expression.xreplace(roots)))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def weights_last(program: Program) -> Program:
    """The program with X = f·Y as Y, and f taken to where X is summed over what f does not have."""
    weights: dict[str, tuple[tuple[Symbol, ...], Expr]] = {}
    made = program.rewritten()
    for definition in program.definitions:
        pieces = tuple(
            Piece(piece.at, _weighted(piece.expression, weights)) for piece in definition.pieces
        )
        at, value = pieces[0].at, pieces[0].expression
        factors = sympy.Mul.make_args(value)
        few = sympy.Mul(*(f for f in factors if free_indices(f) < set(at)))
        own = free_indices(few)
        gone = set(at) - own
        if len(pieces) == 1 and own and gone and _only_summed(program, definition, gone):
            weights[definition.name] = at, few
            pieces = (Piece(at, sympy.Mul(*(f for f in factors if not free_indices(f) < set(at)))),)
        made.definitions.append(replace(definition, pieces=pieces))
    return made


def _weighted(expression: Expr, weights: dict[str, tuple[tuple[Symbol, ...], Expr]]) -> Expr:
    """The expression with every entry that a weight was taken from multiplied by it."""
    names = {}
    for entry in entries_in(expression):
        if (name := str(entry.base.label)) in weights:
            at, few = weights[name]
            names[entry] = entry * few.xreplace(dict(zip(at, entry.indices, strict=True)))
    return expression.xreplace(names)


def _only_summed(program: Program, definition: Definition, gone: set[Symbol]) -> bool:
    """Whether a definition is only read in products that are summed over these of its indices."""
    at, reads = definition.pieces[0].at, 0
    name = definition.name
    for piece in (p for other in program.definitions for p in other.pieces):
        for term in piece.terms() if name in names_in(piece.expression) else ():
            for entry in entries(term, {name}):
                reads += 1
                over = {i for i, own in zip(entry.indices, at, strict=True) if own in gone}
                if entry not in sympy.Mul.make_args(term) or not over <= {*piece.summed(term)}:
                    return False
    return reads > 0


def gathered(program: Program) -> Program:
    """The program with sums Σ_cd X[k, l, c, d] (u + v + …) of several products as one, their factor
    of X a definition of its own."""
    made = program.rewritten()
    matrices = {d.name for d in program.definitions if d.paired and d.ranges[-2:] == ("N", "N")}
    for definition in program.definitions:
        pieces = tuple(
            Piece(p.at, _gathered(made, p, matrices)) if definition.paired else p
            for p in definition.pieces
        )
        made.definitions.append(replace(definition, pieces=pieces))
    return made


def _gathered(program: Program, piece: Piece, matrices: Set[str]) -> Expr:
    """What a piece is a sum of, the terms with one matrix as a single product."""
    total, groups = sympy.Integer(0), dict[Expr, list[Expr]]()
    for term in piece.terms():
        found = [e for e in entries(term, matrices) if {*e.indices[-2:]} == {*piece.summed(term)}]
        if len(found) == 1 and found[0] in sympy.Mul.make_args(term):
            groups.setdefault(found[0], []).append(term / found[0])
        else:
            total += term
    for matrix, terms in groups.items():
        if len(terms) == 1:
            total += terms[0] * matrix
            continue
        *_, a, c = matrix.indices
        shared = set.intersection(*({*sympy.Mul.make_args(term)} for term in terms))
        common = sympy.Mul(*(f for f in shared if not {a, c} & free_indices(f)))
        value = sympy.Add(*terms) / common
        symmetric = sympy.expand((value + value.xreplace({a: c, c: a})) / 2)
        piece_of = (matrix.indices, symmetric)
        weight = program.define("weight", piece_of, paired=True, symmetric=True)
        total += common * weight[matrix.indices] * matrix
    return total


def apart(
    program: Program, definition: Definition, name: str, value: Expr, symmetric: Set[str]
) -> Expr:
    """The entry of a definition of its own that holds a factor of fewer indices: one per pair of
    units where both, or what is known per pair, are needed."""
    units = definition.pieces[0].at[pair_axis(definition) :][:2] if definition.paired else ()
    own, known = free_indices(value), {d.name for d in program.definitions if d.paired}
    paired = bool(units) and ({*units} <= own or bool(names_in(value) & known))
    lead = (*lead_of(definition), *units) if paired else ()
    at = (*lead, *sorted(own - set(lead), key=str))
    names = _canonical(program, value, at) | {i: i for i in lead}
    there = tuple(i.xreplace(names) for i in at)
    made = oriented(value.xreplace(names), symmetric, there)
    return program.define(name, (there, made), paired=paired)[at]


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
