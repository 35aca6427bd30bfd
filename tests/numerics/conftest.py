"""Experiments that several tests share, and a Dask cluster of real processes to sweep on."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from solvers.experiment import Experiment
from solvers.stability.fixed_points import fixed_point_near

PATIENCE = 30


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, real processes on the loopback address."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": ""}
    file = tmp_path / "scheduler.json"

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        with open(tmp_path / "log", "ab") as log:
            return subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)

    scheduler = start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file),
    )  # fmt: skip
    until = time.monotonic() + PATIENCE
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    workers = [
        start(
            "dask_worker", "--scheduler-file", str(file), "--host", "127.0.0.1", "--nthreads", "1",
            "--no-dashboard", "--no-nanny", "--local-directory", str(tmp_path / "spill"),
        )
        for _ in range(2)
    ]  # fmt: skip
    address = json.loads(file.read_text())["address"]
    yield address, scheduler, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def make_committee(units, outer_rate=0.5, regime="streaming", **rule):
    """The soft committee machine with K = M, T = I and all heads 1, started at Q = R = T."""
    return Experiment.from_dict(
        {
            "model": {"hidden": units, "teacher_hidden": units},
            "tasks": {"head_mean": 1.0},
            "rule": {"name": "sgd", "outer_rate": outer_rate, "regime": regime, **rule},
            "initial": {"w": 1.0, "Q": np.eye(units).tolist(), "R": np.eye(units).tolist()},
            "integrate": {"time": 300.0},
        }
    )


def make_meta(inner_rate, regime="gradient-flow", **rule):
    """First-order ANIL of two units with centred tasks, Σ_u = I, and a head that stays 0."""
    return Experiment.from_dict(
        {
            "model": {"hidden": 2, "teacher_hidden": 2},
            "tasks": {"head_mean": 0.0, "head_covariance": 1.0},
            "rule": {
                "name": "anil", "inner_rate": inner_rate, "outer_rate": 1.0,
                "regime": regime, **rule,
            },
            "initial": {"w": 0.0, "random": {"norm": 0.5, "dimension": 1000, "seed": 0}},
            "integrate": {"time": 300.0},
        }
    )  # fmt: skip


def make_perfect(experiment):
    """The specialised state Q = R = T = I."""
    eye = np.eye(experiment.layout.hidden)
    return fixed_point_near(experiment, eye, eye, np.ones(len(eye)))


def make_plateau(experiment):
    """The symmetric plateau of slow learning, from its closed form."""
    K = experiment.layout.hidden
    overlap, cross = 1 / (2 * K - 1), 1 / np.sqrt(K * (2 * K - 1))
    return fixed_point_near(
        experiment, np.full((K, K), overlap), np.full((K, K), cross), np.ones(K)
    )


@pytest.fixture
def committee():
    """Makes soft committees: ``committee(K, outer_rate, regime, **rule)``."""
    return make_committee


@pytest.fixture
def meta():
    """Makes ANIL experiments with centred tasks: ``meta(inner_rate, regime, **rule)``."""
    return make_meta


@pytest.fixture
def perfect():
    """Gives the specialised fixed point of a committee."""
    return make_perfect


@pytest.fixture
def plateau():
    """Gives the symmetric fixed point of a committee that learns slowly."""
    return make_plateau
