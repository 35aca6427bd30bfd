"""Prints the figures of speed of this machine, and writes them into the README's table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import baselines
import throughput

from solvers import Experiment, integrate
from theory.gaussian.plackett import a4_table
from theory.reduced import compile_reduction
from theory.rules import Anil

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- speed: written by make bench -->", "<!-- end of speed -->"
WIDTHS = (2, 4, 8)
ANIL = Anil(outer_rate=baselines.ETA, inner_rate=1.0)
NOISY = replace(ANIL, support=5)
FINITE = replace(NOISY, regime="gradient-flow")
Call = Callable[[], Any]


def noisy(K: int, backend: str = "auto") -> Call:
    """ANIL on five support examples, with the noise of the outer loop by cubature."""
    flow, given, y = baselines.problem(K, backend, NOISY)
    return lambda: flow.rhs(y, given)


def reduction(units: int) -> Call:
    """The site-symmetric reduction at this many units."""
    flow = compile_reduction(baselines.SGD, "site-symmetric")
    rate = flow.bound("flow", flow.parameters(K=units, head_mean=1.0))
    y = np.array([0.5, 0.1, 0.2, 0.1, 1.0])
    return lambda: rate(y)


def called(K: int, backend: str = "numba") -> Call:
    """A right-hand side, called from Python."""
    flow, given, y = baselines.problem(K, backend)
    rate = flow.bound("flow", given)
    return lambda: rate(y)


def plain(K: int) -> Call:
    y, rate = baselines.problem(K, "numpy")[2], baselines.plain_rate(K)
    return lambda: rate(y)


def solved(K: int, time: float = 300.0) -> Call:
    """The compiled tier's whole call, to α = 300 at rtol 1e-8."""
    y = baselines.problem(K, "numpy")[2]
    Q, R, _ = baselines.problem(K, "numpy")[0].layout.unpack(y)
    experiment = Experiment.from_dict({
        "model": {"hidden": K, "teacher_hidden": K}, "tasks": {"head_mean": 1.0},
        "rule": {"name": "sgd", "outer_rate": baselines.ETA},
        "initial": {"w": 1.0, "Q": Q.tolist(), "R": R.tolist()},
        "integrate": {"time": time, "backend": "numba"},
    })  # fmt: skip
    return lambda: integrate(experiment)


def solved_plainly(K: int) -> Call:
    y = baselines.problem(K, "numpy")[2]
    return lambda: baselines.plain_solution(K, y, 300.0)


def ratio(over: Call, under: Call, number: int = 20) -> float:
    """The time of one call over that of another, taken in turn."""
    first, second = baselines.in_turn([over, under], number)
    return first / second


def exponent(measure: Callable[[int], float], narrow: int, wide: int) -> float:
    """The power of K with which something grows."""
    return float(np.log(measure(wide) / measure(narrow)) / np.log(wide / narrow))


def memory_of_arrays(K: int) -> float:
    flow, given, y = baselines.problem(K, "numpy")
    flow.rhs(y, given)
    tracemalloc.start()
    flow.rhs(y, given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak)


def memory_of_loops(K: int) -> float:
    flow, given, _ = baselines.problem(K, "numba")
    loaded, packed = flow.kernel("flow", given)
    return 8.0 * (loaded.work + len(packed) + flow.layout.size)


def once(K: int, backend: str) -> float:
    """One right-hand side at large K."""
    return baselines.seconds(called(K, backend), 1, 5)


def four_point(K: int) -> float:
    """One of the four-point averages over all index tuples of the K + M fields."""
    C, _ = baselines.covariance(K, baselines.problem(K, "numpy")[2])
    n = 2 * K
    tuples = n * (n + 1) * (n + 2) * (n + 3) // 24
    return baselines.seconds(lambda: a4_table(C), 1, 9) / tuples


FIRST = """
import time
from solvers import Experiment, integrate
begun = time.process_time()
e = Experiment.load("saad-solla").replace(**{"integrate.backend": "numba"})
integrate(e)
print(time.process_time() - begun, time.process_time())
"""


def first_results() -> str:
    """The time to the first trajectory, with an empty cache and a full one."""
    with tempfile.TemporaryDirectory() as folder:
        told = {**os.environ, "MACRODYN_CACHE": folder}
        cold, warm = (
            subprocess.run(
                [sys.executable, "-c", FIRST], env=told, check=True, capture_output=True, text=True
            ).stdout.split()
            for _ in range(2)
        )
    return (f"First trajectory of two units, after imports: {float(cold[0]):.2g} s of processor "
            f"time, {float(warm[0]):.2g} s when the same rule has run before (the whole process "
            f"{float(warm[1]):.2g} s).")  # fmt: skip


