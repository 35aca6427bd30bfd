"""Steps per second of finite-N runs, against what memory and random numbers alone would allow."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from timeit import repeat

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from solvers import Experiment
from solvers.draws import fill_normal
from solvers.runs import Runs, Setup

SIZES = {"one example": ("saad-solla", 500, 50), "ANIL": ("meta-specialization", 1000, 20)}
"""Preset, N and number of runs."""
FLOOR = 0.03
"""A third of the share of the memory's bandwidth that is reached on a quiet machine."""


def seconds(call: Callable[[], object], tries: int = 10) -> float:
    """The shortest time of the processor for a call, in a few tries."""
    return min(repeat(call, number=1, repeat=tries, timer=process_time))


def bandwidth() -> float:
    """Bytes that a copy of a large array reads and writes per second."""
    source = np.zeros(2**24)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


@pytest.mark.parametrize("case", SIZES)
def test_steps_per_second(benchmark: BenchmarkFixture, case: str) -> None:
    """Memory's bound: the inputs of a step are written once and read once."""
    preset, N, count = SIZES[case]
    setup = Setup(Experiment.load(preset), N, count)
    runs = Runs(setup, np.random.SeedSequence(0).spawn(count))
    steps = 8 * setup.steps
    inputs = np.empty(runs.normal.shape[1])
    numbers = N * setup.per_step

    def block() -> None:
        runs.advance(runs.step + steps)

    block()
    each = seconds(block) / steps / count
    ours = seconds(lambda: fill_normal(runs.inputs[0], inputs), 50)
    generator = np.random.Generator(np.random.SFC64(0))
    numpys = seconds(lambda: generator.standard_normal(out=inputs), 50)
    bound = 16 * numbers / bandwidth()
    benchmark.extra_info["steps of single runs per second"] = 1 / each
    benchmark.extra_info["share of the memory's bandwidth"] = bound / each
    share = ours / inputs.size * numbers / each
    benchmark.extra_info["share of the time that random numbers take"] = share
    benchmark.extra_info["numpy's random numbers over ours"] = numpys / ours
    benchmark.pedantic(block, rounds=3)
    assert bound / each > FLOOR
