"""From indexed definitions to loops over indices, for the compiled tier.

Each definition becomes nested loops over plain numbers, in one function that numba compiles. What
belongs to one pair of learner units is kept in scratch space inside the loop over pairs, so that
it stays in the fastest memory; everything else lies in one work array, at offsets that the source
names. Sums over several indices are taken two factors at a time where that is cheaper.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import sympy
from sympy import Expr, Indexed, Symbol

from theory.derivation.indexed import Definition, Piece, Program, range_of
from theory.generation.formulas import FormulaPrinter
from theory.generation.native import UnsupportedError
from theory.generation.rewriting import binary, hoisted, lead_of, pair_axis, scheduled

SIZE_NAMES = {"K": "K", "M": "M", "N": "N", "H": "H", "tasks": "tasks", "L": "L", "Y": "Y",
              "one": "1"}  # fmt: skip


STATE = ("Q", "R", "w")


class _Printer(FormulaPrinter):
    """Scalar expressions of the loops."""

    def _print_Function(self, expr: Expr) -> str:
        large = type(expr).__name__ == "SignMoment" and len(expr.args) > 6
        if hasattr(type(expr), "signature") or large:
            raise UnsupportedError(f"{type(expr).__name__} is evaluated by a numeric routine")
        return super()._print_Function(expr)

    def _print_KroneckerDelta(self, expr: Expr) -> str:
        first, second = expr.args
        return f"(1.0 if {first} == {second} else 0.0)"


class LoopWriter:
    """Writes the body of a function that evaluates a program by loops."""

    def __init__(self, program: Program, outputs: tuple[str, ...]) -> None:
        self.program = hoisted(binary(program))
        self.outputs = outputs
        self.lines: list[str] = []
        self.printer = _Printer()
        self.sizes: list[tuple[str, str]] = []
        self.scratch = self._scratch()
        self.definitions = {d.name: d for d in self.program.definitions}
        self.fresh = 0
        self.in_pair = False

    def _scratch(self) -> set[str]:
        """Tensors per pair that only their own group reads: no axis for pairs, nor for tasks."""
        groups = scheduled(self.program)
        inner: set[str] = set()
        for group in groups:
            names = {d.name for d in group if d.paired}
            outside = {n for g in groups if g is not group for d in g for n in d.reads()}
            inner |= names - outside - set(self.outputs)
        return inner

    def write(self) -> list[str]:
        """Lines of source."""
        for group in scheduled(self.program):
            if group[0].paired:
                self._pairs(group)
            else:
                self._single(group[0])
        return [*(f"{name} = empty({size})" for name, size in self.sizes), *self.lines]

    # ── storage ──────────────────────────────────────────────────────────────────────────────

    def _stored(self, definition: Definition) -> list[str]:
        """Sizes of the axes that a tensor is stored with."""
        axes = [SIZE_NAMES[r] for r in definition.ranges]
        if definition.paired:
            where = pair_axis(definition)
            axes[where : where + 2] = [] if definition.name in self.scratch else ["pairs"]
            if definition.name in self.scratch:
                axes = axes[where:]
        return axes

    def _allocate(self, definition: Definition) -> None:
        if definition.name in self.outputs:
            return
        self.sizes.append((definition.name, "*".join(self._stored(definition)) or "1"))

    def _place(self, name: str, at: tuple[Symbol, ...]) -> str:
        """Code that reads or writes one entry."""
        if name in STATE:
            return f"state[{self._position(name, at)}]"
        if name in self.outputs:
            return f"out[{self._out(name, at)}]"
        if name in self.program.inputs:
            ranges = self.program.inputs[name]
            numbers = [self._number(i, r) for i, r in zip(at, ranges, strict=True)]
            return f"{name}[{self._flat(numbers, ranges)}]" if at else name
        definition = self.definitions[name]
        numbers = [self._number(i, r) for i, r in zip(at, definition.ranges, strict=True)]
        if definition.paired:
            where = pair_axis(definition)
            first, second = numbers[where : where + 2]
            if name in self.scratch:
                numbers = numbers[where + 2 :]
            else:
                here = self.in_pair and (first, second) == ("k", "l")
                pair = "p" if here else f"pair({first}, {second})"
                numbers[where : where + 2] = [pair]
        sizes = self._stored(definition)
        return f"{name}[{self._flat(numbers, sizes)}]"

    @staticmethod
    def _flat(numbers: Sequence[str], sizes: Sequence[str]) -> str:
        """The place of an entry, row by row."""
        flat = "0"
        for number, size in zip(numbers, sizes, strict=True):
            flat = number if flat == "0" else f"({flat})*{size} + {number}"
        return flat

    def _position(self, name: str, at: Sequence[Symbol]) -> str:
        """Where an order parameter or its rate stands in the state vector: Q once per pair, then
        R, then w, block by block."""
        blocks = "L*" if "L" in self.program.inputs.get("Q", ()) else ""
        numbers = [str(i) for i in at]
        block = numbers.pop(0) if blocks and name != "w" else "0"
        if name == "Q":
            pair = "p" if self.in_pair and numbers == ["k", "l"] else f"pair({', '.join(numbers)})"
            return f"{block}*pairs + {pair}" if blocks else pair
        if name == "R":
            return f"{blocks}pairs + ({block}*K + {numbers[0]})*M + {numbers[1]}"
        return f"{blocks}pairs + {blocks}K*M + {numbers[0]}"

    def _out(self, name: str, at: Sequence[Symbol]) -> str:
        """Where an output is written: a rate like its order parameter, a derivative by it in the
        row of the output and the column of what it is taken by."""
        output, _, by = name.removesuffix("_dot").partition("_by_")
        column = ""
        if by:
            inner = len(self.program.inputs[by])
            column, at = self._position(by, at[len(at) - inner :]), at[: len(at) - inner]
        elif name.endswith("_dot"):
            column, at = str(at[0]), at[1:]
        if output == "error":
            return column or "0"
        row = self._position(output.removeprefix("d"), at)
        return f"({row})*Y + {column}" if column else row

    @staticmethod
    def _number(i: Symbol, over: str) -> str:
        """An index as a number: teacher units come after the learner's on an axis of all fields."""
        return f"K + {i}" if over == "N" and range_of(i) == "M" else str(i)

    # ── loops ────────────────────────────────────────────────────────────────────────────────

    def _single(self, definition: Definition) -> None:
        if definition.external:
            raise UnsupportedError(f"{definition.name} is evaluated by {definition.external}")
        self._allocate(definition)
        self._zero(definition, "")
        for piece in definition.pieces:
            self._piece(definition, piece, (), "")

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

    def _pairs(self, group: list[Definition]) -> None:
        """One loop over tasks and pairs for a run of definitions."""
        for definition in group:
            self._allocate(definition)
            if definition.name not in self.scratch:
                self._zero(definition, "")
        lead, indent = lead_of(group[0]), ""
        for i in lead:
            self.lines.append(f"{indent}for {i} in range({SIZE_NAMES[range_of(i)]}):")
            indent += "    "
        self.lines += [
            f"{indent}for k in range(K):",
            f"{indent}    for l in range(k + 1):",
            f"{indent}        p = pair(k, l)",
        ]
        indent += "        "
        self.in_pair = True
        known = (*lead, *group[0].pieces[0].at[len(lead) : len(lead) + 2])
        for definition in group:
            if definition.name in self.scratch:
                self._zero(definition, indent)
            for number, piece in enumerate(definition.pieces):
                self._piece(definition, piece, known, indent, first=number == 0)
        self.in_pair = False

    def _piece(
        self, definition: Definition, piece: Piece, known: tuple[Symbol, ...], indent: str,
        first: bool = True,
    ) -> None:  # fmt: skip
        """Loops of one piece; ``known`` indices are already loop variables."""
        open_ = [i for i in dict.fromkeys(piece.at) if i not in known]
        for i in open_:
            self.lines.append(f"{indent}for {i} in range({SIZE_NAMES[range_of(i)]}):")
            indent += "    "
        groups: dict[tuple[Symbol, ...], list[Expr]] = {}
        for term in piece.terms():
            groups.setdefault(piece.summed(term), []).append(term)
        parts = []
        for summed, terms in groups.items():
            total = sympy.Add(*terms)
            if not summed:
                parts.append(self._value(total, indent))
                continue
            self.fresh += 1
            name, deeper = f"sum{self.fresh}", indent
            self.lines.append(f"{indent}{name} = 0.0")
            for i in summed:
                self.lines.append(f"{deeper}for {i} in range({SIZE_NAMES[range_of(i)]}):")
                deeper += "    "
            self.lines.append(f"{deeper}{name} += {self._value(total, deeper)}")
            parts.append(name)
        start = first and piece is definition.pieces[0] and self._filled(definition)
        start = start and not (definition.name in self.outputs and "_by_" in definition.name)
        sign = "=" if start else "+="
        place = self._place(definition.name, piece.at)
        self.lines.append(f"{indent}{place} {sign} {' + '.join(parts) or '0.0'}")

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


