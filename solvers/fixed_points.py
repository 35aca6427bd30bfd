"""Fixed points of an experiment's flow: found, checked, merged under symmetry, and described."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers import seeds, states
from solvers.coincidence import settle, splitting_rate
from solvers.fixed_point import FixedPoint, FixedPoints
from solvers.newton import Root, find_root
from solvers.problem import Problem
from solvers.results import NumericalFailure, Status
from solvers.steady import Steady
from theory.overlaps import PHYSICAL_TOLERANCE

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

RESIDUAL = 1e-10
"""Largest entry of the flow at what counts as a fixed point."""
NULL = 1e-7
"""Eigenvalues and singular values below this share of the largest are zero in a family."""
DEFLATED = 24
"""Starts from which a second, different fixed point is sought by deflation."""


def fixed_points(
    experiment: Experiment,
    *,
    starts: int = 60,
    seed: int = 0,
    near: Iterable[Array] = (),
    coinciding: bool = False,
) -> FixedPoints:
    """All physical fixed points that a systematic search finds.

    Newton's method with the exact Jacobian starts from aligned and symmetric ansätze, from networks
    drawn at finite dimension (``starts`` of them), from slow points of trajectories, and from
    states ``near``; fixed points already found are deflated. Points that a symmetry of the problem
    carries into each other (permutations and, for odd g, sign flips of units) are one; roots whose
    C is no covariance are dropped. Of a continuous family one point is kept for each error. Points
    where two learner units coincide exactly, while the least difference between them would grow,
    are reached from no other state: ``coinciding`` lists them.
    """
    steady = Steady(experiment)
    problem, rate = steady.problem, _fastest_rate(experiment)
    if rate == 0:
        return FixedPoints(experiment, (), message=_still(experiment))
    rng = np.random.default_rng(seed)
    draws = list(seeds.drawn(steady, 0.0, rng, starts))
    initial = experiment.initial_state()[steady.free]
    time = float(experiment.integrate.time) if problem.discrete else 300.0 / rate
    slow, diverged = seeds.slow_points(
        problem, [initial, *draws[:: max(1, starts // 4)]], 0.0, time
    )
    first = [np.asarray(x, float)[steady.free] for x in near]
    all_starts = [*first, *slow, *seeds.structured(steady, 0.0, rng), *draws]
    found: list[FixedPoint] = []
    tried, rejected, apart = 0, 0, list[Array]()
    for start, deflate in _rounds(all_starts):
        tried += 1
        root = _root(problem, start, [p.x for p in found] if deflate else ())
        if not root.converged:
            continue
        x = settle(steady, root.x, 0.0, RESIDUAL)
        if not is_physical(steady, x, 0.0):
            rejected += 1
        elif not coinciding and splitting_rate(steady, x, 0.0) > 0:
            if not any(problem.equivalent(x, other, 0.0) for other in apart):
                apart.append(x)
        elif not any(_same(steady, x, p) for p in found):
            point = describe_point(steady, x)
            found.append(point)
    found = _one_of_each_family(found)
    found.sort(key=lambda p: (round(p.error, 9), p.unstable))
    message = _message(found, tried, rejected, diverged, len(apart))
    return FixedPoints(
        experiment, tuple(found), Status.success, message, _warnings(found, diverged)
    )


def fixed_point_near(experiment: Experiment, Q: Any, R: Any, w: Any) -> FixedPoint:
    """The fixed point that Newton's method reaches from the state (Q, R, w).

    Raises:
        NumericalFailure: it reaches none, or one that no network has.
    """
    steady = Steady(experiment)
    start = experiment.layout.pack(Q, R, w)[steady.free]
    root = _root(steady.problem, start, ())
    if not root.converged:
        raise NumericalFailure(
            f"Newton's method finds no fixed point from this state (residual {root.residual:.2g}); "
            "start closer to one, or search with fixed_points", root,
        )  # fmt: skip
    x = settle(steady, root.x, 0.0, RESIDUAL)
    if not is_physical(steady, x, 0.0):
        raise NumericalFailure("Newton's method reaches a root that no network has", root)
    return describe_point(steady, x)


def _rounds(starts: list[Array]) -> Iterator[tuple[Array, bool]]:
    yield from ((start, False) for start in starts)
    yield from ((start, True) for start in starts[:: max(1, len(starts) // DEFLATED)])


def _root(problem: Problem, start: Array, known: Sequence[Array]) -> Root:
    rate = np.asarray(problem.rate(0.0))
    return find_root(
        lambda x: problem.residual(x, 0.0) / rate,
        lambda x: (problem.jacobian(x, 0.0).T / rate).T,
        start,
        known=known,
        tolerance=RESIDUAL / max(1.0, float(rate.max(initial=0.0))),
    )


def _fastest_rate(experiment: Experiment) -> float:
    rates = (experiment.parameters.get(name, 0.0) for name in ("outer_rate", "head_rate"))
    return float(max(rates))


def _still(experiment: Experiment) -> str:
    return f"Every state is a fixed point: the outer rates of {experiment.rule.name} are zero."


def is_physical(steady: Steady, x: Array, value: float) -> bool:
    """Whether C is positive semidefinite to 1e-8 of its trace, and ε is not negative."""
    if steady.problem.margin(x, value) < -PHYSICAL_TOLERANCE:
        return False
    return steady.error(x, value) >= -1e-10


def _same(steady: Steady, x: Array, point: FixedPoint) -> bool:
    if abs(steady.error(x, 0.0) - point.error) > 1e-6 * (1 + abs(point.error)):
        return False
    return steady.problem.equivalent(x, point.x, 0.0)


def _one_of_each_family(found: Sequence[FixedPoint]) -> list[FixedPoint]:
    """All isolated points, and of the points with a family's error one that shows its dimension."""
    kept: list[FixedPoint] = []
    for point in sorted(found, key=lambda p: -p.family):
        flat = np.abs(point.eigenvalues) < NULL * np.abs(point.eigenvalues).max(initial=0.0)
        near = [p for p in kept if p.family and abs(point.error - p.error) < 1e-8 * (1 + p.error)]
        if not (near and flat.any()):
            kept.append(point)
    return kept


