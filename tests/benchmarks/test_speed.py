"""Speed of the soft committee, as ratios to what the same run measures: run by ``make bench``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from timeit import repeat

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from solvers import Experiment
from solvers.trajectories.ensembles import ensemble
from theory.activations import erf
from theory.codegen import compile_flow
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.rules import Sgd
from theory.tasks import TaskDistribution

WIDTHS = (2, 4, 8)
LEAST = {2: 40.0, 4: 16.0, 8: 4.0}
"""Half of the time of the numpy right-hand side over the compiled one on a quiet machine."""


def problem(K: int, backend: str) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    rule, layout = Sgd(outer_rate=0.5), Layout(K, K)
    compiled = compile_flow(rule, layout, erf, backend=backend)
    p = parameters(rule, TaskDistribution(np.ones(K), np.zeros((K, K)), None, 0.0), np.eye(K))
    J, B = np.random.default_rng(0).normal(size=(2, K, 100)) / 10
    y = layout.pack(J @ J.T, J @ B.T, np.ones(K))
    return compiled.bound("flow", p), y


def seconds(call: Callable[[], object], number: int = 200) -> float:
    """The shortest time of a call, in a few tries."""
    return min(repeat(call, number=number, repeat=5)) / number


def arcsines(K: int) -> float:
    """The time that numpy takes for as many arcsines as a right-hand side holds."""
    n = 2 * K
    x = np.linspace(-0.9, 0.9, K * (K + 1) // 2 * n * (n + 1) // 2)
    return seconds(lambda: np.arcsin(x))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("K", WIDTHS)
def test_right_hand_side(benchmark: BenchmarkFixture, K: int, backend: str) -> None:
    rate, y = problem(K, backend)
    benchmark.extra_info["over numpy's arcsines"] = seconds(lambda: rate(y)) / arcsines(K)
    benchmark(rate, y)


@pytest.mark.parametrize("K", WIDTHS)
def test_compiled_loops_beat_arrays(benchmark: BenchmarkFixture, K: int) -> None:
    """Fails where the ratio of the tiers falls to half of what it was."""
    (loops, y), (arrays, _) = problem(K, "numba"), problem(K, "numpy")
    ratio = seconds(lambda: arrays(y)) / seconds(lambda: loops(y))
    benchmark.extra_info["numpy over compiled"] = ratio
    benchmark(loops, y)
    assert ratio > LEAST[K]


def test_thousand_trajectories(benchmark: BenchmarkFixture) -> None:
    experiment = Experiment.load("saad-solla").replace(**{"integrate.backend": "numba"})
    compiled, p = experiment.compiled, experiment.parameters
    starts = experiment.initial_state() + 1e-3 * np.random.default_rng(0).random((1000, 9))
    arrays = replace(compiled, backend="numpy").bound("flow", p)
    bundle = ensemble(compiled, starts, p, 300.0)
    plain = seconds(lambda: arrays(starts[0])) * 6 * float(bundle.steps.sum())
    whole = seconds(lambda: ensemble(compiled, starts, p, 300.0), number=1)
    benchmark.extra_info["numpy's right-hand sides alone over it"] = plain / whole
    benchmark.pedantic(ensemble, (compiled, starts, p, 300.0), rounds=3)
    assert (bundle.time == 300.0).all()
