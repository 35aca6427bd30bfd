"""Derivatives of indexed definitions, as further definitions.

``push_forward`` carries tangents along a program (exact Jacobians), ``pull_back`` carries adjoints
against it (drifts as gradients). Both only use ∂(expression)/∂(entry), which sympy knows, and
Price's theorem for the Gaussian averages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import sympy
from sympy import Expr, Indexed, IndexedBase, Symbol

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


@lru_cache(maxsize=1 << 16)
def slope_of(expression: Expr, entry: Indexed) -> Expr:
    """∂(expression)/∂(entry), with every entry a variable of its own.

    Entries of one tensor at other indices are other variables: where indices coincide, each of
    the occurrences contributes its own slope. ``sympy.diff`` would do; it takes ten times as long
    on closed forms, for it asks for the sign and the finiteness of every factor.
    """
    if expression == entry:
        return sympy.S.One
    if entry not in entries_in(expression):
        return sympy.S.Zero
    if isinstance(expression, sympy.Add):
        return sympy.Add(*(slope_of(term, entry) for term in expression.args))
    if isinstance(expression, sympy.Mul):
        args = expression.args
        return sympy.Add(
            *(
                sympy.Mul(*args[:i], slope, *args[i + 1 :])
                for i, factor in enumerate(args)
                if (slope := slope_of(factor, entry)) != 0
            )
        )
    if isinstance(expression, sympy.Pow) and entry not in entries_in(expression.exp):
        base, power = expression.args
        return power * sympy.Pow(base, power - 1) * slope_of(base, entry)
    if isinstance(expression, sympy.Function):
        return sympy.Add(
            *(
                expression.fdiff(i + 1) * slope
                for i, argument in enumerate(expression.args)
                if (slope := slope_of(argument, entry)) != 0
            )
        )
    name = sympy.Dummy()
    return sympy.diff(expression.xreplace({entry: name}), name).xreplace({name: entry})


def pull_back(
    program: Program,
    seeds: Mapping[str, Piece],
    wanted: Iterable[str],
    held: Iterable[str] = (),
    suffix: str = "bar",
) -> dict[str, IndexedBase]:
    """Adjoints of a scalar (per task) with respect to the wanted tensors; adds their definitions.

    ``seeds`` gives ∂(scalar)/∂(tensor) for the tensors it depends on directly; ``held`` tensors
    are treated as constants. Returns the adjoint X̄ of each wanted tensor that has one.
    """
    wanted, held = set(wanted), set(held)
    active = _dependent(program, wanted) - held
    due: dict[str, list[Piece]] = {name: [piece] for name, piece in seeds.items() if name in active}
    adjoints: dict[str, IndexedBase] = {}
    for definition in reversed(program.definitions[:]):
        name = definition.name
        if name not in due:
            continue
        bar, base = _adjoint(program, definition, due.pop(name), suffix)
        if name in wanted:
            at = definition.pieces[0].at if base is None else ()
            adjoints[name] = base or program.define(
                f"{name}_{suffix}", (at, bar(at)), ranges=definition.ranges
            )
        if name in held:
            continue
        if definition.external:
            _pull_inverse(definition, bar, due)
            continue
        for piece in definition.pieces:
            for entry in entries(piece.expression, active | wanted):
                factor = _slots(definition, piece, entry)
                if factor:
                    slope = factor * slope_of(piece.expression, entry)
                    target = str(entry.base.label)
                    due.setdefault(target, []).append(Piece(entry.indices, bar(piece.at) * slope))
    for name in sorted(wanted & set(due)):
        adjoints[name] = program.define(
            f"{name}_{suffix}",
            *((p.at, p.expression) for p in due[name]),
            ranges=program.ranges(name),
        )
    return adjoints


def _pull_inverse(
    definition: Definition, bar: Callable[[tuple[Symbol, ...]], Expr], due: dict[str, list[Piece]]
) -> None:
    """Adjoint of P = A⁻¹: Ā = −Pᵀ P̄ Pᵀ."""
    (piece,) = definition.pieces
    *lead, first, second = piece.at
    p, q = index("k8"), index("k9")
    P = definition.base
    value = -P[(*lead, p, first)] * bar((*lead, p, q)) * P[(*lead, second, q)]
    due.setdefault(str(piece.expression.base.label), []).append(Piece(piece.at, value))


def _push_inverse(definition: Definition, moving: Mapping[str, IndexedBase], y: Symbol) -> Expr:
    """Tangent of P = A⁻¹: dP = −P dA P."""
    (piece,) = definition.pieces
    *lead, first, second = piece.at
    p, q = index("k8"), index("k9")
    P, dA = definition.base, moving[str(piece.expression.base.label)]
    return -P[(*lead, first, p)] * dA[(y, *lead, p, q)] * P[(*lead, q, second)]


def _slots(definition: Definition, piece: Piece, entry: Indexed) -> int:
    """How often an entry counts: both slots of a symmetric average give the same, so that the
    entries of its first slot are taken twice and those of the second not at all."""
    first, second = piece.at[-2:] if definition.symmetric else (None, None)
    if not definition.symmetric or {first, second} <= set(entry.indices):
        return 1
    return 2 if first in entry.indices else 0


def _adjoint(
    program: Program, definition: Definition, due: list[Piece], suffix: str
) -> tuple[Callable[[tuple[Symbol, ...]], Expr], IndexedBase | None]:
    """The adjoint's entry at given indices, and its tensor.

    An adjoint that is a number, or a multiple of a tensor, needs no definition of its own.
    """
    name = f"{definition.name}_{suffix}"
    (first, *more) = due
    if not more and (first.expression.is_number or _alias(program, definition, first)):
        return lambda at: first.expression.xreplace(dict(zip(first.at, at, strict=True))), None
    bar = program.define(name, *((p.at, p.expression) for p in due), ranges=definition.ranges)
    if definition.symmetric:
        lead = definition.pieces[0].at
        swapped = (*lead[:-2], lead[-1], lead[-2])
        bar = program.define(f"{name}_sym", (lead, (bar[lead] + bar[swapped]) / 2))
    return lambda at: bar[at], bar


def _alias(program: Program, definition: Definition, piece: Piece) -> bool:
    """Whether a piece is a number times one tensor at the same indices, as symmetric as needed."""
    found = list(piece.expression.atoms(Indexed))
    if len(found) != 1 or not (piece.expression / found[0]).is_number:
        return False
    (entry,) = found
    name = str(entry.base.label)
    if name in program.inputs or tuple(entry.indices) != piece.at:
        return False
    full = program.ranges(name) == definition.ranges == tuple(range_of(i) for i in piece.at)
    return full and (program[name].symmetric or not definition.symmetric)


def _dependent(program: Program, sources: set[str]) -> set[str]:
    """Names of all definitions that depend on the sources, and the sources."""
    found = set(sources)
    for definition in program.definitions:
        if definition.reads() & found:
            found.add(definition.name)
    return found


def push_forward(
    program: Program, tangents: Mapping[str, IndexedBase], direction: Symbol, suffix: str = "dot"
) -> dict[str, IndexedBase]:
    """Tangents of every definition along a family of directions; adds their definitions.

    ``tangents`` gives, for the tensors that move, their derivative with the direction's index in
    front. Tensors that are computed per pair of learner units are handled in reverse: their
    adjoints are carried back, pair by pair, to the tensors they are made of (``_contract_pairs``).
    """
    moving = dict(tangents)
    inner = _inner(program)
    for definition in program.definitions[:]:
        if definition.name in inner or not definition.reads() & (set(moving) | inner):
            continue
        if definition.external:
            at = (direction, *definition.pieces[0].at)
            pieces = [(at, _push_inverse(definition, moving, direction))]
        elif definition.reads() & inner:
            pieces = _contract_pairs(program, definition, inner, moving, direction)
        else:
            pieces = [
                ((direction, *piece.at), slope)
                for piece in definition.pieces
                if (slope := _tangent(piece.expression, moving, direction)) != 0
            ]
        if pieces:
            moving[definition.name] = program.define(
                f"{definition.name}_{suffix}", *pieces,
                ranges=(range_of(direction), *definition.ranges), paired=definition.paired,
            )  # fmt: skip
    return moving


def _inner(program: Program) -> set[str]:
    """Tensors per pair (k, l) with further indices that only serve other tensors per pair."""
    found = {d.name for d in program.definitions if d.paired and "N" in d.ranges}
    while True:
        read = [d.reads() for d in program.definitions if not d.paired]
        read += [d.reads() for d in program.definitions if d.paired and len(d.pieces) > 1]
        open_ = {
            d.name
            for d in program.definitions
            if d.name in found and any(d.name in r for r in read)
        }
        outer = {d.name for d in program.definitions if d.paired and "N" in d.ranges} - found
        open_ |= {
            n for d in program.definitions if d.name in outer | open_ for n in d.reads() & found
        }
        if not open_:
            return found
        found -= open_


def _tangent(expression: Expr, moving: Mapping[str, IndexedBase], direction: Symbol) -> Expr:
    return sympy.Add(
        *(
            slope_of(expression, entry) * moving[str(entry.base.label)][(direction, *entry.indices)]
            for entry in entries(expression, moving)
        )
    )


def _contract_pairs(
    program: Program, definition: Definition, inner: set[str], moving: Mapping[str, IndexedBase],
    direction: Symbol,
) -> list[tuple[tuple[Symbol, ...], Expr]]:  # fmt: skip
    """Tangent of a tensor per pair through the inner tensors it is made of, in reverse.

    What multiplies a tangent is collected first, so that each is contracted once.
    """
    (piece,) = definition.pieces
    due: dict[str, list[Piece]] = {}
    collected: dict[Indexed, list[Piece]] = {}

    def carried(entry: Indexed) -> tuple[Symbol, ...]:
        """Indices of an adjoint: those of the output, which stay apart, and the entry's own."""
        return tuple(dict.fromkeys((*piece.at, *entry.indices)))

    def collect(weight: Expr, expression: Expr) -> None:
        for entry in entries(expression, set(moving) | inner):
            slope = weight * slope_of(expression, entry)
            names = _canonical(entry, piece.at, free_indices(slope))
            entry, slope = entry.xreplace(names), slope.xreplace(names)
            if str(entry.base.label) in inner:
                due.setdefault(str(entry.base.label), []).append(Piece(carried(entry), slope))
            else:
                collected.setdefault(entry, []).append(Piece(carried(entry), slope))

    collect(sympy.Integer(1), piece.expression)
    for local in reversed([d for d in program.definitions if d.name in inner]):
        if local.name not in due:
            continue
        (own,) = local.pieces
        bar = program.define(
            f"{local.name}_of_{definition.name}",
            *((p.at, p.expression) for p in due.pop(local.name)),
            paired=True,
        )
        collect(bar[carried(local.base[own.at])], own.expression)
    pieces = []
    for entry, parts in collected.items():
        at, name = parts[0].at, str(entry.base.label)
        weight = program.define(
            f"{name}_of_{definition.name}", *((p.at, p.expression) for p in parts), paired=True
        )
        tangent = moving[name][(direction, *entry.indices)]
        pieces.append(((direction, *piece.at), weight[at] * tangent))
    return pieces


def _canonical(
    entry: Indexed, at: tuple[Symbol, ...], others: frozenset[Symbol]
) -> dict[Symbol, Symbol]:
    """Renaming under which entries that differ by the names of their inner indices are one."""
    own = [i for i in dict.fromkeys(entry.indices) if i not in at]
    letter = {"N": "c", "K": "k"}  # k and l themselves name the pair
    names = {i: index(f"{letter.get(range_of(i), str(i)[0])}{n + 2}") for n, i in enumerate(own)}
    taken = set(names.values())
    spare = (i for i in own if i not in taken)
    for i in sorted(others - set(own) - set(at), key=str):
        if i in taken:
            names[i] = next(spare, index(f"{i}9"))
    return names
