"""Generated sources are the same text in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from solvers import Experiment
flow = Experiment.load("meta-specialization").replace(**{"rule.inner_steps": 2}).compiled
for name in ("flow", "error", "jacobian", "error_gradient"):
    for backend in ("numpy", "numba"):
        print(flow.source_of(name, backend))
"""


@pytest.mark.slow
def test_sources_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    texts = set()
    for seed in range(1, 7):
        known = {"PYTHONHASHSEED": str(seed), "MACRODYN_CACHE": str(tmp_path / str(seed))}
        known["PYTHONPATH"] = os.pathsep.join(sys.path)
        run = subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | known, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        texts.add(run.stdout)
    assert len(texts) == 1
