"""Rewriting programs before they become arrays, so that large arrays are passed over less often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy
from sympy import Expr, Indexed

from theory.derivation.indexed import (
    Definition,
    Piece,
    Program,
    entries_in,
    free_indices,
    index,
)
from theory.generation.rewriting import LETTERS, apart, hoisted, weights_last


def for_arrays(program: Program) -> Program:
    """The program in the form in which numpy evaluates it soonest."""
    whole = _with_floats(program)
    return weights_last(_coefficients_first(_shifted(hoisted(_diagonals(whole)))))


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
