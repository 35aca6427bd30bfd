"""Indexed definitions: the small calculus in which every flow is written, and its derivatives.

A *definition* gives a tensor by one or more *pieces* ``X[indices] = expression``. Within a piece
each index that stands on the right alone is summed over, term by term (Einstein's convention); an
index ranges over the set that its first letter names (``RANGES``). Pieces of one definition add
up, each on the slice that its indices select, so that a covariance is put together from blocks.

Two rules give every derivative: ``push_forward`` carries tangents along the definitions (exact
Jacobians), ``pull_back`` carries adjoints against them (drifts as gradients). Both only use
∂(expression)/∂(entry), which sympy knows, and Price's theorem for the Gaussian averages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Indexed, IndexedBase, Symbol

RANGES = {
    "k": "K", "l": "K",              # learner units
    "m": "M", "n": "M",              # teacher units
    "a": "N", "c": "N", "d": "N",    # all fields, the learner's first
    "x": "H", "z": "H",              # components of û = (1, u)
    "t": "tasks",
    "b": "L",                        # blocks of input coordinates
    "y": "Y",                        # coordinates of the state
}  # fmt: skip
"""Which set an index runs over, by the first letter of its name; N = K + M, H = 1 + M."""


def index(name: str) -> Symbol:
    """The index of this name; its first letter names its range."""
    return Symbol(name, integer=True, nonnegative=True)


def indices(names: str) -> tuple[Symbol, ...]:
    """Several indices, from names separated by blanks."""
    return tuple(index(name) for name in names.split())


def range_of(symbol: Expr) -> str:
    """The range of an index."""
    return RANGES[str(symbol)[0]]


@dataclass(frozen=True)
class Piece:
    """X[at] += expression, summed over the indices that ``at`` does not hold."""

    at: tuple[Symbol, ...]
    expression: Expr

    def terms(self) -> tuple[Expr, ...]:
        """The terms that are summed separately; pointwise expressions are one term."""
        if not self.summed(self.expression):
            return (self.expression,)
        return distribute(self.expression)

    def summed(self, term: Expr) -> tuple[Symbol, ...]:
        """The indices of a term that are summed over, by name."""
        free = {i for entry in term.atoms(Indexed) for i in entry.indices}
        return tuple(sorted(free - set(self.at), key=str))


def free_indices(expression: Expr) -> frozenset[Symbol]:
    """The indices that an expression's entries have."""
    return frozenset(i for entry in expression.atoms(Indexed) for i in entry.indices)


def distribute(expression: Expr) -> tuple[Expr, ...]:
    """The terms of a sum of products; a factor whose terms share their indices is kept whole."""
    if isinstance(expression, sympy.Add):
        return tuple(t for term in expression.args for t in distribute(term))
    for factor in sympy.Mul.make_args(expression):
        if isinstance(factor, sympy.Add) and len({free_indices(t) for t in factor.args}) > 1:
            rest = expression / factor
            return tuple(t for term in factor.args for t in distribute(rest * term))
    return (expression,)


@dataclass(frozen=True)
class Definition:
    """A named tensor. ``ranges`` has one letter set per axis.

    ``symmetric``: X[a, c] = X[c, a], made of a and c in the same way. ``paired``: the last-but-rest axes k, l of X[…k, l…] are
    symmetric and computed once per pair l ≤ k. ``meaning`` is the phrase the printer shows.
    """

    base: IndexedBase
    ranges: tuple[str, ...]
    pieces: tuple[Piece, ...]
    symmetric: bool = False
    paired: bool = False
    meaning: str = ""
    external: str = ""

    @property
    def name(self) -> str:
        return str(self.base.label)

    def reads(self) -> set[str]:
        """Names of the tensors that the definition uses."""
        entries = (e for piece in self.pieces for e in piece.expression.atoms(Indexed))
        return {str(entry.base.label) for entry in entries}


