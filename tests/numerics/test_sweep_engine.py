"""The engine of sweeps: every task once, whatever becomes of the workers. Real processes."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from solvers.diagrams.engine import InProcess, compute, pool_of
from solvers.diagrams.journal import Journal


def square(task):
    return {"value": task[0] ** 2}


def fails_at_seven(task):
    if task == (7,):
        raise ZeroDivisionError("seven")
    return square(task)


class DiesOnce:
    """Kills its own worker at one task, the first time it is tried."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __call__(self, task):
        if task == (5,) and not os.path.exists(self.marker):
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return square(task)


def dies_at_five(task):
    if task == (5,):
        os.kill(os.getpid(), signal.SIGKILL)
    return square(task)


def uneven(task):
    time.sleep(0.3 if task[0] % 40 == 0 else 0.001)
    return {"pid": os.getpid()}


def collect(work, count, pool):
    tasks = [(i,) for i in range(count)]
    outcomes = [o for batch in compute(work, tasks, pool, count) for o in batch]
    assert sorted(o.task for o in outcomes) == tasks
    return {o.task[0]: o for o in outcomes}


@pytest.fixture(scope="module")
def two_processes():
    with pool_of(2) as pool:
        yield pool


def test_each_task_once_in_any_number_of_processes(two_processes):
    expected = {i: i**2 for i in range(300)}
    for pool in (InProcess(), two_processes):
        found = collect(square, 300, pool)
        assert {i: o.record["value"] for i, o in found.items()} == expected


def test_no_task_is_no_work(two_processes):
    assert list(compute(square, [], two_processes, 0)) == []


def test_one_failing_task_is_contained(two_processes):
    for pool in (InProcess(), two_processes):
        found = collect(fails_at_seven, 20, pool)
        assert found[7].record == {}
        assert found[7].sentence == "ZeroDivisionError: seven"
        assert all(found[i].record == {"value": i**2} for i in range(20) if i != 7)


def test_a_killed_worker_costs_no_task(tmp_path):
    with pool_of(2) as pool:
        found = collect(DiesOnce(tmp_path / "died"), 100, pool)
    assert (tmp_path / "died").exists()
    assert all(o.record == {"value": i**2} for i, o in found.items())


def test_a_task_that_kills_its_worker_each_time_is_given_up_and_no_other():
    with pool_of(2) as pool:
        found = collect(dies_at_five, 40, pool)
    assert found[5].record == {}
    assert "worker process died" in found[5].sentence
    assert all(o.record == {"value": i**2} for i, o in found.items() if i != 5)


@pytest.mark.alone
def test_uneven_tasks_leave_no_worker_idle(two_processes):
    collect(square, 10, two_processes)
    begin = time.perf_counter()
    collect(uneven, 400, two_processes)
    took = time.perf_counter() - begin
    work = 10 * 0.3 + 390 * 0.0011
    assert took < 0.5 * work + 0.9  # half the work each, and at most three long tasks of slack


def test_workers_end_with_a_killed_parent():
    """Otherwise they would wait for work for ever, each with its memory."""
    code = """
import os, time
from solvers.diagrams.engine import compute, pool_of
def pid(task):
    return {"pid": os.getpid()}
with pool_of(2) as pool:
    for outcomes in compute(pid, [(i,) for i in range(2)], pool):
        print(outcomes[0].record["pid"], flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_blas_is_pinned_to_one_thread_per_worker(two_processes):
    found = collect(environment, 2, two_processes)
    assert all(o.record["threads"] == "1" for o in found.values())


def environment(task):
    return {"threads": os.environ.get("OPENBLAS_NUM_THREADS")}


def test_memory_does_not_grow_with_the_number_of_tasks(tmp_path):
    """100 000 tasks through queue and journal: the peak stays far below 1 GiB."""
    count = 100_000
    tracemalloc.start()
    with Journal(tmp_path / "journal", {"work": "dry"}) as journal:
        tasks = ((i,) for i in range(count))
        for outcomes in compute(square, tasks, InProcess(), count):
            journal.append((o.task, o.record) for o in outcomes)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        seen = np.zeros(count, bool)
        for task, record in journal:
            assert record["value"] == task[0] ** 2
            seen[task[0]] = True
    assert seen.all()
    assert peak < 16 * 2**20
