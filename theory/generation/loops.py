"""From indexed definitions to loops over indices, for the compiled tier.

Each definition becomes nested loops over plain numbers, in one function that LLVM compiles. What
belongs to one pair of learner units is kept in scratch space inside the loop over pairs, so that
it stays in the fastest memory; everything else lies in one work array, at offsets that the source
names. Sums over several indices are taken two factors at a time where that is cheaper.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

import sympy
from sympy import Expr, Indexed, Symbol

from theory.derivation.indexed import Definition, Piece, Program, entries_in, index, range_of
from theory.generation.formulas import LoopPrinter
from theory.generation.native import UnsupportedError
from theory.generation.nests import Factors, Nest, Statement, parted
from theory.generation.nests import scheduled as in_order
from theory.generation.rewriting import (
    binary,
    hoisted,
    oriented,
    row_of,
    scheduled,
    symmetric_tensors,
    turned,
    weights_last,
)
from theory.generation.storage import SIZE_NAMES, STATE, Storage
from theory.generation.supports import noise_lines

ROWS = {"dQ", "dR", "dw"}
"""The rates whose derivatives are the rows of a Jacobian."""


class LoopWriter(Storage):
    """Writes the body of a function that evaluates a program by loops."""

    def __init__(self, program: Program, outputs: tuple[str, ...]) -> None:
        super().__init__(turned(hoisted(binary(weights_last(program)))), outputs)
        self.lines: list[str] = []
        self.printer = LoopPrinter()
        self.fresh = 0
        self.cleared: set[str] = set()
        self.symmetric = symmetric_tensors(self.program)

    def write(self) -> list[str]:
        """Lines of source."""
        for group in scheduled(self.program):
            if row_of(group[0]):
                self._rows(group)
            else:
                self._single(group[0])
        arrays = [(name, size) for name, size in self.sizes if name not in self.entries]
        if self.reads_matrix:
            arrays.insert(0, ("Q_full", "K*K"))
            self.lines[:0] = ["for k in range(K):", "    for l in range(K):",
                              "        Q_full[(k)*K + l] = state[pair(k, l)]"]  # fmt: skip
        return [*(f"{name} = empty({size})" for name, size in arrays), *self.lines]

    # ── loops ────────────────────────────────────────────────────────────────────────────────

    def _single(self, definition: Definition) -> None:
        if definition.external:
            raise UnsupportedError(f"{definition.name} is evaluated by {definition.external}")
        self._allocate(definition)
        self._zero(definition, "")
        if rank := self._first_of_row(definition):
            at = definition.pieces[0].at[:rank]
            self._clear(definition, self._open(at, ""))
        for statement in self._statements(definition, ()):
            self._loops(statement, "")

    def _first_of_row(self, definition: Definition) -> int:
        """How many indices tell the row of the Jacobian that a definition is the first to fill."""
        rate, _, by = definition.name.partition("_by_")
        if (
            not by
            or rate not in ROWS
            or rate in self.cleared
            or definition.name not in self.outputs
        ):
            return 0
        self.cleared.add(rate)
        return len(self.program.inputs[rate.removeprefix("d")])

    def _clear(self, definition: Definition, indent: str) -> None:
        """Zeros for a row of the Jacobian, which stays in fast memory while it is filled."""
        rate = definition.name.partition("_by_")[0]
        name = rate.removeprefix("d")
        row = self._position(name, definition.pieces[0].at[: len(self.program.inputs[name])])
        by_Q = f"{rate}_by_Q"
        begin = "pairs" if by_Q in self.blocks or self._triangle_of(by_Q) else "0"
        self.lines.append(f"{indent}for i in range({begin}, Y):")
        self.lines.append(f"{indent}    out[({row})*Y + i] = 0.0")

    def _zero(self, definition: Definition, indent: str) -> None:
        if self._filled(definition) or definition.name in self.outputs:
            return
        size = dict(self.sizes)[definition.name]
        self.lines.append(f"{indent}for i in range({size}):")
        self.lines.append(f"{indent}    {definition.name}[i] = 0.0")

    @staticmethod
    def _filled(definition: Definition) -> bool:
        """Whether the first piece writes every entry."""
        first = definition.pieces[0]
        full = tuple(range_of(i) for i in first.at) == definition.ranges
        return full and len(set(first.at)) == len(first.at)

    def _rows(self, group: list[Definition]) -> None:
        """One loop over what a run of definitions begins with."""
        for definition in group:
            self._allocate(definition)
            if definition.name not in self.scratch:
                self._zero(definition, "")
        known, self.in_pair = row_of(group[0]), group[0].paired
        indent = self._open(known[:-2] if self.in_pair else known, "")
        if self.in_pair:
            self.lines += [
                f"{indent}for k in range(K):",
                f"{indent}    for l in range(k + 1):",
                f"{indent}        p = pair(k, l)",
            ]
            indent += "        "
        self._begin_blocks(group, indent)
        for definition in group:
            if self._first_of_row(definition):
                self._clear(definition, indent)
        statements = []
        for definition in group:
            if definition.name in self.scratch:
                self._zero(definition, indent)
            statements += self._statements(definition, known)
        for item in in_order(statements, self.symmetric):
            if isinstance(item, Nest):
                self._nest(item, indent)
            else:
                self._loops(item, indent)
        self._end_blocks(indent)
        self.in_pair = False

    def _begin_blocks(self, group: list[Definition], indent: str) -> None:
        """Derivatives by Q in both orders of its indices, added up where the row is done; not
        needed where they are symmetric, or known at a few entries of the row alone."""
        by_Q = [d for d in group if d.name in self.outputs and d.name.endswith("_by_Q")]
        if "L" in self.program.inputs.get("Q", ()):
            return
        for definition in by_Q:
            dense = any(_is_dense(piece) for piece in definition.pieces)
            if not dense or self._triangle_of(definition.name):
                continue
            name = f"{definition.name}_row"
            self.blocks[definition.name] = definition.pieces[0].at[:-2]
            self.sizes.append((name, "K*K"))
            self.lines += [f"{indent}for i in range(K*K):", f"{indent}    {name}[i] = 0.0"]

    def _triangle_of(self, name: str) -> Piece | None:
        """The piece of a derivative by Q that fills its row, where there is a symmetric one."""
        known = name in self.outputs and name.endswith("_by_Q")
        if not known or "L" in self.program.inputs["Q"]:
            return None
        dense = [piece for piece in self.definitions[name].pieces if _is_dense(piece)]
        return dense[0] if len(dense) == 1 and self._is_symmetric(dense[0]) else None

    def _is_symmetric(self, piece: Piece) -> bool:
        """Whether a piece is the same for both orders of its last two indices."""
        *_, a, c = piece.at
        both = (piece.expression, piece.expression.xreplace({a: c, c: a}))
        one, other = (oriented(value, self.symmetric, (a, c)) for value in both)
        return not piece.summed(piece.expression) and one == other

    def _end_blocks(self, indent: str) -> None:
        """Write the row's derivatives by Q, once per pair."""
        at = (index("k2"), index("k2"))
        for name, row in self.blocks.items():
            place = self._out(name, (*row, *at)).replace("pair(k2, k2)", "q")
            self.lines += [
                f"{indent}for k2 in range(K):",
                f"{indent}    q = pair(k2, 0)",
                f"{indent}    for l2 in range(k2):",
                f"{indent}        total = {name}_row[k2*K + l2] + {name}_row[l2*K + k2]",
                f"{indent}        out[{place} + l2] = total",
                f"{indent}    out[{place} + k2] = {name}_row[k2*K + k2]",
            ]
        self.blocks.clear()

    def _statements(self, definition: Definition, known: tuple[Symbol, ...]) -> list[Statement]:
        """The statements of a definition; ``known`` indices are already loop variables."""
        found: list[Statement] = []
        sums_up = definition.name in self.outputs and "_by_" in definition.name
        triangle = self._triangle_of(definition.name)
        for piece in sorted(definition.pieces, key=lambda piece: piece is not triangle):
            opened = tuple(i for i in dict.fromkeys(piece.at) if i not in known)
            groups: dict[tuple[Symbol, ...], list[Expr]] = {}
            for term in piece.terms():
                groups.setdefault(piece.summed(term), []).append(term)
            for summed, terms in groups.items():
                first = not found and self._filled(definition) and not sums_up
                first |= piece is triangle
                value = sympy.Add(*terms)
                more = opened, summed, first, piece is triangle
                found.append(Statement(definition, piece.at, value, *more))
        return found

    def _open(self, loops: Sequence[Symbol], indent: str) -> str:
        """Begin loops; the indentation inside."""
        for i in loops:
            self.lines.append(f"{indent}for {i} in range({SIZE_NAMES[range_of(i)]}):")
            indent += "    "
        return indent

    def _loops(self, one: Statement, indent: str) -> None:
        """Loops of one statement alone."""
        if one.triangle:
            self._triangle(one, indent)
            return
        if one.summed and self._reads_along(one):
            self._product(one, indent)
            return
        indent = self._open(one.opened, indent)
        value = self._sum(one, indent) if one.summed else self._value(one.expression, indent)
        self._assign(one, value, indent)

    def _triangle(self, one: Statement, indent: str) -> None:
        """Write a symmetric value where it is stored once per pair: whole rows one after the other,
        each over what the one before has written beyond its diagonal."""
        *_, a, c = one.at
        row = self._out(one.name, (*one.at[:-2], a, a)).replace(f"pair({a}, {a})", "q")
        outer = self._open([*(i for i in one.opened if i not in (a, c)), a], indent)
        self.lines.append(f"{outer}q = pair({a}, 0)")
        inner = self._open([c], outer)
        self.lines.append(f"{inner}out[{row} + {c}] = {self._value(2 * one.expression, inner)}")
        diagonal = self._value(one.expression.xreplace({c: a}), outer)
        self.lines.append(f"{outer}out[{row} + {a}] -= {diagonal}")

    def _reads_along(self, one: Statement) -> bool:
        """Whether a sum can run over vectors: all it reads and writes lies along its last index."""
        if not one.opened or one.at[-1] != one.opened[-1]:
            return False
        along, places = one.at[-1], [e.indices for e in entries_in(one.expression)]
        in_Q = one.name in self.outputs and one.name.endswith(("dQ", "_by_Q"))
        apart = not in_Q or one.name in self.blocks
        return apart and all(along not in at[:-1] for at in (*places, one.at))

    def _product(self, one: Statement, indent: str) -> None:
        """Loops that add up vectors along the last index."""
        *outer, along = one.opened
        inside, rest = parted(one.expression, one.summed)
        self.fresh += 1
        name = f"sum{self.fresh}"
        self.sizes.append((name, SIZE_NAMES[range_of(along)]))
        indent = self._open(outer, indent)
        deeper = self._open([along], indent)
        self.lines.append(f"{deeper}{name}[{along}] = 0.0")
        deeper = self._open([*one.summed, along], indent)
        self.lines.append(f"{deeper}{name}[{along}] += {self._value(inside, deeper)}")
        deeper = self._open([along], indent)
        self._assign(one, self._times(rest, f"{name}[{along}]", deeper), deeper)

    def _sum(self, one: Statement, indent: str) -> str:
        """Code that sums up a statement; the variable that holds the sum."""
        self.fresh += 1
        name = f"sum{self.fresh}"
        self.lines.append(f"{indent}{name} = 0.0")
        deeper = self._open(one.summed, indent)
        self.lines.append(f"{deeper}{name} += {self._value(one.expression, deeper)}")
        return name

    def _nest(self, nest: Nest, indent: str) -> None:
        """Loops of several statements: single entries stay in variables, sums in vectors."""
        self.entries |= nest.entries() & self.scratch
        size, sums = SIZE_NAMES[range_of(nest.inner)], {}
        for inside in nest.sums():
            self.fresh += 1
            sums[inside] = f"sum{self.fresh}"
            self.sizes.append((sums[inside], size))
        if sums:
            deeper = self._open([nest.inner], indent)
            self.lines += [f"{deeper}{name}[{nest.inner}] = 0.0" for name in sums.values()]
        factors = Factors(nest.loops, self.fresh)
        entries = [(one, factors.taken(one.expression))
                   for one in nest.statements if not one.summed]  # fmt: skip
        terms = {name: factors.taken(inside) for inside, name in sums.items()}
        self.fresh += len(factors.names)
        self._factors(factors, nest, indent)
        deeper, self.printer.in_matrix = self._open(nest.loops[1:], f"{indent}    "), True
        for one, value in entries:
            self._assign(one, self._value(value, deeper), deeper)
        for name, value in terms.items():
            self.lines.append(f"{deeper}{name}[{nest.inner}] += {self._value(value, deeper)}")
        self.printer.in_matrix = False
        if sums:
            self._sums(nest, sums, indent)

    def _factors(self, factors: Factors, nest: Nest, indent: str) -> None:
        """Evaluate what does not depend on both indices of a nest, and open its outer loop."""
        size, (outer, inner) = SIZE_NAMES[range_of(nest.inner)], nest.loops
        for along in ((), (inner,), (outer,)):
            found = factors.along(along)
            deeper = self._open(along, indent) if found or along == (outer,) else indent
            for name, value in found.items():
                if along == (inner,):
                    self.sizes.append((name.partition("[")[0], size))
                self.lines.append(f"{deeper}{name} = {self._value(value, deeper)}")

    def _sums(self, nest: Nest, sums: Mapping[Expr, str], indent: str) -> None:
        """Give the statements of a nest what has been summed up for them."""
        totals: dict[tuple[str, Expr], str] = {}
        whole: list[tuple[Statement, Expr, str]] = []
        inner = self._open([nest.inner], indent)
        begun = len(self.lines)
        for inside, given in nest.sums().items():
            entry = f"{sums[inside]}[{nest.inner}]"
            for one, factor in given:
                if len(one.summed) == 1:
                    self._assign(one, self._times(factor, entry, inner), inner)
                    continue
                along, rest = parted(factor, [nest.inner])
                key = entry, along
                if key not in totals:
                    self.fresh += 1
                    totals[key] = f"total{self.fresh}"
                    value = self._times(along, entry, inner)
                    self.lines.append(f"{inner}{totals[key]} += {value}")
                whole.append((one, rest, totals[key]))
        zeros = [f"{indent}{name} = 0.0" for name in totals.values()]
        self.lines[begun - 1 : begun - 1] = zeros
        for one, factor, total in whole:
            self._assign(one, self._times(factor, total, indent), indent)

    def _times(self, factor: Expr, code: str, indent: str) -> str:
        """Code of a product."""
        if factor == 1:
            return code
        value = self._value(factor, indent)
        return f"({value})*{code}" if factor.is_Add else f"{value}*{code}"

    def _assign(self, one: Statement, value: str, indent: str) -> None:
        """Write a value, or add it to what is there."""
        place = self._place(one.name, one.at)
        self.lines.append(f"{indent}{place} {'=' if one.first else '+='} {value}")

    def _value(self, expression: Expr, indent: str) -> str:
        """Code of a scalar expression, its common subexpressions assigned first."""
        names = {
            e: Symbol(self._place(str(e.base.label), tuple(e.indices)))
            for e in sorted(expression.atoms(Indexed), key=str)
        }
        symbols = (Symbol(f"v{n}") for n in range(self.fresh + 1, 10**6))
        replacements, (reduced,) = sympy.cse(expression.xreplace(names), symbols=symbols)
        for name, value in replacements:
            self.lines.append(f"{indent}{name} = {self.printer.doprint(value)}")
        self.fresh += len(replacements)
        return str(self.printer.doprint(reduced))


