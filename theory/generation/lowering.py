"""From indexed definitions to numpy source: views, pointwise expressions, contractions.

Every tensor becomes an array with an axis per index. Tensors per pair of learner units have one
axis for the pairs l ≤ k, in the order of the state vector, in place of the two. Pointwise pieces
become broadcast expressions with their common subexpressions shared across the whole program;
sums of products become matrix products or ``einsum`` over two operands at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy
from sympy import Expr, Indexed, Symbol

from theory.derivation.indexed import SIZES, Definition, Piece, Program, range_of
from theory.generation.formulas import FormulaPrinter
from theory.generation.rewriting import hoisted, shifted, with_floats

PAIR = Symbol("pair")
Tokens = tuple[Symbol, ...]


@dataclass(frozen=True)
class Operand:
    """Code that evaluates to an array, and which index each of its axes is."""

    code: str
    axes: Tokens


class NumpyWriter:
    """Writes the body of a function that evaluates a program."""

    def __init__(self, program: Program) -> None:
        self.program = program = shifted(hoisted(with_floats(program)))
        self.lines: list[str] = []
        self.cached: dict[str, str] = {}
        self.printer = FormulaPrinter()
        self.definitions = {d.name: d for d in program.definitions}
        self.shared: dict[Tokens, dict[Expr, Expr]] = {}
        self.substitutions: dict[Symbol, tuple[Expr, Tokens]] = {}
        self.reduced: dict[tuple[Tokens, Expr], Expr] = {}
        self.count = 0

    def write(self) -> list[str]:
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
        for term in piece.terms():
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
                return Operand(name, (*at[:where], PAIR, *at[where + 2 :]))
            code = self._keep(f"{name}[{':, ' * where}pair_of]")
        subscript, gathered = [], []
        for axis, (i, over) in enumerate(zip(at, ranges, strict=True)):
            if i in pair:
                subscript.append("rows" if i == pair[0] else "columns")
                gathered.append(axis)
            elif over == "N" and range_of(i) != "N":
                subscript.append(":K" if range_of(i) == "K" else "K:")
            else:
                subscript.append(":")
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
            code = f"{code}[{', '.join(subscript)}]"
            code = self._keep(code) if gathered else code
        return self._diagonal(code, axes)

    def _diagonal(self, code: str, axes: list[Symbol]) -> Operand:
        for i in dict.fromkeys(axes):
            if axes.count(i) == 2:
                first, second = (axis for axis, j in enumerate(axes) if j == i)
                told = "" if (first, second) == (0, 1) else f"axis1={first}, axis2={second}"
                code = f"{code}.diagonal({told})"
                axes = [j for j in axes if j != i] + [i]
        return Operand(code, tuple(axes))

    def _keep(self, code: str) -> str:
        """A variable for code that is worth evaluating once."""
        if code not in self.cached:
            self.count += 1
            self.cached[code] = f"a{self.count}"
            self.lines.append(f"{self.cached[code]} = {code}")
        return self.cached[code]

    @staticmethod
    def _aligned(operand: Operand, axes: Tokens) -> str:
        """Code of the operand, transposed and with new axes, to broadcast over ``axes``."""
        present = [i for i in axes if i in operand.axes]
        code = operand.code
        if tuple(present) == operand.axes and set(axes) == set(present):
            return code
        code = f"({code})" if "*" in code or "@" in code else code
        if tuple(present) != operand.axes:
            order = tuple(operand.axes.index(i) for i in present)
            code = f"{code}.T" if order == (1, 0) else f"{code}.transpose{order}"
        if not present:
            return code
        lead = axes.index(present[0])
        subscript = [":" if i in operand.axes else "None" for i in axes[lead:]]
        if "None" in subscript:
            code = f"{code}[{', '.join(subscript)}]"
        return code

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
            self.lines.append(f"{name} = {self._render(value, axes, pair)}")

    def _render(self, expression: Expr, axes: Tokens, pair: Tokens) -> str:
        names: dict[Expr, Expr] = {}
        for entry in sorted(expression.atoms(Indexed), key=str):
            code = self._aligned(self._view(entry, pair), axes)
            names[entry] = Symbol(self._keep(code) if not code.isidentifier() else code)
        return str(self.printer.doprint(expression.xreplace(names)))

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
        result = self._contract(operands, reach)
        if scalar != 1:
            result = Operand(f"{self.printer.doprint(scalar)}*({result.code})", result.axes)
        return result

    def _view_axes(self, entry: Indexed, pair: Tokens) -> Tokens:
        return tuple(PAIR if i in pair else i for i in entry.indices)

    def _contract(self, operands: list[Operand], out: Tokens) -> Operand:
        """Sum of products over the axes that ``out`` does not have, two operands at a time."""
        while len(operands) > 2:
            i, j = self._cheapest(operands, out)
            first, second = operands[i], operands[j]
            rest = [o for at, o in enumerate(operands) if at not in (i, j)]
            needed = set(out) | {axis for o in rest for axis in o.axes}
            kept = tuple(
                axis for axis in dict.fromkeys((*first.axes, *second.axes)) if axis in needed
            )
            product = self._product(first, second, kept)
            operands = [*rest, Operand(self._keep(product.code), product.axes)]
        if len(operands) == 1:
            (only,) = operands
            gone = tuple(axis for axis, i in enumerate(only.axes) if i not in out)
            kept = Operand(f"({only.code}).sum({gone})", tuple(i for i in only.axes if i in out))
            return Operand(self._aligned(kept, out), out)
        return self._product(operands[0], operands[1], out)

    @staticmethod
    def _cheapest(operands: list[Operand], out: Tokens) -> tuple[int, int]:
        """The two operands whose product costs least, and is smallest, at typical sizes."""

        def size(axes: set[Symbol]) -> float:
            return float(np.prod([SIZES["pair" if a == PAIR else range_of(a)] for a in axes]))

        def cost(i: int, j: int) -> tuple[float, float]:
            axes = set(operands[i].axes) | set(operands[j].axes)
            others = (o.axes for n, o in enumerate(operands) if n not in (i, j))
            kept = axes & set(out).union(*others)
            return size(axes), size(kept)

        pairs = [(i, j) for i in range(len(operands)) for j in range(i + 1, len(operands))]
        return min(pairs, key=lambda ij: (cost(*ij), ij))

    def _product(self, first: Operand, second: Operand, out: Tokens) -> Operand:
        """One product of two operands: a matrix product where it is one, else einsum."""
        p, q = first.axes, second.axes
        summed = [i for i in p if i in q and i not in out]
        if len(summed) == 1 and max(len(p), len(q)) <= 2 and set(out) == (set(p) ^ set(q)):
            (i,) = summed
            left = first.code if p[-1] == i else f"{first.code}.T"
            right = second.code if q[0] == i else f"{second.code}.T"
            axes = (*(j for j in p if j != i), *(j for j in q if j != i))
            if axes == out:
                return Operand(f"{left} @ {right}", out)
            if len(out) == 2:
                flip = (first.code if p[0] == i else f"{first.code}.T",
                        second.code if q[-1] == i else f"{second.code}.T")  # fmt: skip
                return Operand(f"{flip[1]} @ {flip[0]}", out)
        if not summed and set(p) | set(q) == set(out):
            return Operand(f"({self._aligned(first, out)}*{self._aligned(second, out)})", out)
        if p == q == (*out, *summed) and len(summed) == 1:
            return Operand(f"vecdot({first.code}, {second.code})", out)
        if len(q) > len(p):
            first, second, p, q = second, first, q, p
        if len(out) < 2 and p == (*out, *q):
            if not out:
                return Operand(f"vdot({first.code}, {second.code})", out)
            rows = f"{first.code}.reshape(len({first.code}), -1)"
            return Operand(f"{rows} @ {second.code}.ravel()", out)
        return self._general_product(first, second, out)

    def _general_product(self, first: Operand, second: Operand, out: Tokens) -> Operand:
        p, q = first.axes, second.axes
        if len(p) == 3 and q == p[:2] and out == (p[0], p[2]):
            return Operand(f"({second.code}[:, None, :] @ {first.code})[:, 0]", out)
        if len(p) == 3 and q == (p[0], p[2]) and out == p[:2]:
            return Operand(f"({first.code} @ {second.code}[:, :, None])[:, :, 0]", out)
        summed = [i for i in p if i in q and i not in out]
        letters = {i: chr(97 + n) for n, i in enumerate(dict.fromkeys((*p, *q)))}
        spec = ["".join(letters[i] for i in axes) for axes in (p, q, out)]
        batch = set(p) & set(q) & set(out)
        lone = (set(p) ^ set(q)) - set(out)
        if len(p) + len(q) > 4 and summed and not batch and not lone:
            joined = ([p.index(i) for i in summed], [q.index(i) for i in summed])
            axes = (*(j for j in p if j not in summed), *(j for j in q if j not in summed))
            made = Operand(f"tensordot({first.code}, {second.code}, {joined})", axes)
            return Operand(self._aligned(made, out), out)
        return Operand(
            f"einsum('{spec[0]},{spec[1]}->{spec[2]}', {first.code}, {second.code})", out
        )

    # ── definitions ──────────────────────────────────────────────────────────────────────────

    def _define(self, definition: Definition) -> None:
        name = definition.name
        if definition.external:
            (piece,) = definition.pieces
            source = self._view(piece.expression, ())
            self.lines.append(f"{name} = {definition.external}({source.code})")
            return
        parts = [
            (piece, [self._term(term, definition, piece) for term in piece.terms()])
            for piece in definition.pieces
            if piece.expression != 0
        ]
        started = bool(parts) and self._covers(parts[0][0], definition)
        if started:
            piece, operands = parts[0]
            axes = self._merge(piece.at, definition)
            code = " + ".join(self._aligned(o, axes) for o in operands)
            view = len(parts) > 1 and "*" not in code and "+" not in code
            if any(set(o.axes) == set(axes) for o in operands) and not view:
                self.lines.append(f"{name} = {code}")
                parts = parts[1:]
            else:
                started = False
        targets = [self._target(piece, definition) for piece, _ in parts]
        if not started:
            sizes = ["1" if size == "one" else size for size in definition.ranges]
            if definition.paired:
                where = self._pair_axis(sizes)
                sizes[where : where + 2] = ["pairs"]
            self.lines.append(f"{name} = zeros(({''.join(f'{size}, ' for size in sizes)}))")
        apart = not started and self._apart([piece for piece, _ in parts])
        for (piece, operands), target in zip(parts, targets, strict=True):
            axes = self._merge(piece.at, definition)
            code = " + ".join(self._aligned(o, axes) if o.axes else o.code for o in operands)
            if target in ("fields, fields", "units, units") and definition.ranges[1:] == ("N",):
                self.lines.append(f"{name}.reshape(-1)[:: N + 1] += {code}")
                continue
            self.lines.append(f"{name}[{target}] {'=' if apart else '+='} {code}")

    @staticmethod
    def _apart(pieces: Sequence[Piece]) -> bool:
        """Whether no two pieces fill the same entry: on some axis, one is of K and one of M."""
        kinds = [tuple(range_of(i) for i in p.at) for p in pieces]
        mixed = any(
            {"K", "N"} <= {*axis} or {"M", "N"} <= {*axis} for axis in zip(*kinds, strict=True)
        )
        return len(set(kinds)) == len(kinds) and not mixed

    def _covers(self, piece: Piece, definition: Definition) -> bool:
        """Whether a piece fills the tensor: no slice, no diagonal."""
        full = tuple(range_of(i) for i in piece.at) == definition.ranges
        return full and len(set(piece.at)) == len(piece.at)

    def _target(self, piece: Piece, definition: Definition) -> str:
        pair = self._pair(definition, piece.at)
        merged, subscript = set(pair), []
        for i, over in zip(piece.at, definition.ranges, strict=True):
            if i in merged:
                if i == pair[0]:
                    subscript.append(":")
            elif piece.at.count(i) == 2:
                subscript.append({"K": "units", "M": "teachers", "N": "fields"}[range_of(i)])
            elif over == "N" and range_of(i) != "N":
                subscript.append(":K" if range_of(i) == "K" else "K:")
            else:
                subscript.append(":")
        return ", ".join(subscript) or "()"
