"""Rewriting programs before they become arrays, so that large arrays are passed over less often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy
from sympy import Expr, Indexed, Symbol

from theory.derivation.indexed import (
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
from theory.generation.rewriting import LETTERS, apart, hoisted


def for_arrays(program: Program) -> Program:
    """The program in the form in which numpy evaluates it soonest."""
    whole = _joined(_with_floats(program))
    return _weights_last(_coefficients_first(_shifted(hoisted(_diagonals(whole)))))


def _with_floats(program: Program) -> Program:
    """The program with π as a number, which merges with other factors."""
    made = program.rewritten()
    for definition in program.definitions:
        number = {sympy.pi: sympy.Float(np.pi, 17)}
        pieces = tuple(Piece(p.at, p.expression.xreplace(number)) for p in definition.pieces)
        made.definitions.append(replace(definition, pieces=pieces))
    return made


def _shifted(program: Program) -> Program:
    """The program with sums of a vector and a number, 1 + V[c] say, evaluated once."""
    made = program.rewritten()
    for definition in program.definitions:
        pieces = []
        for piece in definition.pieces:
            names = {}
            for total in sorted(piece.expression.atoms(sympy.Add), key=sympy.default_sort_key):
                number, entry = total.as_coeff_Add()
                if number == 0 or not isinstance(entry, Indexed) or len(entry.indices) > 1:
                    continue
                (over,) = program.ranges(name := str(entry.base.label))
                at = (index(LETTERS[over]),)
                base = made.define(f"{name}_shifted", (at, number + entry.base[at]))
                names[total] = base[entry.indices]
            pieces.append(Piece(piece.at, piece.expression.xreplace(names)))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def _joined(program: Program) -> Program:
    """The program with X[…, k] = Σ_l D[…, l] P[l, k] + Σ_m D[…, m] R[m, k], and the like for
    X[…, n], as one product of D with a matrix of blocks."""
    made = program.rewritten()
    a, c = index("a90"), index("c91")
    for definition in program.definitions:
        split = definition.ranges[-1:] == ("N",) and len(definition.pieces) == 2
        parts = [_halves(piece) for piece in definition.pieces] if split else []
        rows = {piece.at[:-1] for piece in definition.pieces}
        kinds = {range_of(piece.at[-1]) for piece in definition.pieces if split}
        factors = {first.base for part in parts for first, _, _ in part}
        alone = len(rows) == len(factors) == 1
        if kinds != {"K", "M"} or not all(parts) or not alone:
            made.definitions.append(definition)
            continue
        (row,), (factor,), (_, entry, _) = rows, factors, parts[0][0]
        lead = tuple(i for i in row if i in entry.indices)
        blocks = [((*lead, i, piece.at[-1]), second)
                  for piece, part in zip(definition.pieces, parts, strict=True)
                  for _, second, i in part]  # fmt: skip
        ranges = (*(range_of(i) for i in lead), "N", "N")
        whole = made.define(f"{definition.name}_blocks", *blocks, ranges=ranges)
        value = factor[(*row, a)] * whole[(*lead, a, c)]
        made.definitions.append(replace(definition, pieces=(Piece((*row, c), value),)))
    return made


def _halves(piece: Piece) -> list[tuple[Indexed, Indexed, Symbol]]:
    """D[…, i], X and i of a piece Σ_k D[…, k] X + Σ_m D[…, m] Y, for both; empty if it is none."""
    found = []
    for term in piece.terms():
        summed, factors = piece.summed(term), sympy.Mul.make_args(term)
        if len(summed) != 1 or len(factors) != 2 or not all(f.is_Indexed for f in factors):
            return []
        for first, second in (factors, factors[::-1]):
            if first.indices == (*piece.at[:-1], *summed) and piece.at[-1] in second.indices:
                found.append((first, second, summed[0]))
    kinds = sorted(range_of(i) for _, _, i in found)
    return found if kinds == ["K", "M"] and len(piece.terms()) == 2 else []


def _diagonals(program: Program) -> Program:
    """The program with vectors that are diagonals of later matrices, X[c] = Y[c, c], read there."""
    of = {d.name: d.pieces[0].expression.base for d in program.definitions if _is_diagonal(d)}

    def written_out(expression: Expr) -> Expr:
        found = (e for e in entries_in(expression) if str(e.base.label) in of)
        return expression.xreplace(
            {e: of[str(e.base.label)][(*e.indices, e.indices[-1])] for e in found}
        )

    kept = list(program.definitions)
    for matrix in program.definitions:
        (piece, *more) = matrix.pieces
        if more or matrix.ranges[-2:] != ("N", "N"):
            continue
        *at, row, column = piece.at
        known = matrix.reads() | {*of}
        expected = written_out(piece.expression.xreplace({column: row}))
        for vector in kept[: kept.index(matrix)]:
            (own, *others) = vector.pieces
            if vector.ranges != matrix.ranges[:-1] or others or not vector.reads() <= known:
                continue
            since = kept[kept.index(vector) : kept.index(matrix)]
            names = dict(zip(own.at, (*at, row), strict=True))
            alike = written_out(own.expression.xreplace(names)) == expected
            if alike and not any(vector.name in d.reads() for d in since):
                kept.remove(vector)
                diagonal = Piece((*at, row), matrix.base[(*at, row, row)])
                kept.insert(kept.index(matrix) + 1, replace(vector, pieces=(diagonal,)))
    return Program(dict(program.inputs), kept, program.reserved)


def _is_diagonal(definition: Definition) -> bool:
    """Whether a definition is X[…, c] = Y[…, c, c]."""
    (first, *more) = definition.pieces
    if more or not isinstance(first.expression, Indexed) or not first.at:
        return False
    return first.expression.indices == (*first.at, first.at[-1])


def _coefficients_first(program: Program) -> Program:
    """The program with f·(u x + v y) as (f u) x + (f v) y, where f, u, v have fewer indices."""
    made = program.rewritten()
    for definition in program.definitions:
        pieces = []
        for piece in definition.pieces:
            value = piece.expression
            if not piece.summed(value):
                value = _distributed(made, definition, value)
            pieces.append(Piece(piece.at, value))
        made.definitions.append(replace(definition, pieces=tuple(pieces)))
    return made


def _distributed(program: Program, definition: Definition, value: Expr) -> Expr:
    """A product with a sum, multiplied out where that leaves fewer products of large arrays."""
    factors = sympy.Mul.make_args(value)
    totals = [f for f in factors if isinstance(f, sympy.Add)]
    few = sympy.Mul(*(f for f in factors if f not in totals))
    own = free_indices(few)
    if len(totals) != 1 or not own or not own < free_indices(value):
        return value
    terms = []
    for term in totals[0].args:
        here = [f for f in sympy.Mul.make_args(term) if f.has(Indexed) and free_indices(f) <= own]
        if not here:
            return value
        weight = apart(program, definition, "coefficient", few * sympy.Mul(*here), set())
        terms.append(weight * (term / sympy.Mul(*here)))
    return sympy.Add(*terms)


def _weights_last(program: Program) -> Program:
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
