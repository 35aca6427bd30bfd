"""A Dask cluster of real processes, for the tests that sweep on one."""

import json
import os
import subprocess
import sys
import time

import pytest

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
