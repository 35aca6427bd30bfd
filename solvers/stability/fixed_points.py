"""Fixed points of an experiment's flow: found, checked, merged under symmetry, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers import notes, states
from solvers.results import NumericalFailure, Status
from solvers.stability import seeds
from solvers.stability.coincidence import settle, splitting_rate
from solvers.stability.families import (
    NULL,
    family_at,
    has_null_directions,
    nearest_member,
    neutral_modes,
)
from solvers.stability.fixed_point import FixedPoint, FixedPoints
from solvers.stability.newton import Root, find_root
from solvers.stability.problem import Problem
from solvers.stability.steady import Steady
from solvers.states import canonical
from solvers.trajectories import task_average
from theory.overlaps import PHYSICAL_TOLERANCE

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

RESIDUAL = 1e-10
"""Largest entry of the flow at what counts as a fixed point."""
DEFLATED = 24
"""Starts from which a second, different fixed point is sought by deflation."""
STARTS, COSTLY_STARTS = 60, 12
"""Networks drawn as starts: of ordinary flows, and of those that a cubature makes costly."""
FAMILY, MEMBERS = 1e-8, 4
"""Points of families whose errors are closer than this are of one; so many of them are compared."""
Progress = Callable[[float, float], None]


def fixed_points(
    experiment: Experiment,
    *,
    starts: int | None = None,
    seed: int = 0,
    near: Iterable[Array] = (),
    coinciding: bool = False,
    progress: Progress | None = None,
) -> FixedPoints:
    """All physical fixed points that a systematic search finds.

    Newton's method with the exact Jacobian starts from aligned and symmetric ansätze, from networks
    drawn at finite dimension (``starts`` of them; 60, or 12 where a cubature makes the flow
    costly), from slow points of trajectories, from the fixed points at infinite support, and from
    states ``near``; fixed points already found are deflated. Points that a symmetry of the problem
    carries into each other (permutations and, for odd g, sign flips of units) are one; roots whose
    C is no covariance are dropped. Of a continuous family one point is kept for each error; where
    their stability differs it is the one nearest to the experiment's start, along the family.
    Points where two learner units coincide exactly, while the least difference between them would
    grow, are reached from no other state: ``coinciding`` lists them. An average over task heads
    takes as many nodes as the points turn out to need. ``progress`` is called with (done, total).
    """
    if _fastest_rate(experiment) == 0:
        return FixedPoints(experiment, (), message=_still(experiment))
    steady = Steady(experiment)
    all_starts, diverged = _starts(steady, near, starts, seed)
    found, dropped = _search(steady, all_starts, coinciding, progress)
    found = [_nearest_to_start(steady, point) for point in _one_of_each_family(found)]
    found, warnings = _resolved(experiment, found)
    found.sort(key=lambda p: (round(p.error, 9), p.unstable))
    message = _message(found, dropped, diverged)
    warnings = [*_warnings(found, diverged), *warnings, *notes.on_rule(experiment.rule)]
    return FixedPoints(experiment, tuple(found), Status.success, message, tuple(warnings))


def _starts(
    steady: Steady, near: Iterable[Array], count: int | None, seed: int
) -> tuple[list[Array], int]:
    """States to start from, and how many of the trajectories among them diverge."""
    experiment, problem, rng = steady.experiment, steady.problem, np.random.default_rng(seed)
    count = (COSTLY_STARTS if steady.costly else STARTS) if count is None else count
    draws = list(seeds.drawn(steady, 0.0, rng, count))
    time = 300.0 / _fastest_rate(experiment)
    time = float(experiment.integrate.time) if problem.discrete else time
    followed = draws[:: max(1, count // (1 if steady.costly else 4))]
    slow, diverged = seeds.slow_points(
        problem, [experiment.initial_state()[steady.free], *followed], 0.0, time
    )
    first = [np.asarray(x, float)[steady.free] for x in near]
    if getattr(experiment.rule, "support", None) not in (None, np.inf):
        closed = experiment.replace(**{"rule.support": np.inf})
        first += [point.x for point in fixed_points(closed, starts=count, seed=seed)]
    ansatze = list(seeds.structured(steady, 0.0, rng, few=steady.costly))
    return [*first, *ansatze, *slow, *draws], diverged


@dataclass
class _Dropped:
    """How many starts were tried, and what became of roots that are not listed."""

    tried: int = 0
    unphysical: int = 0
    apart: int = 0


def _search(
    steady: Steady, starts: list[Array], coinciding: bool, progress: Progress | None
) -> tuple[list[FixedPoint], _Dropped]:
    """The fixed points that Newton's method reaches from all starts."""
    found, dropped, apart = list[FixedPoint](), _Dropped(), list[Array]()
    rounds = list(_rounds(starts))
    for start, deflate in rounds:
        dropped.tried += 1
        if progress:
            progress(dropped.tried, len(rounds))
        root = root_from(steady.problem, start, [p.x for p in found] if deflate else ())
        if not root.converged:
            continue
        x = settle(steady, root.x, 0.0, RESIDUAL)
        if not is_physical(steady, x, 0.0):
            dropped.unphysical += 1
        elif not coinciding and splitting_rate(steady, x, 0.0) > 0:
            if not any(steady.problem.equivalent(x, other, 0.0) for other in apart):
                apart.append(x)
        elif not _member(steady, x, found) and not any(_same(steady, x, p) for p in found):
            found.append(describe_point(steady, _in_order(steady, x)))
    dropped.apart = len(apart)
    return found, dropped


