"""Solutions of a flow that can be asked at any time: by compiled loops, by scipy, or iterated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from solvers.results import Status
from solvers.trajectories.steps import follow
from theory.errors import DomainError

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]
Rate = Callable[[Array], Array]

METHODS = ("LSODA", "DOP853", "RK45", "Radau", "BDF")
"""The integrators by name (scipy.integrate; LSODA after Hindmarsh and Petzold)."""
WITH_JACOBIAN = ("LSODA", "Radau", "BDF")
EXPLICIT = {"DOP853": 2.7, "RK45": 1.4}
"""Longest step of an explicit method over 1/|λ|, λ the largest eigenvalue of the flow.

At the limit of stability, twice that, the error of what has decayed stays at the tolerance, and
the interpolant between the steps is worse still. The tolerance of the steps is a tenth of rtol.
"""
MOST_STEPS = 200_000
RUNNING_OFF = 1e6
"""A state that would grow e-fold in so small a part of the time so far runs to infinity."""
MOST_COMPILED = 20_000
"""A flow that takes compiled loops more steps than this is stiff, and better left to LSODA."""
MOST_NUMBERS = 20_000_000


@dataclass(frozen=True)
class Path:
    """States along time: ``mesh`` (n,) resolves whatever happens, ``at`` gives y at any times.

    ``end`` falls short of the time asked for if the status is not success. In a discrete path the
    times are whole steps.
    """

    mesh: Array
    at: Callable[[ArrayLike], Array]
    status: Status
    message: str
    evaluations: Mapping[str, int]
    discrete: bool = False

    @property
    def end(self) -> float:
        """The last time reached."""
        return float(self.mesh[-1])


@dataclass
class _Counted:
    """A function that counts its calls; where it has no value it returns NaN."""

    function: Callable[[Array], Array]
    shape: tuple[int, ...]
    calls: int = 0
    cause: str = ""
    """Why the last value is NaN."""

    def __call__(self, time: float, y: Array) -> Array:
        self.calls += 1
        if np.isfinite(y).all():  # a state that is no number comes of a value that was none
            self.cause = ""
        try:
            return self.function(y)
        except (ArithmeticError, DomainError) as error:
            self.cause = str(error)
            return np.full(self.shape, np.nan)


def solve(
    rate: Rate,
    jacobian: Rate,
    start: Array,
    time: float,
    bounded: Callable[[Array], bool],
    method: str = "LSODA",
    rtol: float = 1e-8,
    atol: float = 1e-12,
    most: int = MOST_STEPS,
) -> Path:
    """The solution of dy/dα = rate(y) from y(0) = start to α = time, with dense output.

    Stops with a status when a state is not ``bounded``, the integrator fails or the user
    interrupts; what was computed until then is kept.
    """
    size = len(start)
    rhs, jac = _Counted(rate, (size,)), _Counted(jacobian, (size, size))
    extra = {"jac": jac} if method in WITH_JACOBIAN else {}
    rtol = max(0.1 * rtol if method in EXPLICIT else rtol, 1e-13)
    nodes, pieces, status, trouble = [0.0], [], Status.diverged, None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if np.isfinite(rhs(0.0, start)).all():
                solver = getattr(scipy.integrate, method)(
                    rhs, 0.0, start, time, rtol=rtol, atol=atol, **extra
                )
                status, trouble = _march(solver, method, jac, bounded, nodes, pieces, most)
                stuck = status is Status.not_converged and not rhs.cause
                if stuck and _runs_off(solver.t, solver.y, rhs(solver.t, solver.y)):
                    status = Status.diverged
        except KeyboardInterrupt:
            status = Status.interrupted
    if rhs.cause and status is not Status.interrupted:
        status, trouble = Status.not_converged, rhs.cause
    message = ""
    if status is Status.not_converged:
        message = _stuck(method, nodes[-1], trouble or f"more than {most} steps")
    elif status is not Status.success:
        message = explain(status, nodes[-1], time)
    counts = {"rhs": rhs.calls, "jacobian": jac.calls, "steps": len(pieces)}
    mesh, at = _dense(np.array(nodes), pieces, start, method)
    return Path(mesh, at, status, message, counts)


def _march(
    solver: Any,
    method: str,
    jacobian: _Counted,
    bounded: Callable[[Array], bool],
    nodes: list[float],
    pieces: list[Any],
    most: int,
) -> tuple[Status, str | None]:
    """Steps to the end or the first trouble; steps are added to ``nodes`` and ``pieces``."""
    while solver.status == "running":
        if method in EXPLICIT and len(pieces) % 20 == 0:
            solver.max_step = _longest_step(method, jacobian(solver.t, solver.y))
        trouble = _step(solver)
        if not trouble and solver.t <= nodes[-1]:
            trouble = "its steps have vanished"
        if trouble or len(pieces) == most:
            return Status.not_converged, trouble
        if not np.isfinite(solver.y).all():
            return Status.diverged, None
        pieces.append(solver.dense_output())
        nodes.append(float(solver.t))
        if not bounded(solver.y):
            return Status.diverged, None
    return Status.success, None


def _runs_off(time: float, y: Array, rate: Array) -> bool:
    """Whether the state runs to infinity in a finite time: it grows e-fold in no time."""
    return bool(time * (y @ rate) > RUNNING_OFF * (y @ y))


def _longest_step(method: str, jacobian: Array) -> float:
    """The bound on an explicit method's step; none where the spectrum is not to be had."""
    if len(jacobian) > 300 or not np.isfinite(jacobian).all():
        return np.inf
    radius = float(np.abs(np.linalg.eigvals(jacobian)).max())
    return EXPLICIT[method] / radius if radius > 0 else np.inf


