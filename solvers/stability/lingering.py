"""What the plateaus of a trajectory linger at: fixed points, or states that just miss being so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.results import NumericalFailure, Plateau, Trajectory
from solvers.stability.coincidence import settle, splitting_rate
from solvers.stability.escape import Escape, predict_escape
from solvers.stability.fixed_point import FixedPoint
from solvers.stability.fixed_points import RESIDUAL, describe_point, is_physical, root_from
from solvers.stability.problem import invariant_basis
from solvers.stability.steady import Steady
from solvers.states import DIVERGENCE
from solvers.trajectories.paths import solve

Array = NDArray[np.float64]

NEAR = 0.3
"""A state is near a plateau if no overlap differs by more than this share of the largest one."""
BROKEN = 0.1
"""Units are nearly alike if their overlaps differ by less than this share of 1 + the largest."""
LONG = 300.0
"""Time, times the fastest rate, for which the symmetric flow is followed."""


@dataclass(frozen=True)
class Lingering:
    """A plateau of a trajectory with the state it lingers at, and the escape from there.

    ``point`` is a fixed point or, where none is near, a slow point: the state of the least speed
    |F|, its residual, among the symmetric parts of the states on the plateau, such as a fold leaves
    behind when it has taken two fixed points away (slow points: Sussillo & Barak, Neural
    Computation 25, 626 (2013)). ``distance`` is the largest difference of an overlap from the
    stored state next to it.
    """

    plateau: Plateau
    point: FixedPoint
    distance: float
    escape: Escape | None

    @property
    def fixed_point(self) -> FixedPoint | None:
        """The fixed point; None if the plateau is due to a slow point."""
        return self.point if self.point.residual < RESIDUAL else None

    @property
    def sentence(self) -> str:
        """Which state it is, and the escape predicted and measured, in one sentence."""
        point = self.point
        if self.fixed_point is not None:
            many = f"{point.unstable} direction{'s' * (point.unstable != 1)}"
            kind = "stable" if point.stable else f"unstable in {many}"
            text = f"lingers at a {point.label} fixed point ({kind}, error {point.error:.6g})"
        else:
            text = (
                f"lingers at no fixed point but where the flow of {point.label} states is slowest "
                f"(|dx/dα| = {point.residual:.2g}, error {point.error:.6g})"
            )
        if self.escape is not None and self.escape.linearised_error is not None:
            text += (
                f"; by the flow linearised there, of rate {self.escape.rate:.4g}, the escape is at "
                f"{self.escape.linearised:.5g} ({self.escape.linearised_error:+.1%})"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn run --json`` prints them."""
        point = self.point
        state = {
            "Q": point.Q.tolist(), "R": point.R.tolist(), "w": point.w.tolist(),
            "error": point.error, "unstable": point.unstable, "label": point.label,
            "distance": self.distance,
        }  # fmt: skip
        exact = self.fixed_point is not None
        return {
            "fixed_point": state if exact else None,
            "slow_point": None if exact else state | {"residual": point.residual},
            "escape": self.escape and self.escape.to_dict(),
        }


def lingering(trajectory: Trajectory) -> tuple[Lingering, ...]:
    """For each plateau of a trajectory, the state it lingers at and the escape from there.

    From the slowest stored state of the plateau, and from the part of it that has all symmetries
    it nearly has, Newton's method seeks a fixed point; where none is near, the slowest of the
    plateau's symmetric parts is taken. The prediction propagates the linearised flow; it is None
    at a stable fixed point, after the escape, for maps, and where a cubature makes the flow costly.
    """
    experiment, found = trajectory.experiment, []
    steady = Steady(experiment)
    along = experiment.layout.pack(trajectory.Q, trajectory.R, trajectory.w)
    for plateau in trajectory.plateaus:
        inside = (trajectory.time >= plateau.start) & (trajectory.time <= plateau.end)
        indices = np.flatnonzero(inside)
        if not len(indices):
            continue
        states = along[indices][:, steady.free]
        slowest = int(np.argmin(_speeds(steady, states)))
        basis = _symmetric_part(steady, states[slowest])
        x = _fixed(steady, states[slowest], basis)
        if x is None:
            symmetric = states @ basis @ basis.T
            slowest = int(np.argmin(_speeds(steady, symmetric)))
            x = symmetric[slowest]
        point = describe_point(steady, x)
        distance = float(np.abs(x - states[slowest]).max())
        escape = _compare(trajectory, steady, point, int(indices[slowest]))
        found.append(Lingering(plateau, point, distance, escape))
    return tuple(found)


def _speeds(steady: Steady, states: Array) -> Array:
    return np.array([np.abs(steady.problem.residual(x, 0.0)).max() for x in states])


def _symmetric_part(steady: Steady, x: Array) -> Array:
    """Basis (n, d) of the states with the permutations of units that x nearly has."""
    units = replace(steady.units(0.0), signs=False, tolerance=BROKEN)
    group = units.isotropy(steady.state(x, 0.0))[1]
    basis = invariant_basis([units.action(g, steady.free) for g in group], len(x))
    F = steady.problem.residual(basis @ (basis.T @ x), 0.0)
    left = np.abs(F - basis @ (basis.T @ F)).max()
    return basis if left < RESIDUAL * np.abs(F).max() else np.eye(len(x))


def _fixed(steady: Steady, x: Array, basis: Array) -> Array | None:
    """The nearest of the fixed points that Newton's method reaches from x and its symmetric part.

    None if none is near. Points at which units that differ in x coincide do not count; where one
    is in the way, the search begins again from where the symmetric flow leads.
    """
    found = [root_from(steady.problem, x), root_from(steady.problem, x, basis=basis)]
    roots = [settle(steady, root.x, 0.0, RESIDUAL) for root in found if root.converged]
    if roots and all(splitting_rate(steady, y, 0.0) > 0 for y in roots):
        root = root_from(steady.problem, _followed(steady, x, basis), basis=basis)
        roots = [settle(steady, root.x, 0.0, RESIDUAL)] if root.converged else []
    near = [y for y in roots if _is_near(steady, x, y) and splitting_rate(steady, y, 0.0) <= 0]
    return min(near, key=lambda y: np.abs(y - x).max()) if near else None


def _followed(steady: Steady, x: Array, basis: Array) -> Array:
    """Where the flow of the states in ``basis`` leads from x."""
    problem = steady.problem
    path = solve(
        lambda z: basis.T @ problem.residual(basis @ z, 0.0),
        lambda z: basis.T @ problem.jacobian(basis @ z, 0.0) @ basis,
        basis.T @ x,
        LONG / float(steady.rate(0.0).max()),
        lambda z: bool(np.abs(z).max() < DIVERGENCE),
        rtol=1e-6,
    )
    return basis @ path.at(path.end)


def _is_near(steady: Steady, x: Array, other: Array) -> bool:
    near = np.abs(other - x).max() < NEAR * np.abs(other).max(initial=0.0)
    return bool(near) and is_physical(steady, other, 0.0)


def _compare(
    trajectory: Trajectory, steady: Steady, point: FixedPoint, index: int
) -> Escape | None:
    reached = trajectory.escape_time
    if point.stable or reached is None or reached <= trajectory.time[index]:
        return None
    if steady.problem.discrete or steady.costly:
        return None
    start = trajectory.Q[index], trajectory.R[index], trajectory.w[index]
    try:
        escape = predict_escape(point, *start)
    except (ExperimentError, NumericalFailure):
        return None
    since = float(trajectory.time[index])
    return replace(
        escape,
        predicted=escape.predicted + since,
        linearised=escape.linearised + since,
        measured=reached,
    )
