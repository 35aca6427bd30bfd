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


def compiled(K: int) -> float:
    return baselines.kernel_seconds(K, "flow")


def jacobian(K: int) -> float:
    return baselines.kernel_seconds(K, "jacobian")


def anil(K: int) -> float:
    return baselines.kernel_seconds(K, "flow", ANIL)


def jacobian_of_anil(K: int) -> float:
    return baselines.kernel_seconds(K, "jacobian", ANIL)


def finite(K: int) -> float:
    """ANIL on five support examples, without the noise of the outer loop."""
    return baselines.kernel_seconds(K, "flow", FINITE)


def noisy(K: int, backend: str = "auto") -> float:
    """The same with that noise, by cubature."""
    flow, given, y = baselines.problem(K, backend, NOISY)
    return baselines.seconds(lambda: flow.rhs(y, given), 1, 3)


def reduction(units: int) -> float:
    """The site-symmetric reduction at this many units."""
    flow = compile_reduction(baselines.SGD, "site-symmetric")
    rate = flow.bound("flow", flow.parameters(K=units, head_mean=1.0))
    y = np.array([0.5, 0.1, 0.2, 0.1, 1.0])
    return baselines.seconds(lambda: rate(y))


def bound(K: int) -> float:
    """A call of the compiled right-hand side from Python."""
    flow, given, y = baselines.problem(K, "numba")
    rate = flow.bound("flow", given)
    return baselines.seconds(lambda: rate(y))


def arrays(K: int) -> float:
    flow, given, y = baselines.problem(K, "numpy")
    rate = flow.bound("flow", given)
    return baselines.seconds(lambda: rate(y))


def in_c(K: int) -> float:
    y, steps = baselines.problem(K, "numpy")[2], 100
    return baselines.seconds(lambda: baselines.c_euler(K, y, 1e-9, steps), 1) / steps


def plain(K: int) -> float:
    y, rate = baselines.problem(K, "numpy")[2], baselines.plain_rate(K)
    return baselines.seconds(lambda: rate(y))


def solved(K: int, time: float = 300.0) -> float:
    """The compiled tier's whole call, to α = 300 at rtol 1e-8."""
    y = baselines.problem(K, "numpy")[2]
    Q, R, _ = baselines.problem(K, "numpy")[0].layout.unpack(y)
    experiment = Experiment.from_dict({
        "model": {"hidden": K, "teacher_hidden": K}, "tasks": {"head_mean": 1.0},
        "rule": {"name": "sgd", "outer_rate": baselines.ETA},
        "initial": {"w": 1.0, "Q": Q.tolist(), "R": R.tolist()},
        "integrate": {"time": time, "backend": "numba"},
    })  # fmt: skip
    return baselines.seconds(lambda: integrate(experiment), 1, 15)


def fixed(K: int) -> float:
    """What such a call takes where there is nothing to integrate."""
    return solved(K, 1e-6)


def solved_in_c(K: int) -> float:
    y = baselines.problem(K, "numpy")[2]
    return baselines.seconds(lambda: baselines.c_euler(K, y, 0.01, 30000), 1, 2)


def solved_plainly(K: int) -> float:
    y = baselines.problem(K, "numpy")[2]
    return baselines.seconds(lambda: baselines.plain_solution(K, y, 300.0), 1, 2)


def ratios(over: Callable[[int], float], under: Callable[[int], float]) -> dict[int, float]:
    """over/under for each K."""
    return {K: over(K) / under(K) for K in WIDTHS}


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
    flow, given, y = baselines.problem(K, backend)
    rate = flow.bound("flow", given)
    return baselines.seconds(lambda: rate(y), 1, 5)


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


def rows() -> list[tuple[str, dict[int, Any]]]:
    """What is measured, at each K."""
    here = {K: compiled(K) for K in WIDTHS}
    table: list[tuple[str, dict[int, Any]]] = [
        ("compiled right-hand side, µs", {K: f"{1e6 * t:.2g}" for K, t in here.items()}),
        ("… over its arcsines alone", {K: here[K] / baselines.arcsine_floor(K) for K in WIDTHS}),
    ]
    if baselines.library() is not None:
        table.append(("… over the same by a C kernel", {K: here[K] / in_c(K) for K in WIDTHS}))
    table += [
        ("compiled Jacobian over right-hand side", {K: jacobian(K) / here[K] for K in WIDTHS}),
        ("ANIL over the plain committee", {K: anil(K) / here[K] for K in WIDTHS}),
        ("… at five support examples, without noise", {K: finite(K) / here[K] for K in (2, 4)}),
        ("… with noise by cubature", {K: f"{noisy(K) / here[K]:.0f}" for K in (2, 4)}),
        ("compiled Jacobian of ANIL over its right-hand side", ratios(jacobian_of_anil, anil)),
        ("site-symmetric reduction at K = 1000 over a call at", {2: reduction(1000) / bound(2)}),
        ("numpy right-hand side, µs", {K: f"{1e6 * arrays(K):.3g}" for K in WIDTHS}),
        ("… over plain numpy closed forms", ratios(arrays, plain)),
    ]
    solves = {K: solved(K) for K in WIDTHS}
    beyond = {K: f"{1e3 * (t - fixed(K)):.2g}" for K, t in solves.items()}
    table += [
        ("four-point average, compiled, µs each of all",
         {K: f"{1e6 * baselines.four_point(K):.2g}" for K in WIDTHS}),
        ("… numpy", {K: f"{1e6 * four_point(K):.2g}" for K in WIDTHS}),
        ("`integrate` to α = 300, rtol 1e-8, ms", {K: f"{1e3 * t:.2g}" for K, t in solves.items()}),
        ("… beyond the fixed cost of the call", beyond),
        ("plain numpy with DOP853 over it", {K: solved_plainly(K) / t for K, t in solves.items()}),
    ]  # fmt: skip
    if baselines.library() is not None:
        table.append(("C Euler steps of 0.01 over it",
                      {K: solved_in_c(K) / t for K, t in solves.items()}))  # fmt: skip
    return table


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


def written() -> str:
    """The table in Markdown."""
    lines = [f"| K = M = | {' | '.join(map(str, WIDTHS))} |", "|---" * (1 + len(WIDTHS)) + "|"]
    for name, values in rows():
        shown = [values.get(K, "") for K in WIDTHS]
        cells = [f"{v:.2g}" if isinstance(v, float) else str(v) for v in shown]
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
