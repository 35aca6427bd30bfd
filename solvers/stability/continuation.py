"""Fixed points followed in a parameter: all branches over a range, or one from a given point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from solvers import notes
from solvers.experiment import Experiment
from solvers.results import Status
from solvers.stability.arclength import Steps
from solvers.stability.branch import Branch, Diagram, branch_of
from solvers.stability.families import Family
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.fixed_points import FAMILY, fixed_points
from solvers.stability.special_points import with_special_points
from solvers.stability.steady import Steady
from solvers.stability.switching import branches_from, contains, probes
from solvers.stability.track import Track, Window, both_ways, state_at
from solvers.trajectories import task_average

Array = NDArray[np.float64]

BRANCHES = 40
"""Branches of one diagram, at most."""


def continue_branch(
    fixed_point: FixedPoint,
    parameter: str,
    low: float,
    high: float,
    *,
    steps: Steps | None = None,
) -> Branch:
    """The branch of one fixed point in a number of its experiment, in both directions.

    Pseudo-arclength with the exact Jacobian, within the states that share the symmetry of the fixed
    point; stability and special points (to 1e-8 and better) from the full Jacobian.

    Raises:
        ExperimentError: the parameter is no number of the experiment, or the range is wrong.
    """
    steady = Steady(fixed_point.experiment, parameter)
    window = _window(steady, low, high, steps)
    track = both_ways(
        steady.problem, _coordinates(steady, fixed_point), steady.value, window,
        fixed_point.manifold,
    )  # fmt: skip
    return branch_of(steady, with_special_points(track))


def continue_all(
    experiment: Experiment,
    parameter: str,
    low: float,
    high: float,
    *,
    steps: Steps | None = None,
    starts: int = 20,
    generations: int = 2,
    points: Iterable[FixedPoint] | None = None,
) -> Diagram:
    """All branches of fixed points over a range of a number of the experiment.

    Fixed points are sought (unless given as ``points``) at both ends of the range and at the
    experiment's own value; each starts a branch unless it lies on one already. At branch points the
    other branches are followed too, over ``generations`` of branching.

    Raises:
        ExperimentError: the parameter is no number of the experiment, or the range is wrong.
    """
    steady = Steady(experiment, parameter)
    window = _window(steady, low, high, steps)
    tracks: list[Track] = []
    warnings: list[str] = []
    found = list(_starting_points(steady, window, starts, points, warnings))
    steady = Steady(_with_nodes(experiment, found), parameter)
    for at, point in found:
        x = _coordinates(steady, point)
        if not _known(steady, tracks, x, at, point.manifold):
            tracks.append(
                with_special_points(both_ways(steady.problem, x, at, window, point.manifold))
            )
    fresh: Sequence[Track] = tuple(tracks)
    for _ in range(generations):
        fresh = _switched(tracks, fresh, window)
    families = [track for track in tracks if track.family.dimension]
    if any(s.kind == "branch-point" for track in families for s in track.special_points):
        warnings.append("Branches that leave continuous families are not followed.")
    if any(track.family.varies for track in families):
        warnings.append(
            "Families whose members differ in stability are followed at one member, the nearest to "
            "the start, in states that differ from it across the family: where modes cross depends "
            "on it."
        )
    if len(tracks) >= BRANCHES:
        warnings.append(f"{BRANCHES} branches were followed; there may be more.")
    warnings += notes.on_rule(experiment.rule)
    branches = tuple(branch_of(steady, track) for track in tracks)
    return Diagram(
        experiment, parameter, branches, Status.success, _message(branches, window, parameter),
        tuple(warnings),
    )  # fmt: skip


def _window(steady: Steady, low: float, high: float, steps: Steps | None) -> Window:
    return Window(*steady.ends(low, high), steps or Steps())


def _coordinates(steady: Steady, point: FixedPoint) -> Array:
    return point.y[steady.free]


def _starting_points(
    steady: Steady,
    window: Window,
    starts: int,
    given: Iterable[FixedPoint] | None,
    warnings: list[str],
) -> Iterable[tuple[float, FixedPoint]]:
    if given is not None:
        for point in given:
            yield Steady(point.experiment, steady.parameter).value, point
        return
    values = [window.low, window.high]
    if window.low < steady.value < window.high:
        values.insert(0, steady.value)
    rates = ("rule.outer_rate", "rule.head_rate")
    for value in values:
        if value == 0 and steady.parameter in rates:
            continue
        experiment = steady.experiment.replace(**{str(steady.parameter): value})
        found = fixed_points(experiment, starts=starts)
        if not found:
            warnings.append(f"At {steady.parameter} = {value:g}: {found.message}")
        for point in found:
            yield value, point


def _with_nodes(experiment: Experiment, found: Iterable[tuple[float, FixedPoint]]) -> Experiment:
    """The experiment with as many nodes of its task average as any of the points needs."""
    if not task_average.is_cubature(experiment):
        return experiment
    nodes = max((point.experiment.rule.nodes or 0 for _, point in found), default=0)
    return experiment.replace(**{"rule.nodes": nodes}) if nodes else experiment


def _known(
    steady: Steady, tracks: Sequence[Track], x: Array, value: float, family: Family
) -> bool:
    """Whether x lies on a branch; a point of a family, on one of the same error."""
    if contains(tracks, x, value):
        return True
    error = steady.error(x, value)
    return family.dimension > 0 and any(
        abs(steady.error(found, value) - error) < FAMILY * (1 + abs(error))
        for track in tracks
        if track.family.dimension
        for found in state_at(track, value)
    )


def _switched(tracks: list[Track], fresh: Sequence[Track], window: Window) -> Sequence[Track]:
    """Adds the branches that leave the ``fresh`` ones at their branch points; returns those.

    None from continuous families, where the kernel holds their own directions too.
    """
    new: list[Track] = []
    for track in fresh:
        if track.family.dimension:
            continue
        for special in track.special_points:
            if special.kind != "branch-point" or len(tracks) >= BRANCHES:
                continue
            for branch in branches_from(track, special, window):
                if not any(contains(tracks, p.x, p.parameter) for p in probes(branch)):
                    branch = with_special_points(branch)
                    if len(branch.points) > 1:
                        tracks.append(branch)
                        new.append(branch)
    return new


def _message(branches: Sequence[Branch], window: Window, name: str) -> str:
    if not branches:
        return f"No fixed point was found for {name} from {window.low:g} to {window.high:g}."
    special = sum(len(branch.special_points) for branch in branches)
    counts = [
        f"{count} {word}" if count == 1 else f"{count} {plural}"
        for count, word, plural in (
            (len(branches), "branch", "branches"), (special, "special point", "special points")
        )
    ]  # fmt: skip
    return (
        f"{counts[0]} of fixed points with {counts[1]} for {name} "
        f"from {window.low:g} to {window.high:g}."
    )
