"""Products of arrays as numpy code: matrix products where they are, else ``einsum``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sympy import Symbol

from theory.derivation.indexed import SIZES, range_of

PAIR = Symbol("pair")
Tokens = tuple[Symbol, ...]
Keep = Callable[[str], str]
"""Code → the name of a variable that holds its value."""


@dataclass(frozen=True)
class Operand:
    """Code that evaluates to an array, and which index each of its axes is.

    ``symmetric``: a matrix that equals its transpose.
    """

    code: str
    axes: Tokens
    symmetric: bool = False

    @property
    def transposed(self) -> str:
        """Code of a matrix' transpose."""
        return self.code if self.symmetric else f"{self.code}.T"


def aligned(operand: Operand, axes: Tokens) -> str:
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
    while len(subscript) > 1 and subscript[-1] == ":":
        subscript.pop()
    if "None" in subscript:
        code = f"{code}[{', '.join(subscript)}]"
    return code


def contracted(operands: list[Operand], out: Tokens, keep: Keep) -> Operand:
    """Sum of products over the axes that ``out`` does not have, two operands at a time."""
    while len(operands) > 2:
        i, j = _cheapest(operands, out)
        first, second = operands[i], operands[j]
        rest = [o for at, o in enumerate(operands) if at not in (i, j)]
        needed = set(out) | {axis for o in rest for axis in o.axes}
        kept = tuple(axis for axis in dict.fromkeys((*first.axes, *second.axes)) if axis in needed)
        made = product(first, second, kept, keep)
        operands = [*rest, Operand(keep(made.code), made.axes)]
    if len(operands) == 1:
        (only,) = operands
        gone = tuple(axis for axis, i in enumerate(only.axes) if i not in out)
        kept = Operand(f"({only.code}).sum({gone})", tuple(i for i in only.axes if i in out))
        return Operand(aligned(kept, out), out)
    return product(operands[0], operands[1], out, keep)


def _cheapest(operands: Sequence[Operand], out: Tokens) -> tuple[int, int]:
    """The two operands whose product costs least, and is smallest, at typical sizes."""

    def size(axes: set[Symbol]) -> float:
        return float(np.prod([SIZES["pair" if a == PAIR else range_of(a)] for a in axes]))

    def cost(i: int, j: int) -> tuple[float, bool, float]:
        first, second = set(operands[i].axes), set(operands[j].axes)
        others = (o.axes for n, o in enumerate(operands) if n not in (i, j))
        kept = (first | second) & set(out).union(*others)
        spread = kept == first | second and first != second
        return size(first | second), spread, size(kept)

    pairs = [(i, j) for i in range(len(operands)) for j in range(i + 1, len(operands))]
    return min(pairs, key=lambda ij: (cost(*ij), ij))


def product(first: Operand, second: Operand, out: Tokens, keep: Keep) -> Operand:
    """One product of two operands: of matrices where it is one, else ``einsum``."""
    p, q = first.axes, second.axes
    summed = [i for i in p if i in q and i not in out]
    if len(summed) == 1 and max(len(p), len(q)) <= 2 and set(out) == (set(p) ^ set(q)):
        (i,) = summed
        axes = (*(j for j in p if j != i), *(j for j in q if j != i))
        if axes != out:
            first, second, p, q = second, first, q, p
        left = first.code if p[-1] == i else keep(first.transposed)
        right = second.code if q[0] == i else keep(second.transposed)
        return Operand(f"{left}.dot({right})", out)
    if not summed and set(p) | set(q) == set(out):
        return Operand(f"({aligned(first, out)}*{aligned(second, out)})", out)
    if p == q == (*out, *summed) and len(summed) == 1:
        return Operand(f"vecdot({first.code}, {second.code})", out)
    if len(q) > len(p):
        first, second, p, q = second, first, q, p
    if len(out) < 2 and p == (*out, *q):
        if not out:
            return Operand(f"vdot({first.code}, {second.code})", out)
        rows = keep(f"{first.code}.reshape(len({first.code}), -1)")
        return Operand(f"{rows}.dot({keep(f'{second.code}.ravel()')})", out)
    return _general(first, second, out)


def _general(first: Operand, second: Operand, out: Tokens) -> Operand:
    p, q = first.axes, second.axes
    if len(p) == 3 and q == p[:2] and out == (p[0], p[2]):
        return Operand(f"({second.code}[:, None] @ {first.code})[:, 0]", out)
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
        return Operand(aligned(made, out), out)
    return Operand(f"einsum('{spec[0]},{spec[1]}->{spec[2]}', {first.code}, {second.code})", out)