def _is_dense(piece: Piece) -> bool:
    """Whether the last two indices run freely, apart from those before."""
    return len({*piece.at[-2:]} - {*piece.at[:-2]}) == 2


def loop_source(
    name: str, program: Program, outputs: tuple[str, ...], scalars: tuple[str, ...], exact: bool
) -> str:
    """Source of a compiled function that fills ``out``.

    SHAPES gives the parameters in order, each with the names of its sizes. Raises
    UnsupportedError where the flow calls a numeric routine. ``exact``: the order of the rule, which
    the noise at a finite support depends on.
    """
    needed = program.needed(outputs)
    writer = LoopWriter(needed, outputs)
    body = writer.write()
    noise, of_noise = [], {}
    if "S_finite" in needed.inputs:
        noise, of_noise = noise_lines(needed, exact)
        body = [*noise, *body]
    used = set(re.findall(r"\b[A-Za-z_]\w*", "\n".join(body)))
    shapes = {n: needed.inputs[n] for n in needed.inputs if n not in STATE and n in used}
    shapes |= {n: () for n in scalars if n in used} | of_noise
    shapes.pop("S_finite", None)
    size = {"flow": "Y", "error": "1", "jacobian": "Y*Y", "error_gradient": "Y"}[name]
    clear = [f"for i in range({size}):", "    out[i] = 0.0"] if writer.cleared != ROWS else []
    listed = textwrap.fill(f"SHAPES = {shapes!r}", 96, subsequent_indent="          ")
    signature = textwrap.fill(
        f"def {name}({', '.join(('state', *shapes, 'out'))}):", 96, subsequent_indent="        "
    )
    return "\n".join([listed, "", "", signature, *(f"    {line}" for line in (*clear, *body))])
