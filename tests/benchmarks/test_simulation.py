"""Finite-N runs against the memory's bandwidth."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parent))

import throughput

FLOOR = 0.03
"""A third of the share of the memory's bandwidth that is reached on a quiet machine."""


@pytest.mark.parametrize("case", throughput.SIZES)
def test_steps_per_second(benchmark: BenchmarkFixture, case: str) -> None:
    found, runs = throughput.measured(case), throughput.started(case)
    benchmark.extra_info.update(found)
    benchmark.pedantic(throughput.advance, (runs,), rounds=3)
    assert found[throughput.OF_MEMORY] > FLOOR
