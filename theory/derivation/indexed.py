"""Indexed definitions: the small calculus in which every flow is written.

A *definition* gives a tensor by one or more *pieces* ``X[indices] = expression``. Within a piece
each index that stands on the right alone is summed over, term by term (Einstein's convention); an
index ranges over the set that its first letter names (``RANGES``). Pieces of one definition add
up, each on the slice that its indices select, so that a covariance is put together from blocks.

``theory.derivation.differentiation`` carries tangents along definitions, and adjoints against them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

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
    "o": "one",                      # the only entry of a scalar
}  # fmt: skip
"""Which set an index runs over, by the first letter of its name; N = K + M, H = 1 + M."""


SIZES = {"K": 4, "M": 4, "N": 8, "H": 5, "tasks": 40, "L": 2, "Y": 30, "pair": 10,
         "one": 1}  # fmt: skip
"""Typical sizes, by which the order of contractions is chosen."""


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
        return tuple(sorted(free_indices(term) - set(self.at), key=str))


@lru_cache(maxsize=1 << 16)
def entries_in(expression: Expr) -> frozenset[Indexed]:
    """The entries in an expression; each common subexpression is looked into once."""
    if isinstance(expression, Indexed):
        return frozenset((expression,))
    return frozenset().union(*(entries_in(part) for part in expression.args))


@lru_cache(maxsize=1 << 16)
def names_in(expression: Expr) -> frozenset[str]:
    """The names of the tensors in an expression."""
    return frozenset(str(entry.base.label) for entry in entries_in(expression))


@lru_cache(maxsize=1 << 16)
def free_indices(expression: Expr) -> frozenset[Symbol]:
    """The indices that an expression's entries have."""
    return frozenset(i for entry in entries_in(expression) for i in entry.indices)


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

    ``symmetric``: X[a, c] = X[c, a], made of a and c in the same way. ``paired``: the axes k, l of
    X[…, k, l, …] are symmetric and computed once per pair l ≤ k.
    ``meaning`` says what it is.
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
        return self.base.name

    def reads(self) -> set[str]:
        """Names of the tensors that the definition uses."""
        return set().union(*(names_in(piece.expression) for piece in self.pieces))


@dataclass
class Program:
    """Definitions in the order in which they can be evaluated, and the inputs they start from."""

    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    definitions: list[Definition] = field(default_factory=list)
    reserved: frozenset[str] = frozenset()
    """Names that further definitions do not take."""

    def rewritten(self) -> Program:
        """An empty program on the same inputs, for definitions that replace these by name."""
        return Program(dict(self.inputs), reserved=frozenset(d.name for d in self.definitions))

    def input(self, name: str, at: str = "") -> IndexedBase:
        """Declare an input tensor, with a letter of its range per axis."""
        self.inputs[name] = tuple(RANGES[letter] for letter in at)
        return IndexedBase(name)

    def define(
        self, name: str, *pieces: tuple[Iterable[Symbol], Expr],
        ranges: Iterable[str] | None = None, **flags: object,
    ) -> IndexedBase:  # fmt: skip
        """Add a definition; its ranges are those of the first piece unless given."""
        made = tuple(Piece(tuple(at), sympy.sympify(expr, strict=True)) for at, expr in pieces)
        over = tuple(ranges) if ranges else tuple(range_of(i) for i in made[0].at)
        for known in self.definitions:
            if (known.pieces, known.ranges) == (made, over) and known.external == flags.get(
                "external", ""
            ):
                return known.base
        base = IndexedBase(self.unused(name))
        self.definitions.append(Definition(base, over, made, **flags))  # type: ignore[arg-type]
        return base

    def unused(self, name: str) -> str:
        """``name``, with a number if it is taken."""
        taken = self.reserved | set(self.inputs) | {d.name for d in self.definitions}
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
        return Program({name: r for name, r in self.inputs.items() if name in wanted}, kept[::-1])


def entries(expression: Expr, names: Iterable[str]) -> list[Indexed]:
    """The entries of the named tensors in an expression, in a fixed order."""
    wanted = set(names)
    found = (e for e in entries_in(expression) if str(e.base.label) in wanted)
    return sorted(found, key=str)
