"""Compiling generated loops with LLVM, and the cache of machine code."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from theory.generation.digest import engine_digest
from theory.generation.homes import (
    ARRAY,
    FLOAT,
    HOMES,
    is_routine,
    kinds_of,
    literals,
    parse,
    text_of,
)
from theory.generation.native import Emitter, UnsupportedError, number_of

DECLARATIONS = """
declare double @llvm.sqrt.f64(double)
declare double @llvm.fabs.f64(double)
declare double @llvm.minnum.f64(double, double)
declare double @llvm.maxnum.f64(double, double)
declare double @llvm.copysign.f64(double, double)
declare double @llvm.pow.f64(double, double)
declare double @llvm.floor.f64(double)
declare double @llvm.ceil.f64(double)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
define internal double @two_to(double %n) #1 {
  %biased = fadd double %n, 6755399441056767.0
  %bits = bitcast double %biased to i64
  %exponent = shl i64 %bits, 52
  %power = bitcast i64 %exponent to double
  ret double %power
}
!0 = distinct !{!0, !7}
!1 = distinct !{!1, !7, !8}
!2 = distinct !{!2, !8}
!3 = distinct !{!3, !8, !9, !11}
!4 = distinct !{!4, !8, !10}
!5 = distinct !{!5, !8, !11}
!6 = distinct !{!6, !8, !12}
!7 = !{!"llvm.loop.vectorize.width", i32 1}
!8 = !{!"llvm.loop.unroll.disable"}
!9 = !{!"llvm.loop.vectorize.width", i32 4}
!10 = !{!"llvm.loop.interleave.count", i32 2}
!11 = !{!"llvm.loop.interleave.count", i32 3}
!12 = !{!"llvm.loop.interleave.count", i32 4}
"""
"""Loops around others are not vectorised in their place, and those around such are kept; loops
over whole vectors are not unrolled before they become such."""

RECIPROCAL_ROOT = """
declare double @llvm.fmuladd.f64(double, double, double)
declare float @llvm.sqrt.f32(float)
define internal double @rsqrt(double %x) #1 {
  %short = fptrunc double %x to float
  %root = call nsz afn arcp contract reassoc float @llvm.sqrt.f32(float %short)
  %guess = fdiv nsz afn arcp contract reassoc float 1.0, %root
  %z = fpext float %guess to double
  %xz = fmul double %x, %z
  %minus = fneg double %xz
  %e = call double @llvm.fmuladd.f64(double %minus, double %z, double 1.0)
  %r = call double @llvm.fmuladd.f64(double %e, double 0.2734375, double 0.3125)
  %s = call double @llvm.fmuladd.f64(double %e, double %r, double 0.375)
  %t = call double @llvm.fmuladd.f64(double %e, double %s, double 0.5)
  %u = fmul double %z, %e
  %close = call double @llvm.fmuladd.f64(double %u, double %t, double %z)
  ret double %close
}"""
"""x^(-1/2) to an ulp or two without dividing, for loops over many and 1e-37 < x < 1e38: a guess in
single precision z, and a step of fifth order, z + z e (1/2 + 3/8 e + 5/16 e² + 35/128 e³) with
e = 1 − x z²."""
GUESSES = '"reciprocal-estimates"="sqrtf:0,vec-sqrtf:0"'
"""That guess as x86 processors make it, good to 4e-4; those of others are coarser."""

GIVEN = ("state", "work", "out")
"""Arguments that come by a pointer of their own; the others lie one after the other in p."""


OLDEST = (0, 45)
"""llvmlite understands what is generated since this version."""


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether the compiled tier can be used: LLVM comes with numba, the extra ``fast``."""
    if find_spec("llvmlite") is None:
        return False
    return tuple(map(int, version("llvmlite").split(".")[:2])) >= OLDEST