def _step(solver: Any) -> str | None:
    """One step; what went wrong, if anything did."""
    try:
        return solver.step()
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        return str(error)


def _dense(
    nodes: Array, pieces: list[Any], start: Array, method: str
) -> tuple[Array, Callable[[ArrayLike], Array]]:
    if not pieces:
        return nodes[:1], lambda times: np.broadcast_to(start, (*np.shape(times), len(start)))
    solution = scipy.integrate.OdeSolution(nodes, pieces)
    finer = {"DOP853": 8, "RK45": 2}.get(method, 1)
    return _halved(nodes, finer), lambda times: np.moveaxis(solution(times), 0, -1)


def compiled_path(
    compiled: CompiledFlow,
    parameters: Mapping[str, Any],
    start: Array,
    time: float,
    bound: float,
    bounded: int,
    rtol: float,
    atol: float,
) -> Path | None:
    """The solution by Adams' method in compiled loops; None where it got stuck.

    The flow has diverged when one of the first ``bounded`` entries of y exceeds ``bound``.
    """
    with np.errstate(all="ignore"):
        steps = follow(
            compiled, parameters, start, time, rtol=rtol, atol=atol, bound=bound, bounded=bounded,
            most=MOST_COMPILED,
        )  # fmt: skip
    if steps.status is Status.not_converged:
        return None
    nodes, message = steps.time, ""
    if steps.status is Status.diverged:
        last = np.linspace(nodes[-2], nodes[-1], 100)
        outside = np.abs(steps.at(last)[:-1, :bounded]).max(axis=1) > bound
        nodes = np.append(nodes[:-1], last[np.append(outside, True).argmax()])
    if steps.status is not Status.success:
        message = explain(steps.status, float(nodes[-1]), time)
    counts = {"rhs": steps.evaluations, "jacobian": 0, "steps": len(steps.time) - 1}
    return Path(_halved(nodes, 2), steps.at, steps.status, message, counts)


def _halved(nodes: Array, finer: int) -> Array:
    """The nodes, with each interval divided into ``finer``."""
    count = finer * (len(nodes) - 1) + 1
    return np.interp(np.arange(count) / finer, np.arange(len(nodes)), nodes)


def iterate(increment: Rate, start: Array, steps: int, bounded: Callable[[Array], bool]) -> Path:
    """The orbit of y ← y + increment(y) over whole steps: exact, nothing is interpolated.

    Some ten thousand states are kept, evenly spaced; those between are computed again on request.
    Stops as ``solve`` does.
    """
    stride = 1 + steps // max(1000, min(20_000, MOST_NUMBERS // len(start)))
    step, y, status, message = 0, start, Status.success, ""
    kept, where = [start], [0]
    with np.errstate(all="ignore"):
        try:
            for step in range(1, steps + 1):
                following = y + increment(y)
                if not np.isfinite(following).all():
                    step, status = step - 1, Status.diverged
                    break
                y = following
                outside = not bounded(y)
                if outside or step % stride == 0:
                    kept.append(y)
                    where.append(step)
                if outside:
                    status = Status.diverged
                    break
        except KeyboardInterrupt:
            step, status = where[-1], Status.interrupted
        except ArithmeticError as error:
            step, status = where[-1], Status.not_converged
            message = f"The map could not be evaluated beyond step {step}: {error}."
    if where[-1] < step:
        kept.append(y)
        where.append(step)
    if status in (Status.diverged, Status.interrupted):
        message = explain(status, step, steps)
    known = np.array(where)

    def state(wanted: int) -> Array:
        position = int(np.searchsorted(known, wanted, side="right")) - 1
        y = kept[position]
        for _ in range(wanted - known[position]):
            y = y + increment(y)
        return y

    def at(times: ArrayLike) -> Array:
        whole = np.asarray(times).astype(int)
        flat = [state(wanted) for wanted in whole.ravel().tolist()]
        return np.reshape(flat, (*whole.shape, len(start)))

    counts = {"rhs": step, "jacobian": 0, "steps": step}
    return Path(known.astype(float), at, status, message, counts, discrete=True)


def explain(status: Status, reached: float, time: float) -> str:
    """The sentence for a path that was not followed to its end."""
    if status is Status.interrupted:
        return f"Interrupted at time {reached:.6g} of {time:.6g}; what was computed is kept."
    return (
        "The flow diverged: an entry of Q passed 1e6, or the state ran off, "
        f"at time {reached:.6g}. Lower rule.outer_rate (or the inner rates), or shorten "
        "integrate.time."
    )


def _stuck(method: str, reached: float, trouble: str) -> str:
    other = "DOP853" if method != "DOP853" else "LSODA"
    return (
        f"{method} could not go beyond time {reached:.6g} ({trouble.rstrip('.')}). "
        f'Try integrate.method = "{other}" or a larger integrate.rtol.'
    )