@dataclass
class Program:
    """Definitions in the order in which they can be evaluated, and the inputs they start from."""

    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    definitions: list[Definition] = field(default_factory=list)

    def input(self, name: str, at: str = "") -> IndexedBase:
        """Declare an input tensor, with a letter of its range per axis."""
        self.inputs[name] = tuple(RANGES[letter] for letter in at)
        return IndexedBase(name)

    def define(
        self, name: str, *pieces: tuple[Iterable[Symbol], Expr], ranges: Iterable[str] | None = None,
        **flags: object,
    ) -> IndexedBase:  # fmt: skip
        """Add a definition; its ranges are those of the first piece unless given."""
        made = tuple(Piece(tuple(at), sympy.sympify(expr, strict=True)) for at, expr in pieces)
        over = tuple(ranges) if ranges else tuple(range_of(i) for i in made[0].at)
        for known in self.definitions:
            if (known.pieces, known.ranges) == (made, over) and known.external == flags.get("external", ""):
                return known.base
        base = IndexedBase(self.unused(name))
        self.definitions.append(Definition(base, over, made, **flags))  # type: ignore[arg-type]
        return base

    def unused(self, name: str) -> str:
        """``name``, with a number if it is taken."""
        taken = set(self.inputs) | {d.name for d in self.definitions}
        number, fresh = 1, name
        while fresh in taken:
            number += 1
            fresh = f"{name}_{number}"
        return fresh

    def __getitem__(self, name: str) -> Definition:
        for definition in self.definitions:
            if definition.name == name:
                return definition
        raise KeyError(name)

    def ranges(self, name: str) -> tuple[str, ...]:
        """Ranges of an input or a definition."""
        return self.inputs[name] if name in self.inputs else self[name].ranges

    def needed(self, outputs: Iterable[str]) -> Program:
        """The part of the program that the outputs depend on."""
        wanted, kept = set(outputs), []
        for definition in reversed(self.definitions):
            if definition.name in wanted:
                kept.append(definition)
                wanted |= definition.reads()
        return Program(
            {name: r for name, r in self.inputs.items() if name in wanted}, kept[::-1]
        )


def entries(expression: Expr, names: Iterable[str]) -> list[Indexed]:
    """The entries of the named tensors in an expression, in a fixed order."""
    wanted = set(names)
    found = (e for e in expression.atoms(Indexed) if str(e.base.label) in wanted)
    return sorted(found, key=str)


def slope_of(expression: Expr, entry: Indexed) -> Expr:
    """∂(expression)/∂(entry), with every entry a variable of its own.

    Entries of one tensor at other indices are other variables: where indices coincide, each of
    the occurrences contributes its own slope.
    """
    names = {e: sympy.Dummy() for e in sorted(expression.atoms(Indexed), key=str)}
    slope = sympy.diff(expression.xreplace(names), names[entry])
    return slope.xreplace({name: e for e, name in names.items()})


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
            adjoints[name] = base or program.define(f"{name}_{suffix}", (at, bar(at)), ranges=definition.ranges)
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
    for name in wanted & set(due):
        adjoints[name] = program.define(
            f"{name}_{suffix}", *((p.at, p.expression) for p in due[name]), ranges=program.ranges(name)
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
        open_ = {d.name for d in program.definitions if d.name in found and any(d.name in r for r in read)}
        outer = {d.name for d in program.definitions if d.paired and "N" in d.ranges} - found
        open_ |= {n for d in program.definitions if d.name in outer | open_ for n in d.reads() & found}
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

    def collect(weight: Expr, expression: Expr) -> None:
        for entry in entries(expression, set(moving) | inner):
            slope = weight * slope_of(expression, entry)
            names = _canonical(entry, piece.at, free_indices(slope))
            entry, slope = entry.xreplace(names), slope.xreplace(names)
            if str(entry.base.label) in inner:
                due.setdefault(str(entry.base.label), []).append(Piece(entry.indices, slope))
            else:
                at = dict.fromkeys((*piece.at, *entry.indices))
                collected.setdefault(entry, []).append(Piece(tuple(at), slope))

    collect(sympy.Integer(1), piece.expression)
    for local in reversed([d for d in program.definitions if d.name in inner]):
        if local.name not in due:
            continue
        bar = program.define(
            f"{local.name}_of_{definition.name}",
            *((p.at, p.expression) for p in due.pop(local.name)),
            ranges=local.ranges, paired=True,
        )  # fmt: skip
        (own,) = local.pieces
        collect(bar[own.at], own.expression)
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
    names = {i: index(f"{str(i)[0] if range_of(i) != 'N' else 'c'}{n or ''}") for n, i in enumerate(own)}
    taken = set(names.values())
    spare = (i for i in own if i not in taken)
    for i in sorted(others - set(own) - set(at), key=str):
        if i in taken:
            names[i] = next(spare, index(f"{i}9"))
    return names