def _machine() -> Any:
    """This machine as LLVM sees it; an engine takes over the one it is given."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3, jit=True,
    )  # fmt: skip


LARGE = ("sign_moment",)
"""Functions of numbers that are not copied to where they are called."""
SMALL = ("dots", "times", "products", "powers_of", "add_pair")
"""Functions that fill arrays, and are copied to where they are called."""


@lru_cache(maxsize=64)
def _function(name: str, sizes: tuple[tuple[str, int], ...]) -> tuple[str, frozenset[str]]:
    """LLVM's text for a function of HOMES with its tables, and the functions that it calls."""
    home, function = vars(import_module(HOMES[name])), text_of(name)
    emitter = _called(function, dict(sizes), constants=home)
    text = emitter.write()
    tables = [
        f"@{table} = private constant [{len(values)} x double] "
        f"[{', '.join(f'double {number_of(value)}' for value in values)}]"
        for table, values in home.items()
        if f"@{table}," in text
    ]
    if name in SMALL or (emitter.result == FLOAT and name not in LARGE):
        text = text.replace("#0", "#1")
    return "\n".join([*tables, text]), frozenset(emitter.called)


def _called(function: ast.FunctionDef, sizes: Mapping[str, int], **known: Any) -> Emitter:
    """Writes a function that others call. Those that return a number know of no sizes."""
    if not is_routine(function):
        return Emitter(function, kinds_of(function), {}, {}, FLOAT, **known)
    arguments = zip(kinds_of(function), function.args.args, strict=True)
    kinds = [kind for kind, argument in arguments if argument.arg not in sizes]
    return Emitter(function, kinds, sizes, {}, **known)


def _functions(names: Iterable[str], sizes: Mapping[str, int]) -> list[str]:
    """LLVM's text for these functions and for all that they call."""
    found: dict[str, str] = {}
    left, known = sorted(names), tuple(sorted(sizes.items()))
    while left:
        name = left.pop()
        if name not in found:
            found[name], more = _function(name, known)
            left += sorted(more)
    return list(found.values())


def module_of(text: str, sizes: Mapping[str, int]) -> tuple[str, int]:
    """LLVM's text for the functions of a source, and the length of their work space.

    Each function f(state, parameters…, out) becomes f(state, p, work, out) on pointers, the
    parameters one after the other in p. ``rate`` in a further function calls the flow. Functions
    without a state are there to be called by the others.
    """
    constants = literals(text)
    if "UNSUPPORTED" in constants:
        raise UnsupportedError(constants["UNSUPPORTED"])
    shapes = constants["SHAPES"]
    parts, longest, called = [DECLARATIONS, _attributes()], 0, set[str]()
    functions = parse(text)
    near = {n: f for n, f in functions.items() if "state" not in [a.arg for a in f.args.args]}
    for function in near.values():
        emitter = _called(function, sizes, near=near)
        parts.append(emitter.write())
        called |= emitter.called
    for name, function in functions.items():
        if name in near:
            continue
        others = {"rate": "flow_"} if name != "flow" else {}
        arguments = [a.arg for a in function.args.args if a.arg not in {*sizes, *others}]
        kinds = [ARRAY if shapes.get(a, "given") else FLOAT for a in arguments]
        emitter = Emitter(function, kinds, sizes, others, work=longest, near=near)
        parts.append(emitter.write())
        lines, given, start = [], [], 0
        for argument, kind in emitter.arguments:
            if argument in GIVEN:
                given.append(f"ptr %{argument}")
                continue
            lines.append(f"%p.{argument} = getelementptr double, ptr %p, i64 {start}")
            if kind == FLOAT:
                lines.append(f"%a.{argument} = load double, ptr %p.{argument}")
            given.append(f"{kind} %{'a' if kind == FLOAT else 'p'}.{argument}")
            start += length(shapes[argument], sizes)
        for extra, offset in emitter.offsets:
            lines.append(f"%w.{extra} = getelementptr double, ptr %work, i64 {offset}")
            given.append(f"ptr %w.{extra}")
        body = "\n  ".join([*lines, f"call void @{name}({', '.join(given)})", "ret void"])
        pointers = "ptr %state, ptr %p, ptr %work, ptr %out"
        parts.append(f"define void @{name}_({pointers}) {{\n  {body}\n}}")
        parts.append(_for_each_row(name, sizes))
        longest = max(longest, emitter.work)
        called |= emitter.called
    parts += _functions(called, sizes)
    if any("@rsqrt(" in part for part in parts):
        parts.append(RECIPROCAL_ROOT)
    return "\n".join(parts), longest