def of_rates(K: int) -> dict[str, float | str]:
    """Compiled right-hand sides and Jacobians, all taken in turn."""
    compiled = baselines.compiled
    calls = [compiled(K), baselines.arcsines(), compiled(K, "jacobian"), compiled(K, rule=ANIL),
             compiled(K, "jacobian", ANIL)]  # fmt: skip
    if native := baselines.c_library() is not None:
        calls.append(baselines.c_kernel(K, baselines.problem(K, "numpy")[2])[0])
    rate, many, jacobian, anil, of_anil, *in_c_ = baselines.in_turn(calls)
    floor = many / baselines.MANY * baselines.count(K)
    told: dict[str, float | str] = {
        "compiled right-hand side, µs": 1e6 * rate, "… over its arcsines alone": rate / floor,
    }  # fmt: skip
    if native:
        told["… over the same by a C kernel"] = rate / in_c_[0]
    return told | {
        "compiled Jacobian over right-hand side": jacobian / rate,
        "ANIL over the plain committee": anil / rate,
        "compiled Jacobian of ANIL over its right-hand side": of_anil / anil,
    }


def of_supports(K: int) -> dict[str, float | str]:
    """Finite supports, over the plain committee."""
    rate = baselines.compiled(K)
    return {
        "ANIL at five support examples over it, without noise":
            ratio(baselines.compiled(K, rule=FINITE), rate),
        "… with noise by cubature": ratio(noisy(K), rate, 3),
    }  # fmt: skip


def of_arrays(K: int) -> dict[str, float | str]:
    """What runs without the extra, and averages of four fields."""
    arrays = called(K, "numpy")
    return {
        "numpy right-hand side, µs": 1e6 * baselines.seconds(arrays),
        "… over plain numpy closed forms": ratio(arrays, plain(K)),
        "four-point average, compiled, µs each of all": 1e6 * baselines.four_point(K),
        "… numpy": 1e6 * four_point(K),
    }


def of_solutions(K: int) -> dict[str, float | str]:
    """Whole integrations, and what they take where there is nothing to integrate."""
    native = baselines.c_library() is not None
    whole, fixed = baselines.in_turn([solved(K), solved(K, 1e-6)], 1, 15)
    told: dict[str, float | str] = {
        "`integrate` to α = 300, rtol 1e-8, ms": 1e3 * whole,
        "… beyond the fixed cost of the call": 1e3 * (whole - fixed),
        "plain numpy with DOP853 over it": baselines.seconds(solved_plainly(K), 1, 2) / whole,
    }
    if native:
        y = baselines.problem(K, "numpy")[2]
        steps = baselines.seconds(lambda: baselines.c_euler(K, y, 0.01, 30000), 1, 2)
        told["C Euler steps of 0.01 over it"] = steps / whole
    return told


def rows() -> list[tuple[str, dict[int, float | str]]]:
    """What is measured, at each K."""
    alike = "site-symmetric reduction at K = 1000 over a call at"
    columns = {K: of_rates(K) for K in WIDTHS}
    columns[2][alike] = ratio(reduction(1000), called(2))
    for K in WIDTHS:
        columns[K] |= (of_supports(K) if K < 8 else {}) | of_arrays(K) | of_solutions(K)
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [(n, {K: column[n] for K, column in columns.items() if n in column}) for n in names]


def growth() -> str:
    """Exponents in K, of time and memory."""
    arcsines = exponent(baselines.count, 32, 64)
    loops = exponent(lambda K: once(K, "numba"), 32, 64)
    work = exponent(memory_of_loops, 32, 64)
    numpys = exponent(lambda K: once(K, "numpy"), 32, 64)
    memory = exponent(memory_of_arrays, 32, 64)
    most = memory_of_arrays(64) / 1e6
    return (f"Powers of K with which a right-hand side grows from K = 32 to 64: arcsines "
            f"{arcsines:.1f}; compiled, time {loops:.1f}, memory {work:.1f}; numpy, time "
            f"{numpys:.1f}, memory {memory:.1f} ({most:.0f} MB at K = 64).")  # fmt: skip


def _digits(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def written() -> str:
    """The table in Markdown."""
    lines = [f"| K = M = | {' | '.join(map(str, WIDTHS))} |", "|---" * (1 + len(WIDTHS)) + "|"]
    for name, values in rows():
        shown = [values.get(K, "") for K in WIDTHS]
        cells = [_digits(v) if isinstance(v, float) else str(v) for v in shown]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    prose = (first_results(), growth(), throughput.sentence())
    wrapped = [part for text in prose for part in ("", textwrap.fill(text, 100))]
    return "\n".join([*lines, *wrapped])


def main() -> None:
    text, table = README.read_text(encoding="utf-8"), written()
    print(table)
    before, _, rest = text.partition(BEGIN)
    if not rest:
        sys.exit(f"{README.name} has no place for the table: {BEGIN}")
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
