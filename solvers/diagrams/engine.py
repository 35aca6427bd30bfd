"""Independent tasks of very different cost, spread over processes here or on a Dask cluster.

``compute`` hands small batches to idle workers, yields what comes back in whatever order it comes,
and survives the death of workers: tasks that were under way when one died are tried again, alone.
A task is a tuple of whole numbers; the work is any function from a task to plain data. An
exception in the work is the outcome of its task, not the end of the run.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from socket import getaddrinfo
from threading import Lock, Thread
from typing import Any, Protocol

from solvers.diagrams.journal import Record, Task
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure

BATCH_SECONDS = 0.2
"""A batch is made about this long, so that shipping it costs little and no worker waits long."""
BATCH_TASKS = 1000
"""No batch is longer, however fast the tasks are."""
PREFETCH = 2
"""Batches per worker that are handed out ahead."""
DEATHS = 2
"""A task whose worker dies this often while it runs alone is given up."""

Work = Callable[[Task], Record]


class Interrupted(NumericalFailure):
    """The run ended early; what was finished is in the journal, and ``result`` counts it."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message, result)


class WorkersLost(Interrupted):
    """No worker can be reached any more."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its record, or the sentence that says why it is empty."""

    task: Task
    record: Record
    sentence: str = ""


class Pool(Protocol):
    """Workers that run a function."""

    @property
    def broken(self) -> tuple[type[BaseException], ...]:
        """The errors of a future that mean that its worker died."""
        ...

    @property
    def width(self) -> int:
        """Number of tasks that run at the same time."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Run ``function`` on some worker."""
        ...