def _member(steady: Steady, x: Array, found: Sequence[FixedPoint]) -> bool:
    """Whether x belongs to a family of which a few points have been found already."""
    error = steady.error(x, 0.0)
    members = [p for p in found if p.family and abs(p.error - error) < FAMILY * (1 + error)]
    return len(members) >= MEMBERS and has_null_directions(steady.problem, x, 0.0)


def _in_order(steady: Steady, x: Array) -> Array:
    """The equivalent state with units in the order of the teacher's, if it is one here."""
    y, activation = steady.state(x, 0.0), steady.experiment.activation
    layout, parity = steady.experiment.layout, -1 if activation.odd else int(activation.even)
    other = layout.pack(*canonical(*layout.unpack(y), parity))
    moved = other[steady.free]
    if not np.array_equal(steady.state(moved, 0.0), other):
        return x  # the head is fixed, and not the same for these units
    return moved if np.abs(steady.problem.residual(moved, 0.0)).max() < RESIDUAL else x


def _resolved(
    experiment: Experiment, found: list[FixedPoint]
) -> tuple[list[FixedPoint], list[str]]:
    """The points with as many nodes of the task average as they need, and what is left to warn."""
    states, doubts = [p.y for p in found], list[str]()
    for chosen, last in task_average.choices(experiment) if found else ():
        if chosen is not experiment:
            found = [fixed_point_near(chosen, p.Q, p.R, p.w) for p in found]
        error = max(task_average.estimate(chosen, y[None]) for y in states)
        if last or error <= task_average.TOLERANCE:
            doubts = task_average.warning(chosen, error)
            break
    doubts += notes.on_noise(experiment.compiled, experiment.parameters, states)
    return found, doubts


def fixed_point_near(experiment: Experiment, Q: Any, R: Any, w: Any) -> FixedPoint:
    """The fixed point that Newton's method reaches from the state (Q, R, w).

    Raises:
        NumericalFailure: it reaches none, or one that no network has.
    """
    steady = Steady(experiment)
    start = experiment.layout.pack(Q, R, w)[steady.free]
    root = root_from(steady.problem, start)
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


