"""Where the entries of tensors lie in the arrays of generated loops."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Symbol

from theory.derivation.indexed import Definition, Program, range_of
from theory.generation.rewriting import pair_axis, row_of, scheduled

SIZE_NAMES = {"K": "K", "M": "M", "N": "N", "H": "H", "tasks": "tasks", "L": "L", "Y": "Y",
              "one": "1"}  # fmt: skip


STATE = ("Q", "R", "w")


class Storage:
    """The arrays of a program, and those of its tensors that take none."""

    def __init__(self, program: Program, outputs: tuple[str, ...]) -> None:
        self.program = program
        self.outputs = outputs
        self.sizes: list[tuple[str, str]] = []
        self.scratch = self._scratch()
        self.definitions = {d.name: d for d in program.definitions}
        self.in_pair = False
        self.reads_matrix = False
        self.entries: set[str] = set()
        self.blocks: dict[str, tuple[Symbol, ...]] = {}

    def _scratch(self) -> set[str]:
        """Tensors that only their own group reads: no axes for what the group runs over."""
        groups = scheduled(self.program)
        inner: set[str] = set()
        for group in groups:
            names = {d.name for d in group if row_of(d)}
            outside = {n for g in groups if g is not group for d in g for n in d.reads()}
            inner |= names - outside - set(self.outputs)
        return inner

    def _stored(self, definition: Definition) -> list[str]:
        """Sizes of the axes that a tensor is stored with."""
        axes = [SIZE_NAMES[r] for r in definition.ranges]
        if definition.name in self.scratch:
            return axes[len(row_of(definition)) :]
        if definition.paired:
            where = pair_axis(definition)
            axes[where : where + 2] = ["pairs"]
        return axes

    def _allocate(self, definition: Definition) -> None:
        if definition.name in self.outputs:
            return
        self.sizes.append((definition.name, "*".join(self._stored(definition)) or "1"))

    def _place(self, name: str, at: tuple[Symbol, ...]) -> str:
        """Code that reads or writes one entry."""
        if name in self.blocks:
            return f"{name}_row[({at[-2]})*K + {at[-1]}]"
        whole = name == "Q" and "L" not in self.program.inputs["Q"]
        if whole and not (self.in_pair and {str(i) for i in at} == {"k", "l"}):
            self.reads_matrix = True
            return f"Q_full[({at[0]})*K + {at[1]}]"
        if name in STATE:
            return f"state[{self._position(name, at)}]"
        if name in self.outputs:
            return f"out[{self._out(name, at)}]"
        if name in self.program.inputs:
            ranges = self.program.inputs[name]
            numbers = [self._number(i, r) for i, r in zip(at, ranges, strict=True)]
            return f"{name}[{self._flat(numbers, ranges)}]" if at else name
        if name in self.entries:
            return f"{name}_"
        definition = self.definitions[name]
        numbers = [self._number(i, r) for i, r in zip(at, definition.ranges, strict=True)]
        if name in self.scratch:
            numbers = numbers[len(row_of(definition)) :]
        elif definition.paired:
            where = pair_axis(definition)
            first, second = numbers[where : where + 2]
            here = self.in_pair and {first, second} == {"k", "l"}
            numbers[where : where + 2] = ["p" if here else f"pair({first}, {second})"]
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
            here = self.in_pair and {*numbers} == {"k", "l"}
            pair = "p" if here else f"pair({', '.join(numbers)})"
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
