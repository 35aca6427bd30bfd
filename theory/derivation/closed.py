"""Putting closed forms in the place of named averages, before a flow is differentiated again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import sympy
from sympy import Expr, Indexed, Symbol

from theory.activations import Activation
from theory.averages import Average, NoClosedFormError, closed_form
from theory.derivation.indexed import Definition, Piece, Program
from theory.symbols import X

FOUR_POINT = ((1,), (1,), (0,), (0,))


@cache
def _form(
    signature: tuple[tuple[int, ...], ...], activation: Activation
) -> tuple[tuple[Symbol, ...], Expr] | None:
    """Closed form of an average in the entries of a covariance; None if there is none.

    Of activations with kinks, those of three and more fields are singular where fields coincide,
    and are left to ``theory.gaussian.kinks``.
    """
    n = len(signature)
    names = {(i, j): Symbol(f"C{i + 1}{j + 1}") for i in range(n) for j in range(i, n)}
    C = sympy.Matrix(n, n, lambda i, j: names[min(i, j), max(i, j)])
    if n > 2 and activation.has_kinks:
        return None
    try:
        return tuple(names.values()), closed_form(signature, activation, C)
    except NoClosedFormError:
        return None


@cache
def tilts(activation: Activation) -> bool:
    """Whether g' is a multiple of exp(−x²/2), so that it acts as a Gaussian weight."""
    if activation.expression is None:
        return False
    ratio = sympy.expand(activation.derivative(1) * sympy.exp(X**2 / 2))
    return not ratio.has(X) and ratio != 0


def expand(expression: Expr, activation: Activation) -> Expr:
    """The expression with every average that has a closed form replaced by it."""
    replacements = {}
    for atom in expression.atoms(sympy.Function):
        signature = getattr(type(atom), "signature", None)
        if signature is None:
            continue
        found = _form(signature, activation)
        if found is not None:
            names, form = found
            replacements[atom] = form.xreplace(dict(zip(names, atom.args, strict=True)))
    return expression.xreplace(replacements)


def close(program: Program, activation: Activation) -> Program:
    """The program with closed forms; four-point averages by tilt where g' is a Gaussian weight.

    g'(x_k) g'(x_l) tilts the other fields to the covariance C − B(1 + C_kl)⁻¹Bᵀ, so that
    ⟨g'_k g'_l g_c g_d⟩ = J2(k, l) · I2(c, d) there: two updates of rank one per pair (k, l), of
    which all l share the first, then one arcsine per (c, d).
    """
    closed = Program(dict(program.inputs))
    for definition in program.definitions:
        (first, *_) = definition.pieces
        if getattr(type(first.expression), "signature", None) == FOUR_POINT and tilts(activation):
            _tilt(closed, definition, activation)
            continue
        pieces = tuple(Piece(p.at, expand(p.expression, activation)) for p in definition.pieces)
        closed.definitions.append(_with(definition, pieces))
    return closed if tilts(activation) else _without_products(closed)


def _without_products(program: Program) -> Program:
    """The program without four-point averages of linear networks, sums of products by Wick.

    What reads them contracts their factors instead: K²N + KN² operations in the place of K²N².
    """
    kept = Program(dict(program.inputs))
    products: dict[str, Piece] = {}
    for definition in program.definitions:
        pieces = tuple(Piece(p.at, _expanded(p.expression, products)) for p in definition.pieces)
        (first, *more) = pieces
        four = definition.paired and definition.ranges[-2:] == ("N", "N")
        if four and not more and _is_pairings(first.expression):
            products[definition.name] = first
        else:
            kept.definitions.append(_with(definition, pieces))
    return kept


def _is_pairings(expression: Expr) -> bool:
    """Whether the expression is a sum of at most three products of entries."""
    terms = sympy.Add.make_args(expression)
    return len(terms) <= 3 and expression.is_polynomial(*expression.atoms(Indexed))


def _expanded(expression: Expr, products: Mapping[str, Piece]) -> Expr:
    """The expression with the entries of products written out, term by term."""
    replacements = {}
    for entry in expression.atoms(Indexed):
        product = products.get(str(entry.base.label))
        if product is not None:
            at = dict(zip(product.at, entry.indices, strict=True))
            replacements[entry] = product.expression.xreplace(at)
    return sympy.expand(expression.xreplace(replacements)) if replacements else expression


def _with(definition: Definition, pieces: tuple[Piece, ...]) -> Definition:
    return replace(definition, pieces=pieces)


def _tilt(program: Program, definition: Definition, activation: Activation) -> None:
    """The tilt by g'_k, then that by g'_l: each takes x xᵀ/(1 + variance) off the covariance, x
    the covariances with the field that it weighs."""
    (piece,) = definition.pieces
    *lead, k, l, c, d = piece.at
    vk, o, kc, _, vl, lc, _, vc, cd, _ = piece.expression.args
    pair, at_c, at_d = (*lead, k, l), (*lead, k, l, c), (*lead, k, l, d)
    by_k = program.define("tilt_k", ((*lead, k, c), kc / sympy.sqrt(1 + vk)))
    p, p_l = by_k[(*lead, k, c)], by_k[(*lead, k, l)]
    left = (lc - p_l * p) / sympy.sqrt(1 + vl - p_l**2)
    by_l = program.define("tilt_l", (at_c, left), paired=True)
    V = program.define("V_tilted", (at_c, vc - p**2 - by_l[at_c] ** 2), paired=True)
    tilted = cd - p * by_k[(*lead, k, d)] - by_l[at_c] * by_l[at_d]
    C = program.define("C_tilted", (piece.at, tilted), paired=True, symmetric=True)
    J2 = Average(((1,), (1,)))(vk, o, vl)
    I2 = Average(((0,), (0,)))(V[at_c], C[piece.at], V[at_d])
    weight = program.define("J2_pair", (pair, expand(J2, activation)), paired=True)
    value = weight[pair] * expand(I2, activation)
    program.definitions.append(
        replace(definition, pieces=(Piece(piece.at, value),), symmetric=True)
    )
