"""Solvers: an experiment's trajectory, simulation, fixed points, branches and phase diagram.

A name is fetched when it is first asked for: no command waits for what it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.diagrams.phase import phase_diagram as phase_diagram
    from solvers.diagrams.sweep import sweep as sweep
    from solvers.experiment import Experiment as Experiment
    from solvers.experiment import ExperimentError as ExperimentError
    from solvers.files import load as load
    from solvers.files import save as save
    from solvers.results import NumericalFailure as NumericalFailure
    from solvers.results import Status as Status
    from solvers.simulation.compare import compare as compare
    from solvers.simulation.compare import scaling as scaling
    from solvers.simulation.simulate import simulate as simulate
    from solvers.stability.continuation import continue_all as continue_all
    from solvers.stability.continuation import continue_branch as continue_branch
    from solvers.stability.curves import special_curve as special_curve
    from solvers.stability.escape import predict_escape as predict_escape
    from solvers.stability.escape_scaling import (
        escape_against_dimension as escape_against_dimension,
    )
    from solvers.stability.fixed_points import fixed_point_near as fixed_point_near
    from solvers.stability.fixed_points import fixed_points as fixed_points
    from solvers.stability.lingering import lingering as lingering
    from solvers.stability.rates import critical_rate as critical_rate
    from solvers.stability.rates import optimal_rate as optimal_rate
    from solvers.trajectories.integrate import integrate as integrate
    from solvers.trajectories.reduced import integrate_reduction as integrate_reduction

_HOMES = {
    "Experiment": "experiment",
    "ExperimentError": "experiment",
    "NumericalFailure": "results",
    "Status": "results",
    "compare": "simulation.compare",
    "continue_all": "stability.continuation",
    "continue_branch": "stability.continuation",
    "critical_rate": "stability.rates",
    "escape_against_dimension": "stability.escape_scaling",
    "fixed_point_near": "stability.fixed_points",
    "fixed_points": "stability.fixed_points",
    "integrate": "trajectories.integrate",
    "integrate_reduction": "trajectories.reduced",
    "lingering": "stability.lingering",
    "load": "files",
    "optimal_rate": "stability.rates",
    "phase_diagram": "diagrams.phase",
    "predict_escape": "stability.escape",
    "save": "files",
    "scaling": "simulation.compare",
    "simulate": "simulation.simulate",
    "special_curve": "stability.curves",
    "sweep": "diagrams.sweep",
}
"""The module that each public name lives in."""

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'solvers' has no attribute {name!r}")
    return getattr(import_module(f"solvers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