def loop_source(
    name: str, program: Program, outputs: tuple[str, ...], scalars: tuple[str, ...]
) -> str:
    """Source of a compiled function that fills ``out``.

    SHAPES gives the parameters in order, each with the names of its sizes. Raises
    UnsupportedError where the flow calls a numeric routine.
    """
    needed = program.needed(outputs)
    if "S_finite" in needed.inputs:
        raise UnsupportedError("the noise at a finite support comes by cubature")
    writer = LoopWriter(needed, outputs)
    body = writer.write()
    used = set(re.findall(r"\b[A-Za-z_]\w*", "\n".join(body)))
    shapes = {n: needed.inputs[n] for n in needed.inputs if n not in STATE and n in used}
    shapes |= {n: () for n in scalars if n in used}
    size = {"flow": "Y", "error": "1", "jacobian": "Y*Y", "error_gradient": "Y"}[name]
    clear = [f"for i in range({size}):", "    out[i] = 0.0"]
    listed = textwrap.fill(f"SHAPES = {shapes!r}", 96, subsequent_indent="          ")
    signature = textwrap.fill(
        f"def {name}({', '.join(('state', *shapes, 'out'))}):", 96, subsequent_indent="        "
    )
    return "\n".join([listed, "", "", signature, *(f"    {line}" for line in (*clear, *body))])
