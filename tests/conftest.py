"""What every test may rely on: one thread, a cache in the checkout, seeded random numbers.

Plain ``pytest`` leaves out the tests marked ``slow``, except those that take the fixture
``effort``: they run shortened. ``pytest -m slow --effort 1`` gathers the evidence in full.
"""

import os
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MACRODYN_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "flows")

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "macrodyn", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("macrodyn")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--effort", type=float, default=0.1, help="share of the full samples in slow tests"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is slow and cannot be shortened, unless -m says what to run."""
    if "slow" in config.option.markexpr:
        return
    slow = [
        item
        for item in items
        if item.get_closest_marker("slow") and "effort" not in getattr(item, "fixturenames", ())
    ]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in each run, whatever the order of the tests."""
    return np.random.default_rng(20240917)


@pytest.fixture
def effort(request: pytest.FixtureRequest) -> float:
    """The share, in (0, 1], of the samples, runs or points that a slow test should take."""
    return float(request.config.option.effort)