def describe_point(steady: Steady, x: Array, value: float = 0.0) -> FixedPoint:
    """The fixed point at x, with its spectrum, label and family."""
    experiment, problem, layout = steady.experiment, steady.problem, steady.experiment.layout
    y = steady.state(x, value)
    Q, R, w = layout.unpack(y)
    parameters = steady.parameters(value)
    residual = float(np.abs(problem.residual(x, value)).max(initial=0.0))
    J = problem.jacobian(x, value)
    spectrum = problem.spectrum(J)
    return FixedPoint(
        experiment, x, Q, R, w, steady.error(x, value), residual, spectrum,
        problem.unstable(spectrum), states.label(*states.fields(Q, R, parameters, layout)),
        family_dimension(problem, x, value, J),
    )  # fmt: skip


def family_dimension(problem: Problem, x: Array, value: float, jacobian: Array) -> int:
    """Dimension of the manifold of fixed points through x.

    Counts the null directions of the Jacobian along which a small step can be corrected back onto a
    fixed point without returning to x.
    """
    _, singular, rows = np.linalg.svd(jacobian)
    scale = singular.max(initial=0.0)
    if scale == 0:
        return len(x)
    null = rows[singular < NULL * scale]
    step = 1e-3 * (1 + float(np.abs(x).max()))
    dimension = 0
    for direction in null:
        root = find_root(
            lambda x: problem.residual(x, value) / scale,
            lambda x: problem.jacobian(x, value) / scale,
            x + step * direction,
        )
        moved = abs(float(direction @ (root.x - x)))
        dimension += root.converged and 0.5 * step < moved < 2 * step
    return dimension


def _message(
    found: Sequence[FixedPoint], tried: int, rejected: int, diverged: int, apart: int
) -> str:
    dropped = ""
    if rejected:
        dropped += f"; {rejected} roots were dropped because no network has these overlaps"
    if apart:
        dropped += f"; {apart} more have learner units that coincide exactly and would separate"
    if not found:
        away = ": the trajectories diverge" if diverged else ""
        return f"No physical fixed point was found from {tried} starts{away}{dropped}."
    stable = sum(p.stable for p in found)
    return f"{len(found)} fixed points, {stable} of them stable, from {tried} starts{dropped}."


def _warnings(found: Sequence[FixedPoint], diverged: int) -> tuple[str, ...]:
    warnings = []
    families = [p for p in found if p.family]
    if families:
        largest = max(p.family for p in families)
        warnings.append(
            f"{len(families)} of the fixed points belong to continuous families (of up to "
            f"{largest} dimensions): one point of each error is listed."
        )
    if found and diverged:
        warnings.append(f"{diverged} of the trajectories that were followed diverge.")
    return tuple(warnings)
