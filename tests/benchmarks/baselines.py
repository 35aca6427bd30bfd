"""What speeds are compared to: a C integrator, plain numpy, and arcsines alone."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from time import perf_counter
from timeit import timeit
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from theory.activations import erf
from theory.codegen import CompiledFlow, compile_flow
from theory.generation.machine import kernel
from theory.overlaps import Layout, field_covariance
from theory.parameters import parameters
from theory.rules import Rule, Sgd
from theory.tasks import TaskDistribution

ETA = 0.5
SGD = Sgd(outer_rate=ETA)
LEAST = 0.25
"""The seconds that a call is timed for, at the least."""
MANY = 4896
"""So many arcsines are timed at once: those of a right-hand side at K = M = 8."""
FLAGS = ("-Ofast", "-march=native", "-shared", "-fPIC", "-lm")


def seconds(call: Callable[[], Any], number: int = 20, tries: int = 60) -> float:
    """The shortest time of a call, over so many tries and ``LEAST`` seconds, so that other
    processes matter little."""
    return in_turn([call], number, tries)[0]


def in_turn(calls: Sequence[Callable[[], Any]], number: int = 20, tries: int = 60) -> list[float]:
    """The shortest time of each call, taken in turn: what slows the machine down slows all."""
    begun, best = perf_counter(), [float("inf")] * len(calls)
    while tries > 0 or perf_counter() - begun < LEAST * len(calls):
        now = [timeit(call, number=number) / number for call in calls]
        best, tries = [min(pair) for pair in zip(best, now, strict=True)], tries - 1
    return best


def problem(
    K: int, backend: str, rule: Rule = SGD
) -> tuple[CompiledFlow, dict[str, Any], np.ndarray]:
    """A soft committee that learns one with as many units, and a random state of it."""
    layout = Layout(K, K)
    compiled = compile_flow(rule, layout, erf, backend=backend)
    spread = 0.2 * rule.adapts * np.eye(K)
    given = parameters(rule, TaskDistribution(np.ones(K), spread, None, 0.0), np.eye(K))
    J, B = np.random.default_rng(0).normal(size=(2, K, 100)) / 10
    return compiled, dict(given), layout.pack(J @ J.T, J @ B.T, np.ones(K))


def covariance(K: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C and s = (−w, u) of a state."""
    Q, R, w = Layout(K, K).unpack(y)
    return field_covariance(Q, R, np.eye(K)), np.concatenate([-w, np.ones(K)])


@cache
def c_library() -> ctypes.CDLL | None:
    """The C integrator; None where the machine has no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    made = Path(tempfile.mkdtemp()) / "euler.so"
    source = Path(__file__).with_name("euler.c")
    subprocess.run([compiler, str(source), "-o", str(made), *FLAGS], check=True)
    loaded = ctypes.CDLL(str(made))
    double, pointer, whole = ctypes.c_double, ctypes.c_void_p, ctypes.c_int
    loaded.rate.argtypes = [whole, whole, pointer, pointer, double, pointer]
    loaded.euler.argtypes = [whole, whole, pointer, pointer, double, double, ctypes.c_long]
    return loaded


def c_kernel(K: int, y: np.ndarray) -> tuple[Callable[[], None], np.ndarray]:
    """A call of the C kernel, and the dC/dα (N, N) that it fills."""
    (C, s), n, loaded = covariance(K, y), 2 * K, c_library()
    out = np.empty((n, n))
    assert loaded is not None
    return _bound(loaded.rate, K, n, C, s, ETA, out), out


def c_rate(K: int, y: np.ndarray) -> np.ndarray:
    """dy/dα by the C kernel."""
    call, out = c_kernel(K, y)
    call()
    return Layout(K, K).pack(out[:K, :K], out[:K, K:], np.zeros(K))


def c_euler(K: int, y: np.ndarray, dt: float, steps: int) -> np.ndarray:
    """C after Euler steps in C."""
    (C, s), loaded = covariance(K, y), c_library()
    assert loaded is not None
    loaded.euler(K, 2 * K, C.ctypes.data, s.ctypes.data, ETA, dt, steps)
    return C


def plain_rate(K: int) -> Callable[[np.ndarray], np.ndarray]:
    """dy/dα by the published formulas of I3 and I4 on numpy's index arrays."""
    n, layout = 2 * K, Layout(K, K)
    k, l, c, d = np.ix_(range(K), range(K), range(n), range(n))

    def rate(y: np.ndarray) -> np.ndarray:
        C, s = covariance(K, y)
        v = 1 + C.diagonal()
        under = v[:K, None] * v - C[:K] ** 2
        three = C * v[:K, None, None] - C[:K, :, None] * C[:K, None, :]
        moved = three / np.sqrt(under[:, None, :]) @ s * (2 / np.pi / v[:K])[:, None]
        drift = -ETA * s[:K, None] * moved
        four = v[k] * v[l] - C[k, l] ** 2
        zero = (four * C[c, d] - C[l, c] * C[l, d] * v[k] - C[k, c] * C[k, d] * v[l]
                + C[k, l] * (C[k, c] * C[l, d] + C[k, d] * C[l, c]))  # fmt: skip

        def one(i: np.ndarray) -> np.ndarray:
            crossed = 2 * C[k, l] * C[k, i] * C[l, i]
            return four * v[i] - C[l, i] ** 2 * v[k] - C[k, i] ** 2 * v[l] + crossed

        average = np.arcsin(zero / np.sqrt(one(c) * one(d))) / np.sqrt(four)
        noise = 4 / np.pi**2 * np.einsum("klcd,c,d->kl", average, s, s)
        dQ = drift[:, :K] + drift[:, :K].T + ETA**2 * s[:K, None] * s[:K] * noise
        return layout.pack(dQ, drift[:, K:], np.zeros(K))

    return rate