def root_from(
    problem: Problem, start: Array, known: Sequence[Array] = (), basis: Array | None = None
) -> Root:
    """The zero of the flow that Newton's method reaches from ``start``, away from those known.

    ``basis`` (n, d) confines it to an invariant space of states.
    """
    rate = np.asarray(problem.rate(0.0))
    B = np.eye(len(start)) if basis is None else basis
    root = find_root(
        lambda z: B.T @ (problem.residual(B @ z, 0.0) / rate),
        lambda z: B.T @ (problem.jacobian(B @ z, 0.0).T / rate).T @ B,
        B.T @ start,
        known=[B.T @ x for x in known],
        tolerance=RESIDUAL / max(1.0, float(rate.max(initial=0.0))),
    )
    return replace(root, x=B @ root.x)


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
    """All isolated points, and of the points with a family's error one that shows its dimension.

    Among those, the one whose units have norms of order 1.
    """
    kept: list[FixedPoint] = []
    for point in sorted(found, key=lambda p: (-p.family, _extremity(p))):
        flat = np.abs(point.eigenvalues) < NULL * np.abs(point.eigenvalues).max(initial=0.0)
        near = [
            p for p in kept if p.family and abs(point.error - p.error) < FAMILY * (1 + p.error)
        ]
        if not (near and flat.any()):
            kept.append(point)
    return kept


def _nearest_to_start(steady: Steady, point: FixedPoint) -> FixedPoint:
    """Of a family whose spectrum varies, the member nearest to the experiment's start."""
    if not point.varies:
        return point
    start = steady.experiment.initial_state()[steady.free]
    return describe_point(steady, nearest_member(steady.problem, point.x, 0.0, start))


def _extremity(point: FixedPoint) -> float:
    norms = np.diagonal(point.Q, axis1=-2, axis2=-1)
    return float(np.abs(np.log(np.maximum(norms, 1e-12))).max())


def describe_point(steady: Steady, x: Array, value: float = 0.0) -> FixedPoint:
    """The fixed point at x, with its spectrum, label and family."""
    experiment, problem, layout = steady.experiment, steady.problem, steady.experiment.layout
    y = steady.state(x, value)
    Q, R, w = layout.unpack(y)
    parameters = steady.parameters(value)
    residual = float(np.abs(problem.residual(x, value)).max(initial=0.0))
    J = problem.jacobian(x, value)
    spectrum, family = problem.spectrum(J), family_at(problem, x, value, J)
    neutral = neutral_modes(spectrum) if family.dimension else 0
    return FixedPoint(
        experiment, x, Q, R, w, steady.error(x, value), residual, spectrum,
        problem.unstable(spectrum, neutral),
        states.label(*states.fields(Q, R, parameters, layout)), *family,
    )  # fmt: skip


def _message(found: Sequence[FixedPoint], dropped: _Dropped, diverged: int) -> str:
    rest = ""
    if dropped.unphysical:
        rest += f"; {_number(dropped.unphysical, 'root was', 'roots were')} dropped because no "
        rest += "network has these overlaps"
    if dropped.apart:
        rest += f"; {_number(dropped.apart, 'more has', 'more have')} learner units that coincide "
        rest += "exactly and would separate"
    if not found:
        away = ": the trajectories diverge" if diverged else ""
        return f"No physical fixed point was found from {dropped.tried} starts{away}{rest}."
    stable, points = sum(p.stable for p in found), _number(len(found), "fixed point")
    return f"{points}, {stable} of them stable, from {dropped.tried} starts{rest}."


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _warnings(found: Sequence[FixedPoint], diverged: int) -> list[str]:
    warnings = []
    families = [p for p in found if p.family]
    if families:
        largest = max(p.family for p in families)
        members = _number(len(families), "fixed point belongs", "fixed points belong")
        warnings.append(
            f"{members} to continuous families (of up to "
            f"{_number(largest, 'dimension')}): one point of each error is listed"
            + (", the one nearest to the start where their stability differs." if any(
                p.varies for p in families) else ".")
        )
    if found and diverged:
        warnings.append(
            f"{_number(diverged, 'trajectory', 'trajectories')} among those followed diverged."
        )
    return warnings
