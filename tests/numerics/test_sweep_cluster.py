"""The engine on a real Dask cluster: a scheduler and two workers on the loopback address."""

import gc
import os
import signal
import time

import pytest

from solvers.diagrams.engine import Cluster, WorkersLost, compute, pool_of
from solvers.errors import ExperimentError

PATIENCE = 30


def slow_square(task):
    time.sleep(0.02)
    return {"value": task[0] ** 2, "pid": os.getpid()}


def start_of(work, count, pool):
    """The outcomes as they come, after the first ones have come."""
    stream = compute(work, [(i,) for i in range(count)], pool, count)
    return stream, list(next(stream))


def test_the_same_work_on_a_cluster(cluster):
    address, _, _ = cluster
    with pool_of(1, address) as pool:
        stream, outcomes = start_of(slow_square, 100, pool)
        outcomes += [o for batch in stream for o in batch]
    assert sorted((o.task[0], o.record["value"]) for o in outcomes) == [
        (i, i**2) for i in range(100)
    ]
    assert len({o.record["pid"] for o in outcomes}) == 2


def test_a_lost_worker_costs_no_task(cluster):
    address, _, workers = cluster
    with pool_of(1, address) as pool:
        stream, outcomes = start_of(slow_square, 100, pool)
        os.kill(workers[0].pid, signal.SIGKILL)
        outcomes += [o for batch in stream for o in batch]
    assert sorted((o.task[0], o.record["value"]) for o in outcomes) == [
        (i, i**2) for i in range(100)
    ]


def test_a_lost_scheduler_ends_the_run_with_a_sentence(cluster):
    address, scheduler, _ = cluster
    with pool_of(1, address) as pool:
        stream, _ = start_of(slow_square, 10_000, pool)
        os.kill(scheduler.pid, signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(WorkersLost, match="scheduler"):
            list(stream)
    assert time.monotonic() - begin < PATIENCE


def test_an_absent_scheduler_is_one_sentence():
    with pytest.raises(ExperimentError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        Cluster("tcp://127.0.0.1:9", patience=1)


@pytest.mark.parametrize("address", ["nonsense", "http://x", "tcp://", "tcp://no.such.host.:1"])
def test_an_address_that_is_none_is_one_sentence(address):
    """Without a client, whose end would take long and be told about on stderr."""
    with pytest.raises(ExperimentError, match="Dask scheduler"), pool_of(1, address):
        pass
    gc.collect()