def _attributes() -> str:
    """What LLVM is told of all functions."""
    here = platform.machine().lower() in ("x86_64", "amd64", "i686")
    told = f'nounwind "prefer-vector-width"="512" {GUESSES if here else ""}'
    return f"attributes #0 = {{ noinline {told} }}\nattributes #1 = {{ alwaysinline {told} }}"


def size_of_result(name: str, size: int) -> int:
    """How many numbers a generated function returns for a state of that size."""
    return {"error": 1, "jacobian": size * size}.get(name, size)


def _for_each_row(name: str, sizes: Mapping[str, int]) -> str:
    """LLVM's text for f(states, p, work, outs, number): f at each of so many states in a row."""
    size = sizes.get("Y", 0)
    return f"""define void @{name}_rows(ptr %states, ptr %p, ptr %work, ptr %outs, i64 %number) {{
entry:
  br label %row
row:
  %i = phi i64 [ 0, %entry ], [ %next, %row ]
  %y = mul nsw i64 %i, {size}
  %o = mul nsw i64 %i, {size_of_result(name, size)}
  %state = getelementptr double, ptr %states, i64 %y
  %out = getelementptr double, ptr %outs, i64 %o
  call void @{name}_(ptr %state, ptr %p, ptr %work, ptr %out)
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %number
  br i1 %more, label %row, label %done
done:
  ret void
}}"""


def length(shape: tuple[str, ...], sizes: Mapping[str, int]) -> int:
    """Number of entries of an array whose sizes have these names."""
    total = 1
    for name in shape:
        total *= sizes[name]
    return total


def object_code(module: str) -> bytes:
    """Machine code of a module."""
    import llvmlite.binding as llvm

    made, machine = llvm.parse_assembly(module), _machine()
    made.triple, made.data_layout = machine.triple, str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(made, builder)
    return bytes(machine.emit_object(made))


def link(code: bytes) -> Any:
    """An engine that holds loaded machine code."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


@dataclass(frozen=True)
class Kernel:
    """A compiled function of (state, p, work, out), by addresses; ``rows`` takes many states."""

    function: Any
    rows: Any
    address: int
    shapes: Mapping[str, tuple[str, ...]]
    work: int
    engine: Any


@lru_cache(maxsize=256)
def kernel(text: str, name: str, sizes: tuple[tuple[str, int], ...], folder: Path) -> Kernel:
    """One function of a generated source, for given sizes; its machine code is kept in ``folder``.

    Raises UnsupportedError where the source is of a flow that has no loops.
    """
    code, work = _cached(text, sizes, folder)
    engine = link(code)
    address = engine.get_function_address(f"{name}_")
    pointers = [ctypes.c_void_p] * 4
    function = ctypes.PYFUNCTYPE(None, *pointers)(address)
    many = engine.get_function_address(f"{name}_rows")
    rows = ctypes.PYFUNCTYPE(None, *pointers, ctypes.c_int64)(many)
    return Kernel(function, rows, address, literals(text)["SHAPES"], work, engine)


def _cached(text: str, sizes: tuple[tuple[str, int], ...], folder: Path) -> tuple[bytes, int]:
    """Machine code of a source for given sizes, and the length of its work space.

    Read from disk where this kind of processor made it before, with the same text of this package.
    """
    import llvmlite
    import llvmlite.binding as llvm

    kind = (engine_digest(), text, sizes, llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(), llvmlite.__version__)  # fmt: skip
    path = folder / f"{hashlib.sha256(repr(kind).encode()).hexdigest()[:32]}.o"
    with contextlib.suppress(OSError):
        digest, kept = (data := path.read_bytes())[:32], data[32:]
        if hashlib.sha256(kept).digest() == digest:
            return kept[8:], int.from_bytes(kept[:8])
    module, work = module_of(text, dict(sizes))
    code = object_code(module)
    made = work.to_bytes(8) + code
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as file:
            file.write(hashlib.sha256(made).digest() + made)
        os.replace(file.name, path)
    return code, work