def plain_solution(K: int, y: np.ndarray, time: float, rtol: float = 1e-10) -> np.ndarray:
    """y(time) by plain numpy and DOP853."""
    rate = plain_rate(K)
    found = solve_ivp(lambda _, x: rate(x), (0, time), y, method="DOP853", rtol=rtol, atol=1e-12)
    return found.y[:, -1]


def count(K: int) -> int:
    """Different arcsines of a right-hand side."""
    n = 2 * K
    return K * (K + 1) // 2 * n * (n + 1) // 2


def arcsines() -> Callable[[], None]:
    """So many arcsines, vectorised."""
    text = ("SHAPES = {}\n\n\ndef flow(state, out):\n    for i in range(Y):\n"
            "        out[i] = arcsin(state[i])\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        loaded = kernel(text, "flow", (("Y", MANY),), Path(folder))
    x, out = np.linspace(-0.99, 0.99, MANY), np.empty(MANY)
    return _bound(loaded.function, x, np.empty(1), np.empty(1), out)


def compiled(K: int, name: str = "flow", rule: Rule = SGD) -> Callable[[], None]:
    """A call of a compiled function, by its address."""
    flow, given, y = problem(K, "numba", rule)
    loaded, packed = flow.kernel(name, given)
    return _bound(loaded.function, y, packed, np.empty(loaded.work), np.empty(len(y) ** 2))


def _bound(function: Callable[..., None], *given: Any) -> Callable[[], None]:
    """A call of a function of addresses and numbers, with as little around it as can be."""
    places = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in given]
    call = partial(function, *places)
    vars(call)["given"] = given  # what is pointed to stays alive
    return call


FOUR_POINT = """SHAPES = {}


def flow(state, out):
    for i in range(tasks):
        out[i] = sign_moment(state[6*i], state[6*i + 1], state[6*i + 2], state[6*i + 3],
                             state[6*i + 4], state[6*i + 5])
"""


def four_point(K: int) -> float:
    """The seconds of one of the four-point averages of all K + M fields, compiled."""
    C, _ = covariance(K, problem(K, "numpy")[2])
    tuples = np.array(list(combinations_with_replacement(range(2 * K), 4)))
    spread = np.sqrt(1 + C.diagonal())
    rho = C / spread[:, None] / spread
    given = np.stack([rho[tuples[:, a], tuples[:, b]] for a, b in combinations(range(4), 2)], 1)
    with tempfile.TemporaryDirectory() as folder:
        loaded = kernel(FOUR_POINT, "flow", (("Y", 1), ("tasks", len(tuples))), Path(folder))
    state, out = np.ascontiguousarray(given), np.empty(len(tuples))
    places = [a.ctypes.data for a in (state, out, out, out)]
    return seconds(lambda: loaded.function(*places), 3, 20) / len(tuples)
