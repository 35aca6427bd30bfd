"""Sources of generated functions: written from a flow, kept in a cache on disk by content."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from sympy import IndexedBase, Integer

from theory.activations import Activation
from theory.derivation.closed import close
from theory.derivation.differentiation import push_forward
from theory.derivation.indexed import Program, index
from theory.flow import Flow, Structure, derive, symbolic
from theory.gaussian.kinks import has_kinks
from theory.generation.loops import loop_source
from theory.generation.lowering import NumpyWriter
from theory.generation.native import UnsupportedError
from theory.generation.rewriting import hoisted, with_names
from theory.generation.sparse import DensePatternError, derivative_blocks
from theory.rules.base import Rule

Array = NDArray[np.float64]
Parameters = Mapping[str, Any]
PRELUDE = """from numpy import arcsin, arctan2, einsum, pi, sqrt, tensordot, vdot, vecdot, zeros
from numpy.linalg import pinv
"""


RATES = ("dQ", "dR", "dw")
LAYOUT = ("rows", "columns", "pair_of", "units", "teachers", "fields")
"""Index arrays that every generated function is given: the pairs l ≤ k and the diagonals."""


def _function(
    name: str,
    program: Program,
    outputs: tuple[str, ...],
    scalars: tuple[str, ...],
) -> tuple[str, tuple[str, ...]]:
    """Source of a function that returns the outputs, and the names of its arguments."""
    needed = program.needed(outputs)
    body = NumpyWriter(needed).write()
    used = set(re.findall(r"\b[A-Za-z_]\w*", "\n".join(body)))
    arguments = (*needed.inputs, *(s for s in scalars if s in used), *LAYOUT)
    signature = textwrap.fill(
        f"def {name}({', '.join(arguments)}):", 96, subsequent_indent="        "
    )
    lines = [signature, *_sizes(needed, used), *body, f"return {', '.join(outputs)}"]
    return "\n    ".join(lines) + "\n", arguments


def _sizes(program: Program, used: set[str]) -> list[str]:
    """Lines that read the ranges in use off the shapes of the inputs."""
    lines: list[str] = ["K, M = R.shape[-2:]", "N = K + M", "pairs = len(rows)"]
    for letter in ("L", "H", "tasks", "Y"):
        found = [(n, r.index(letter)) for n, r in program.inputs.items() if letter in r]
        if letter in used and found:
            lines.append(f"{letter} = {found[0][0]}.shape[{found[0][1]}]")
    return [line for line in lines if set(re.findall(r"\w+", line.split("=")[0])) & used]


FUNCTIONS = {"flow": RATES, "error": ("error",), "jacobian": RATES, "error_gradient": ("error",)}
"""The generated functions, and the outputs or the tangents of outputs that they return."""
TANGENTS = ("jacobian", "error_gradient")


def generate(flow: Flow, activation: Activation, name: str, backend: str = "numpy") -> str:
    """Readable source of one function: flow, error, jacobian or error_gradient.

    The source does not depend on K and M: parameters and sizes are arguments. Where the compiled
    backend "numba" lacks a routine that the flow needs, the source says so.
    """
    outputs = FUNCTIONS[name]
    program = close(flow.program.needed(outputs), activation)
    if name in TANGENTS and backend == "numba" and not has_kinks(activation):
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
    source, arguments = _function(name, program, outputs, flow.scalars)
    header = f"{_title(flow, activation)}{PRELUDE}"
    listed = textwrap.fill(f"ARGUMENTS = {arguments!r}", 96, subsequent_indent="             ")
    return "\n\n".join([header, listed + "\n", source])


def _title(flow: Flow, activation: Activation) -> str:
    return f"# {flow.title}, activation {activation.name}\n"


def _loops(
    flow: Flow, activation: Activation, name: str, program: Program, outputs: tuple[str, ...]
) -> str:
    """Source of the loops that the compiled backend takes, or why there are none."""
    header = _title(flow, activation)
    try:
        if has_kinks(activation):
            raise UnsupportedError(f"averages of {activation.name} are not lowered to loops")
        return f"{header}\n\n{loop_source(name, program, outputs, flow.scalars)}\n"
    except UnsupportedError as reason:
        return f"{header}\n\nUNSUPPORTED = {str(reason)!r}\n"


def _in_blocks(program: Program, outputs: tuple[str, ...]) -> tuple[Program, tuple[str, ...]]:
    """The program with the derivatives of its outputs by Q, R and w, and their names."""
    named = with_names(hoisted(program))
    return named, derivative_blocks(named, outputs)


def _tangent(program: Program, derivative: Mapping[str, IndexedBase], output: str) -> str:
    """Name of an output's tangent; zero where the output does not depend on the state."""
    if output in derivative:
        return str(derivative[output].label)
    definition = program[output]
    at = (index("y"), *definition.pieces[0].at)
    return str(program.define(f"{output}_dot", (at, Integer(0)), paired=definition.paired).label)


