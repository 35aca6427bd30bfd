"""The time of a continuation point, its stability included: run by ``make bench``."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from solvers import Experiment, continue_branch, fixed_points
from solvers.stability.arclength import Steps
from solvers.stability.branch import Branch
from solvers.stability.fixed_point import FixedPoint

LONGEST = 1e-3
"""Seconds of processor time per point, at K = M = 4 with compiled loops."""


@pytest.fixture(scope="module")
def found() -> dict[str, FixedPoint]:
    eye = np.eye(4)
    experiment = Experiment.from_dict(
        {
            "model": {"hidden": 4, "teacher_hidden": 4},
            "tasks": {"head_mean": 1.0},
            "rule": {"name": "sgd", "outer_rate": 0.5},
            "initial": {"w": 1.0, "Q": eye.tolist(), "R": (0.5 * eye).tolist()},
            "integrate": {"time": 300.0, "backend": "numba"},
        }
    )
    return {point.label: point for point in fixed_points(experiment, starts=8)}


def seconds(call: Callable[[], object], number: int = 1, rounds: int = 7) -> float:
    """The least processor time of a call."""
    times = []
    for _ in range(rounds):
        start = process_time()
        for _ in range(number):
            call()
        times.append((process_time() - start) / number)
    return min(times)


@pytest.mark.parametrize("label", ["symmetric", "specialized"])
def test_point_of_a_branch(
    benchmark: BenchmarkFixture, label: str, found: dict[str, FixedPoint]
) -> None:
    def follow() -> Branch:
        steps = Steps(largest=2e-3)
        return continue_branch(found[label], "rule.outer_rate", 0.1, 1.1, steps=steps)

    points = len(follow())
    assert points > 100
    point = seconds(follow) / points
    spectrum = np.random.default_rng(0).normal(size=(26, 26))
    benchmark.extra_info["milliseconds of a point"] = 1e3 * point
    benchmark.extra_info["over its eigenvalues"] = point / seconds(
        lambda: np.linalg.eigvals(spectrum), 200
    )
    benchmark.pedantic(follow, rounds=1)
    assert point < LONGEST