class InProcess:
    """No other process: the work is done here, one batch at a time."""

    broken: tuple[type[BaseException], ...] = ()
    width = 1

    def submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Run ``function`` now."""
        future: futures.Future[Any] = futures.Future()
        future.set_result(function(*arguments))
        return future


class Local:
    """Processes on this machine, by joblib's loky, with one BLAS thread each."""

    broken: tuple[type[BaseException], ...] = (futures.BrokenExecutor,)

    def __init__(self, workers: int) -> None:
        self.width = workers
        self._start()

    def _start(self) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        libraries = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA")
        threads = {f"{name}_NUM_THREADS": "1" for name in libraries}
        self._executor: Any = ProcessPoolExecutor(
            self.width, env=threads, initializer=_end_with_parent, initargs=(os.getpid(),)
        )

    def submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Run ``function`` in a process; after one died, in a fresh set of them."""
        try:
            return self._executor.submit(function, *arguments)
        except futures.BrokenExecutor:
            self._start()
            return self._executor.submit(function, *arguments)

    def close(self) -> None:
        """End the processes at once."""
        self._executor.shutdown(kill_workers=True)


def _end_with_parent(parent: int) -> None:
    """Let this process end when the one that started it is gone, killed perhaps before we began."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class Cluster:
    """The workers of a Dask scheduler; certificates come from Dask's own configuration."""

    def __init__(self, address: str, patience: float = 10.0) -> None:
        try:
            from distributed import Client
            from distributed.comm.addressing import get_address_host_port
            from distributed.scheduler import KilledWorker
        except ImportError:
            raise ExperimentError("--cluster needs Dask: pip install 'macrodyn[cluster]'") from None
        try:
            getaddrinfo(*get_address_host_port(address))  # a Client of no address is slow to end
            self._client: Any = Client(address, timeout=patience, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise ExperimentError(f"no Dask scheduler answers at {address}: {error}") from None
        self.address = address
        self.broken: tuple[type[BaseException], ...] = (KilledWorker,)
        self._pool = self._client.get_executor(pure=False)
        self._counted = -1.0
        self._width = 0

    @property
    def width(self) -> int:
        """Threads of all workers, asked for again every two seconds: workers come and go."""
        now = time.monotonic()
        if self._counted < 0 or now - self._counted > 2:
            try:
                self._width = sum(self._client.nthreads().values())
            except (OSError, futures.CancelledError) as error:
                raise WorkersLost(f"the Dask scheduler at {self.address} is gone") from error
            self._counted = now
        return max(1, self._width)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Run ``function`` on a worker of the cluster."""
        if self._client.status != "running":
            raise WorkersLost(f"the Dask scheduler at {self.address} is gone")
        return self._pool.submit(function, *arguments)

    def close(self) -> None:
        """Take back what is under way and leave; scheduler and workers stay."""
        if self._client.status == "running":
            self._pool.shutdown(wait=False)
        self._client.close(timeout=2)


@contextmanager
def pool_of(workers: int, cluster: str | None = None) -> Iterator[Pool]:
    """The workers to use, ended afterwards whatever happened."""
    if cluster is None and workers < 2:
        yield InProcess()
        return
    pool = Local(workers) if cluster is None else Cluster(cluster)
    try:
        yield pool
    finally:
        pool.close()


@dataclass(frozen=True)
class Shipment:
    """A function as it travels: its description, unpacked once per worker."""

    content: bytes
    digest: str

    @classmethod
    def of(cls, work: Work) -> Shipment:
        """``work`` made ready for other processes, functions of a notebook included."""
        from cloudpickle import dumps

        content = dumps(work)
        return cls(content, hashlib.sha256(content).hexdigest())

    def __hash__(self) -> int:
        return hash(self.digest)


@lru_cache(maxsize=4)
def _unpacked(shipment: Shipment) -> Work:
    from cloudpickle import loads

    return loads(shipment.content)


_one_at_a_time = Lock()
"""A Dask worker may have several threads; scipy's Fortran solvers may not be entered twice."""


def work_through(
    shipment: Shipment, tasks: list[Task], budget: float
) -> tuple[list[Outcome], float]:
    """Outcomes of the first of ``tasks``, as many as fit in ``budget`` seconds, and their time."""
    with _one_at_a_time:
        work = _unpacked(shipment)
        begin = time.perf_counter()
        outcomes: list[Outcome] = []
        for task in tasks:
            outcomes.append(_attempt(work, task))
            if time.perf_counter() - begin > budget:
                break
        return outcomes, time.perf_counter() - begin


def _attempt(work: Work, task: Task) -> Outcome:
    try:
        return Outcome(task, work(task))
    except Exception as error:  # noqa: BLE001  (the border at which one failing task is contained)
        return Outcome(task, {}, f"{type(error).__name__}: {error}")


@dataclass
class _Queue:
    """What is still to be handed out."""

    fresh: Iterator[Task]
    again: deque[Task] = field(default_factory=deque)
    suspects: deque[Task] = field(default_factory=deque)
    deaths: dict[Task, int] = field(default_factory=dict)

    def take(self, count: int) -> list[Task]:
        batch: list[Task] = []
        while len(batch) < count and self.again:
            batch.append(self.again.popleft())
        for task in self.fresh if len(batch) < count else ():
            batch.append(task)
            if len(batch) == count:
                break
        return batch


def compute(
    work: Work, tasks: Iterable[Task], pool: Pool, total: int | None = None
) -> Iterator[list[Outcome]]:
    """Outcomes of all ``tasks``, each once, in lists, in the order in which they are finished.

    ``tasks`` is consumed as workers become free, so that memory does not grow with its length;
    ``total``, its length, lets the last batches be small.

    Raises:
        WorkersLost: no worker is left that could go on.
    """
    shipment = Shipment.of(work)
    queue, running = _Queue(iter(tasks)), {}
    pace, left = 0.0, total
    while True:
        alone = bool(queue.suspects)
        while len(running) < (1 if alone else PREFETCH * pool.width):
            size = _batch_size(pace, left, pool.width)
            batch = [queue.suspects.popleft()] if alone else queue.take(size)
            if not batch:
                break
            running[pool.submit(work_through, shipment, batch, 4 * BATCH_SECONDS)] = (batch, alone)
            if alone:
                break
        if not running:
            return
        done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
        for future in done:
            batch, was_alone = running.pop(future)
            try:
                outcomes, seconds = future.result()
            except futures.CancelledError:
                raise WorkersLost("the Dask scheduler went away") from None
            except pool.broken:
                outcomes, seconds = _after_death(queue, batch, was_alone), 0.0
            else:
                queue.again.extend(batch[len(outcomes) :])
                spent = seconds / len(outcomes)
                pace = 0.7 * pace + 0.3 * spent if pace else spent
            left = left - len(outcomes) if left is not None else None
            if outcomes:
                yield outcomes


def _batch_size(pace: float, left: int | None, width: int) -> int:
    """Tasks that take BATCH_SECONDS at ``pace`` seconds each, fewer towards the end."""
    if not pace:
        return 1
    size = max(1, min(BATCH_TASKS, int(BATCH_SECONDS / pace)))
    return size if left is None else min(size, max(1, left // (4 * width)))


def _after_death(queue: _Queue, batch: list[Task], was_alone: bool) -> list[Outcome]:
    """Tasks whose worker died are tried again, each alone; what kills its workers is given up."""
    if not was_alone:
        queue.suspects.extend(batch)
        return []
    (task,) = batch
    queue.deaths[task] = queue.deaths.get(task, 0) + 1
    if queue.deaths[task] < DEATHS:
        queue.suspects.append(task)
        return []
    sentence = "its worker process died each time (killed, out of memory, or crashed)"
    return [Outcome(task, {}, sentence)]