def cache_folder() -> Path:
    """Where generated sources are kept: $MACRODYN_CACHE, else the user's cache folder."""
    return Path(os.environ.get("MACRODYN_CACHE") or platformdirs.user_cache_path("macrodyn"))


@lru_cache(maxsize=1)
def _engine_digest() -> str:
    """Digest of the package's own text, so that a changed engine derives anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _statement(rule: type[Rule]) -> str:
    """The text of a rule and of the rules that it is made from, outside this package."""
    classes = [
        c for c in rule.__mro__ if issubclass(c, Rule) and not c.__module__.startswith("theory")
    ]
    return "\n".join(map(_text, classes)) or rule.name


def _text(rule: type[Rule]) -> str:
    """The text of a class, or its byte code where no file holds it, as in a worker process."""
    try:
        return inspect.getsource(rule)
    except (OSError, TypeError):
        methods = [item for item in vars(rule).values() if inspect.isfunction(item)]
        return repr([(method.__name__, _byte_code(method.__code__)) for method in methods])


def _byte_code(code: CodeType) -> tuple[Any, ...]:
    constants = [_byte_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code, code.co_names, constants


@lru_cache(maxsize=256)
def _key(stated: Rule, structure: Structure, activation: Activation) -> str:
    """What the equations depend on: the engine, the rule's text and structure, the activation.

    ``stated`` is the symbolic rule, so that a scan over its rates asks once.
    """
    numbers = {f.name: getattr(stated, f.name) for f in dataclasses.fields(stated)}
    text = [_engine_digest(), _statement(type(stated)), repr(sorted(numbers.items(), key=str)),
            repr(structure), activation.digest]  # fmt: skip
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def source_path(
    rule: Rule, structure: Structure, activation: Activation, name: str, backend: str
) -> Path:
    """Where the generated source of a function is kept."""
    key = _key(symbolic(rule), structure, activation)[:32]
    return cache_folder() / f"{backend}_{name}_{key}.py"


def source_of(
    rule: Rule, structure: Structure, activation: Activation, name: str, backend: str = "numpy"
) -> str:
    """Generated source of a function, from the cache on disk where it has been made before."""
    path = source_path(rule, structure, activation, name, backend)
    return _kept(path, lambda: generate(derive(rule, structure), activation, name, backend))


def page_of(
    rule: Rule, structure: Structure, activation: Activation, style: str, write: Callable[[], str]
) -> str:
    """A printed page of a flow, from the cache on disk where it has been written before.

    ``style`` names how it is printed; the page holds no numbers, so that rates do not matter.
    """
    key = _key(symbolic(rule), structure, activation)[:32]
    return _kept(cache_folder() / f"page_{style}_{key}.txt", write)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The text in a file, which is made where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        text = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    return text


@lru_cache(maxsize=128)
def load(source: str, activation: Activation) -> dict[str, Any]:
    """The functions of a generated source."""
    namespace: dict[str, Any] = {}
    if "sign_moment(" in source:
        from theory.gaussian.plackett import sign_moment

        namespace["sign_moment"] = sign_moment
    if "average(" in source:
        if has_kinks(activation):
            from theory.gaussian.kinks import average
        else:
            from theory.quadrature import average

        namespace["average"] = lambda signature, *entries: average(signature, activation, *entries)
    exec(compile(source, "<macrodyn generated source>", "exec"), namespace)
    return namespace
