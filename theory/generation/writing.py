"""From a flow to the source of its functions: numpy text, and loops for the compiled tier."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Mapping

from sympy import IndexedBase, Integer

from theory.activations import Activation, erf
from theory.derivation.closed import close
from theory.derivation.differentiation import push_forward
from theory.derivation.indexed import Program, index
from theory.flow import Flow
from theory.generation.bound import OVER_PAIRS, STATE, VARIABLE
from theory.generation.lines import Line, parted
from theory.generation.loops import loop_source
from theory.generation.lowering import NumpyWriter
from theory.generation.native import UnsupportedError
from theory.generation.rewriting import gathered, hoisted, weights_last, with_names
from theory.generation.sparse import DensePatternError, derivative_blocks
from theory.generation.supports import noise_source

PRELUDE = """from numpy import (arcsin, arctan2, asarray, concatenate, einsum, pi, reciprocal, sqrt,
                   tensordot, vdot, vecdot, zeros)
from numpy.linalg import pinv
"""


RATES = ("dQ", "dR", "dw")
LAYOUT = ("pair_of", "units", "teachers", "fields")
"""Index arrays that every generated function is given: where a pair stands, and the diagonals."""


def _function(
    name: str,
    program: Program,
    outputs: tuple[str, ...],
    scalars: tuple[str, ...],
) -> str:
    """Source of a function of the parameters that returns the outputs as a function of the state.

    That one is given some pairs of units, too (``OVER_PAIRS``).
    """
    needed = program.needed(outputs)
    writer = NumpyWriter(needed, scalars)
    written = writer.write()
    sizes = _sizes(needed, set().union(*(line.reads() for line in written)))
    used = set().union(*(line.reads() for line in (*sizes, *written)))
    state = tuple(a for a in VARIABLE if a in needed.inputs or a in STATE)
    variables = (*state, *OVER_PAIRS)
    known = (*needed.inputs, *scalars, *LAYOUT)
    arguments = tuple(a for a in known if a not in state and a in used)
    fixed, varied = parted([*sizes, *written], variables)
    told = {"ARGUMENTS": arguments, "STATE": state, "TOGETHER": writer.together}
    listed = [textwrap.fill(f"{a} = {value!r}", 96, subsequent_indent=" " * 13)
              for a, value in told.items()]  # fmt: skip
    body = ["", *map(str, fixed), "", _signature("at", variables), *(f"    {v}" for v in varied),
            f"    return {', '.join(outputs)}", "", "return at"]  # fmt: skip
    text = textwrap.indent("\n".join(body), "    ")
    return "\n".join([*listed, "", "", _signature(name, arguments) + text, ""])


def _signature(name: str, arguments: Iterable[str]) -> str:
    return textwrap.fill(f"def {name}({', '.join(arguments)}):", 92, subsequent_indent=" " * 8)


def _sizes(program: Program, used: set[str]) -> list[Line]:
    """Lines that read the ranges in use off the index arrays and the shapes of the inputs."""
    lines = [Line("K", "len(units)"), Line("M", "len(teachers)"), Line("N", "K + M"),
             Line("pairs", "len(rows)")]  # fmt: skip
    for letter in ("L", "H", "tasks", "Y"):
        found = [(n, r.index(letter)) for n, r in program.inputs.items() if letter in r]
        if letter in used and found:
            name, axis = min(found, key=lambda place: place[0] in STATE)
            lines.append(Line(letter, f"{name}.shape[{axis}]"))
    if "N" in used:
        used = used | {"K", "M"}
    return [line for line in lines if line.name in used]


FUNCTIONS = {"flow": RATES, "error": ("error",), "jacobian": RATES, "error_gradient": ("error",)}
"""The generated functions, and the outputs or the tangents of outputs that they return."""
TANGENTS = ("jacobian", "error_gradient")


def generate(flow: Flow, activation: Activation, name: str, backend: str = "numpy") -> str:
    """Readable source of one function: flow, error, jacobian or error_gradient.

    Loops that check the noise at a finite support are called noise. The source does not depend on
    K and M: parameters and sizes are arguments. Where the compiled backend "numba" lacks a routine
    that the flow needs, the source says so.
    """
    outputs = FUNCTIONS.get(name, RATES)
    program = close(flow.program.needed(outputs), activation)
    if backend == "numba" and (reason := _without_loops(flow, activation, name, program)):
        return f"{_title(flow, activation)}\n\nUNSUPPORTED = {reason!r}\n"
    if name == "noise":
        return f"{_title(flow, activation)}\n\n{noise_source(program, _is_exact(flow))}\n"
    if name in TANGENTS and backend == "numba":
        with contextlib.suppress(DensePatternError):
            return _loops(flow, activation, name, *_in_blocks(program, outputs))
    if name in TANGENTS:
        lead = "yb" if flow.structure.blocks else "y"
        letters = {"Q": lead + "kl", "R": lead + "km", "w": "yk", "S_finite": "ykl"}
        tangents = {
            n: program.input(f"{n}_dot", at) for n, at in letters.items() if n in program.inputs
        }
        derivative = push_forward(program, tangents, index("y"))
        outputs = tuple(_tangent(program, derivative, output) for output in outputs)
    if backend == "numba":
        return _loops(flow, activation, name, program, outputs)
    header = f"{_title(flow, activation)}{PRELUDE}"
    return f"{header}\n\n{_function(name, program, outputs, flow.scalars)}"


def _without_loops(flow: Flow, activation: Activation, name: str, program: Program) -> str:
    """Why a function is left to numpy, if it is."""
    if activation.has_kinks:
        return f"averages of {activation.name} are not lowered to loops"
    if "S_finite" not in program.inputs:
        return ""
    if name == "jacobian":
        return "the derivative of the noise at a finite support comes by cubature"
    if activation != erf:
        return f"the noise at a finite support of {activation.name} comes by cubature"
    if getattr(flow.rule, "noise", "") == "gaussian-closure":
        return "a Gaussian closure is not lowered to loops"
    return ""


def _is_exact(flow: Flow) -> bool:
    return getattr(flow.rule, "order", "first") == "exact"


def _title(flow: Flow, activation: Activation) -> str:
    return f"# {flow.title}, activation {activation.name}\n"


def _loops(
    flow: Flow, activation: Activation, name: str, program: Program, outputs: tuple[str, ...]
) -> str:
    """Source of the loops that the compiled backend takes, or why there are none."""
    header = _title(flow, activation)
    try:
        return f"{header}\n\n{loop_source(name, program, outputs, flow.scalars, _is_exact(flow))}\n"
    except UnsupportedError as reason:
        return f"{header}\n\nUNSUPPORTED = {str(reason)!r}\n"


def _in_blocks(program: Program, outputs: tuple[str, ...]) -> tuple[Program, tuple[str, ...]]:
    """The program with the derivatives of its outputs by Q, R and w, and their names."""
    named = with_names(hoisted(gathered(weights_last(program))))
    return named, derivative_blocks(named, outputs)


def _tangent(program: Program, derivative: Mapping[str, IndexedBase], output: str) -> str:
    """Name of an output's tangent; zero where the output does not depend on the state."""
    if output in derivative:
        return str(derivative[output].label)
    definition = program[output]
    at = (index("y"), *definition.pieces[0].at)
    return str(program.define(f"{output}_dot", (at, Integer(0)), paired=definition.paired).label)
