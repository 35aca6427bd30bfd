"""Steps per second of finite-N runs, against what memory and random numbers alone would allow."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from timeit import repeat

import numpy as np

from solvers import Experiment
from solvers.draws import fill_normal
from solvers.simulation.runs import Runs, Setup

SIZES = {"one example": ("saad-solla", 500, 50), "ANIL": ("meta-specialization", 1000, 20)}
"""Preset, N and number of runs."""
PER_SECOND = "steps of single runs per second"
OF_MEMORY = "share of the memory's bandwidth"


def seconds(call: Callable[[], object], tries: int = 10) -> float:
    """The shortest time of the processor for a call, in a few tries."""
    return min(repeat(call, number=1, repeat=tries, timer=process_time))


def bandwidth() -> float:
    """Bytes that a copy of a large array reads and writes per second."""
    source = np.zeros(2**24)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


def started(case: str) -> Runs:
    """The runs of a case, before their first step."""
    preset, N, count = SIZES[case]
    setup = Setup(Experiment.load(preset), N, count)
    return Runs(setup, np.random.SeedSequence(0).spawn(count))


def advance(runs: Runs) -> int:
    """Eight blocks of steps; how many steps of single runs that is."""
    steps = 8 * runs.setup.steps
    runs.advance(runs.step + steps)
    return steps * runs.setup.count


def measured(case: str) -> dict[str, float]:
    """The memory's bound: the inputs of a step are written once and read once."""
    runs = started(case)
    each = seconds(lambda: advance(runs)) / advance(runs)
    numbers, inputs = runs.setup.N * runs.setup.per_step, np.empty(runs.normal.shape[1])
    ours = seconds(lambda: fill_normal(runs.inputs[0], inputs), 50)
    generator = np.random.Generator(np.random.SFC64(0))
    numpys = seconds(lambda: generator.standard_normal(out=inputs), 50)
    return {
        PER_SECOND: 1 / each,
        OF_MEMORY: 16 * numbers / bandwidth() / each,
        "share of the time that random numbers take": ours / inputs.size * numbers / each,
        "numpy's random numbers over ours": numpys / ours,
    }


def sentence() -> str:
    """The figures of all cases in a sentence."""
    parts = []
    for case, (_, N, count) in SIZES.items():
        found = measured(case)
        parts.append(
            f"{found[PER_SECOND] / 1e3:.0f} thousand per second ({case} at N = {N}, {count} runs; "
            f"{100 * found[OF_MEMORY]:.0f} % of the memory's bandwidth)"
        )
    return f"Outer steps of finite-N runs: {'; '.join(parts)}."
