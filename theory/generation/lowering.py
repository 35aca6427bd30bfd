"""From indexed definitions to numpy source: views, pointwise expressions, contractions.

Every tensor becomes an array with an axis per index. Tensors per pair of learner units have one
axis for the pairs l ≤ k, in the order of the state vector, in place of the two. Pointwise pieces
become broadcast expressions with their common subexpressions shared across the whole program;
sums of products become matrix products or ``einsum`` over two operands at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

import sympy
from sympy import Expr, Indexed, Symbol

from theory.derivation.indexed import Definition, Piece, Program, free_indices, index, range_of
from theory.generation.array_forms import for_arrays
from theory.generation.formulas import ArrayPrinter, summed
from theory.generation.lines import Line
from theory.generation.products import PAIR, Operand, Tokens, aligned, contracted
from theory.generation.rewriting import SYMMETRIC


class NumpyWriter:
    """Writes the body of a function that evaluates a program.

    ``together``: whether a pair of units reads what belongs to others.
    """

    def __init__(self, program: Program, scalars: Collection[str]) -> None:
        self.program = program = for_arrays(program)
        self.lines: list[Line] = []
        self.together = False
        self.cached: dict[str, str] = {}
        self.printer = ArrayPrinter(scalars, self._keep)
        self.definitions = {d.name: d for d in program.definitions}
        self.symmetric = SYMMETRIC | {d.name for d in program.definitions if d.symmetric}
        self.substitutions: dict[Symbol, tuple[Expr, Tokens]] = {}
        self.reduced: dict[tuple[Tokens, Expr], Expr] = {}
        self.count = 0

    def write(self) -> list[Line]:
        """Lines of source, one definition after the other."""
        self._share()
        for definition in self.program.definitions:
            self._define(definition)
        return self.lines

    # ── common subexpressions ────────────────────────────────────────────────────────────────

    def _share(self) -> None:
        """Find subexpressions that pointwise pieces with the same axes have in common."""
        groups: dict[Tokens, list[Expr]] = {}
        for definition in self.program.definitions:
            for piece in definition.pieces:
                for factor, axes in self._pointwise_parts(definition, piece):
                    group = groups.setdefault(axes, [])
                    if factor not in group:
                        group.append(factor)
        for axes, expressions in groups.items():
            names = sympy.numbered_symbols(f"v{len(self.substitutions)}_")
            replacements, reduced = sympy.cse(expressions, symbols=names, order="none")
            self.substitutions |= {name: (value, axes) for name, value in replacements}
            self.reduced |= {(axes, e): r for e, r in zip(expressions, reduced, strict=True)}

    def _pointwise_parts(self, definition: Definition, piece: Piece) -> list[tuple[Expr, Tokens]]:
        parts = []
        for term in _factored(piece)[1]:
            if not piece.summed(term):
                parts.append((term, self._merge(piece.at, definition)))
            else:
                nonlinear, _, _ = self._split(term)
                if nonlinear is not None:
                    parts.append((nonlinear, self._order(nonlinear, definition, piece)))
        return parts

    @staticmethod
    def _split(term: Expr) -> tuple[Expr | None, list[Indexed], Expr]:
        """A term as (nonlinear factor, entries, scalar factor)."""
        nonlinear, entries, scalar = [], [], sympy.Integer(1)
        for factor in sympy.Mul.make_args(term):
            base, power = factor.as_base_exp()
            if isinstance(base, Indexed) and power.is_Integer and 0 < power <= 4:
                entries.extend([base] * int(power))
            elif factor.has(Indexed):
                nonlinear.append(factor)
            else:
                scalar *= factor
        return (sympy.Mul(*nonlinear) if nonlinear else None), entries, scalar

    def _order(self, expression: Expr, definition: Definition, piece: Piece) -> Tokens:
        """Axes of a factor: the piece's indices that it has, then those summed over."""
        free = {i for e in expression.atoms(Indexed) for i in e.indices}
        pair = self._pair(definition, piece.at)
        if pair and free & set(pair):
            free |= set(pair)
        ordered = [i for i in piece.at if i in free]
        ordered += sorted(free - set(piece.at), key=str)
        return self._merge(tuple(ordered), definition, pair)

    @staticmethod
    def _pair_axis(ranges: Sequence[str]) -> int:
        """Where the two axes of a pair begin."""
        return next(i for i in range(len(ranges) - 1) if ranges[i] == ranges[i + 1] == "K")

    def _pair(self, definition: Definition, at: Tokens) -> Tokens:
        if not definition.paired or len(at) < len(definition.ranges):
            return ()
        where = self._pair_axis(definition.ranges)
        return at[where : where + 2]

    def _merge(self, at: Tokens, definition: Definition, pair: Tokens | None = None) -> Tokens:
        """Axes with the two indices of a pair replaced by the one of pairs."""
        pair = self._pair(definition, at) if pair is None else pair
        if not pair or pair[0] not in at:
            return tuple(dict.fromkeys(at))
        merged = [PAIR if i == pair[0] else i for i in at if i != pair[1]]
        return tuple(dict.fromkeys(merged))

    # ── views ────────────────────────────────────────────────────────────────────────────────

    def _view(self, entry: Indexed, pair: Tokens) -> Operand:
        """The array of a tensor's entries, with slices and gathers for the indices it is given."""
        name, at = str(entry.base.label), tuple(entry.indices)
        ranges = self.program.ranges(name)
        code, axes = name, list(at)
        definition = self.definitions.get(name)
        if definition is not None and definition.paired:
            where = self._pair_axis(ranges)
            if pair and set(at[where : where + 2]) == set(pair) and at[where] != at[where + 1]:
                parts = [_part(i, over) for i, over in zip(at, ranges, strict=True)]
                del parts[where]
                if any(part != ":" for part in parts):
                    name = self._keep(f"{name}[{', '.join(parts)}]")
                return self._diagonal(name, [*at[:where], PAIR, *at[where + 2 :]], symmetric=False)
            self.together = True
            code = self._keep(f"{name}[{':, ' * where}pair_of]")
        subscript, gathered = [], []
        for axis, (i, over) in enumerate(zip(at, ranges, strict=True)):
            if i in pair:
                subscript.append("rows" if i == pair[0] else "columns")
                gathered.append(axis)
            else:
                subscript.append(_part(i, over))
        if gathered:
            first = gathered[0]
            adjacent = gathered == list(range(first, first + len(gathered)))
            axes = [i for axis, i in enumerate(axes) if axis not in gathered]
            axes.insert(first if adjacent else 0, PAIR)
        flat = {"rows, columns": "places", "columns, rows": "mirrored"}.get(", ".join(subscript))
        if flat and ranges[-1] == "N":
            code = self._keep(f"{code}.take({flat})")
        elif gathered == [0] and set(subscript[1:]) <= {":"}:
            code = self._keep(f"{code}.take({subscript[0]}, 0)")
        elif any(s != ":" for s in subscript):
            code = self._keep(f"{code}[{', '.join(subscript)}]")
        return self._diagonal(code, axes, symmetric=name in self.symmetric and code == name)

    @staticmethod
    def _diagonal(code: str, axes: list[Symbol], symmetric: bool) -> Operand:
        for i in dict.fromkeys(axes):
            if axes.count(i) == 2:
                first, second = (axis for axis, j in enumerate(axes) if j == i)
                told = "" if (first, second) == (0, 1) else f"0, {first}, {second}"
                code = f"{code}.diagonal({told})"
                axes = [j for j in axes if j != i] + [i]
        return Operand(code, tuple(axes), symmetric)

    def _keep(self, code: str) -> str:
        """A variable for code that is worth evaluating once."""
        if code.isidentifier():
            return code
        if code not in self.cached:
            self.count += 1
            self.cached[code] = f"a{self.count}"
            self.lines.append(Line(self.cached[code], code))
        return self.cached[code]

    # ── pieces ───────────────────────────────────────────────────────────────────────────────

    def _pointwise(self, expression: Expr, axes: Tokens, pair: Tokens) -> str:
        """Code of a broadcast expression over ``axes``."""
        reduced = self.reduced[axes, expression]
        self._need(reduced, pair)
        return self._render(reduced, axes, pair)

    def _need(self, expression: Expr, pair: Tokens) -> None:
        """Assign the shared subexpressions that an expression uses and that are not there yet."""
        for name in sorted(expression.free_symbols & set(self.substitutions), key=str):
            if name not in self.substitutions:
                continue
            value, axes = self.substitutions.pop(name)
            self._need(value, pair)
            self.lines.append(Line(str(name), self._render(value, axes, pair)))

    def _render(self, expression: Expr, axes: Tokens, pair: Tokens) -> str:
        products, rest = self._outer_products(expression, axes, pair)
        names: dict[Expr, Expr] = {}
        narrow: set[Expr] = set()
        for entry in sorted(rest.atoms(Indexed), key=str):
            view = self._view(entry, pair)
            names[entry] = Symbol(self._keep(aligned(view, axes)))
            if set(view.axes) < set(axes):
                narrow.add(names[entry])
        self.printer.narrow = frozenset(narrow)
        code = self.printer.whole(rest.xreplace(names))
        return f"{code} - {products}" if products else code

    def _outer_products(self, value: Expr, axes: Tokens, pair: Tokens) -> tuple[str, Expr]:
        """Code of the outer products that are taken away, and the rest of the sum.

        Several of them are one product of matrices, which is quicker than broadcast products.
        """
        *lead, a, c = axes if len(axes) > 2 else (None, None, None)
        found: list[tuple[Indexed, Indexed]] = []
        rest = []
        for term in sympy.Add.make_args(value):
            factors = sorted(sympy.Mul.make_args(-term), key=lambda e: e.has(c))
            kinds = [{*self._view_axes(e, pair)} if e.is_Indexed else None for e in factors]
            if kinds == [{*lead, a}, {*lead, c}]:
                found.append((factors[0], factors[1]))
            else:
                rest.append(term)
        if len(found) < 2 or not rest:
            return "", value
        left, right = (self._stacked(e, (*lead, i), pair)
                       for e, i in zip(zip(*found, strict=True), (a, c), strict=True))  # fmt: skip
        if left == right:  # for a matrix with its own transpose numpy takes a slower routine
            left = self._keep(f"{left}.copy()")
        last = len(lead)
        return f"{left}.swapaxes({last}, {last + 1}) @ {right}", sympy.Add(*rest)

    def _stacked(self, entries: Sequence[Indexed], axes: Tokens, pair: Tokens) -> str:
        """A variable for arrays with a new axis, over the entries, before the last."""
        heads = tuple(e.indices[0] for e in entries)
        name, tails = str(entries[0].base.label), {(e.base, e.indices[1:]) for e in entries}
        paired = name in self.definitions and self.definitions[name].paired
        if heads == pair and len(tails) == 1 and not paired:
            return self._keep(f"{name}.take(couples, 0)")
        spread = (*axes[:-1], index("o"), axes[-1])
        codes = ", ".join(aligned(self._view(e, pair), spread) for e in entries)
        return self._keep(f"concatenate(({codes}), {len(axes) - 1})")

    def _term(self, term: Expr, definition: Definition, piece: Piece) -> Operand:
        """Code of one term of a piece, over the piece's axes or some of them."""
        pair = self._pair(definition, piece.at)
        axes = self._merge(piece.at, definition)
        if not piece.summed(term):
            present = {i for e in term.atoms(Indexed) for i in self._view_axes(e, pair)}
            code = self._pointwise(term, axes, pair)
            return Operand(code, axes if present >= set(axes) else ())
        nonlinear, entries, scalar = self._split(term)
        operands = [self._view(entry, pair) for entry in entries]
        if nonlinear is not None:
            order = self._order(nonlinear, definition, piece)
            code = self._pointwise(nonlinear, order, pair)
            operands.insert(0, Operand(self._keep(code), order))
        reach = tuple(i for i in axes if any(i in o.axes for o in operands))
        result = contracted(operands, reach, self._keep)
        if scalar != 1:
            factor = "-" if scalar == -1 else f"{self.printer.constant(scalar)}*"
            code = result.code if _is_product(result.code) else f"({result.code})"
            result = Operand(f"{factor}{code}", result.axes)
        return result

    def _view_axes(self, entry: Indexed, pair: Tokens) -> Tokens:
        return tuple(PAIR if i in pair else i for i in entry.indices)

    # ── definitions ──────────────────────────────────────────────────────────────────────────

    def _define(self, definition: Definition) -> None:
        name = definition.name
        if definition.external:
            (piece,) = definition.pieces
            source = self._view(piece.expression, ())
            self.lines.append(Line(name, f"{definition.external}({source.code})"))
            return
        pieces = [piece for piece in definition.pieces if piece.expression != 0]
        parts = [self._sum(piece, definition) for piece in pieces]
        started = bool(parts) and self._covers(pieces[0], definition, parts[0])
        if started and (len(parts) == 1 or not _is_view(parts[0].code)):
            self.lines.append(Line(name, parts.pop(0).code))
            pieces = pieces[1:]
        else:
            sizes = ["1" if size == "one" else size for size in definition.ranges]
            if definition.paired:
                where = self._pair_axis(sizes)
                sizes[where : where + 2] = ["pairs"]
            self.lines.append(Line(name, f"zeros(({''.join(f'{size}, ' for size in sizes)}))"))
            started = False
        adds = started or not self._apart(pieces)
        for piece, part in zip(pieces, parts, strict=True):
            target = self._target(piece, definition)
            if target in ("fields, fields", "units, units") and definition.ranges[1:] == ("N",):
                self.lines.append(Line(name, part.code, ".reshape(-1)[:: N + 1]", adds=True))
            else:
                self.lines.append(Line(name, part.code, f"[{target}]", adds))

    def _sum(self, piece: Piece, definition: Definition) -> Operand:
        """Code of a piece; its axes are those of the piece, or some of them."""
        common, terms = _factored(piece)
        axes = self._merge(piece.at, definition)
        operands = [self._term(term, definition, piece) for term in terms]
        code = summed(aligned(o, axes) if o.axes else o.code for o in operands)
        reached = max((o.axes for o in operands), key=len)
        for factor in common:
            view = self._view(factor, self._pair(definition, piece.at))
            code = f"{aligned(view, axes)}*({code})"
            reached = (*reached, *view.axes)
        return Operand(code, tuple(i for i in axes if i in reached))

    @staticmethod
    def _apart(pieces: Sequence[Piece]) -> bool:
        """Whether no two pieces fill the same entry: on some axis, one is of K and one of M."""
        kinds = [tuple(range_of(i) for i in p.at) for p in pieces]
        mixed = any(
            {"K", "N"} <= {*axis} or {"M", "N"} <= {*axis} for axis in zip(*kinds, strict=True)
        )
        return len(set(kinds)) == len(kinds) and not mixed

    def _covers(self, piece: Piece, definition: Definition, part: Operand) -> bool:
        """Whether a piece fills the tensor: no slice, no diagonal, no axis to broadcast over."""
        full = tuple(range_of(i) for i in piece.at) == definition.ranges
        alone = len(set(piece.at)) == len(piece.at)
        return full and alone and part.axes == self._merge(piece.at, definition)

    def _target(self, piece: Piece, definition: Definition) -> str:
        pair = self._pair(definition, piece.at)
        merged, subscript = set(pair), []
        for i, over in zip(piece.at, definition.ranges, strict=True):
            if i in merged:
                if i == pair[0]:
                    subscript.append(":")
            elif piece.at.count(i) == 2:
                subscript.append({"K": "units", "M": "teachers", "N": "fields"}[range_of(i)])
            else:
                subscript.append(_part(i, over))
        return ", ".join(subscript) or "()"


def _part(i: Symbol, over: str) -> str:
    """The part of an axis that an index runs over."""
    return {"K": ":K", "M": "K:"}.get(range_of(i), ":") if over == "N" else ":"


@cache
def _factored(piece: Piece) -> tuple[tuple[Indexed, ...], tuple[Expr, ...]]:
    """Entries that all terms of a piece are multiplied by, and the terms without them."""
    terms = piece.terms()
    shared = set.intersection(*({*sympy.Mul.make_args(term)} for term in terms))
    common = [f for f in shared if f.is_Indexed and free_indices(f) <= {*piece.at}]
    left = tuple(term / sympy.Mul(*common) for term in terms)
    if len(terms) == 1 or not all(term.has(Indexed) for term in left):
        return (), terms
    return tuple(sorted(common, key=str)), left


def _is_product(code: str) -> bool:
    """Whether a factor may stand before the code as it is."""
    return " + " not in code and " - " not in code and not code.startswith("-")


def _is_view(code: str) -> bool:
    """Whether the code may give another array's memory, which must not be added to."""
    return not any(sign in code for sign in ("*", "+", " - ", ".dot(", "/"))
