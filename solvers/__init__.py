"""Solvers: an experiment's trajectory, simulation, fixed points, branches and phase diagram."""

from solvers.diagrams.phase import phase_diagram
from solvers.diagrams.sweep import sweep
from solvers.experiment import Experiment, ExperimentError
from solvers.results import NumericalFailure, Status
from solvers.simulation.compare import compare, scaling
from solvers.simulation.simulate import simulate
from solvers.stability.continuation import continue_all, continue_branch
from solvers.stability.curves import special_curve
from solvers.stability.escape import lingering, predict_escape
from solvers.stability.escape_scaling import escape_against_dimension
from solvers.stability.fixed_points import fixed_point_near, fixed_points
from solvers.stability.rates import critical_rate, optimal_rate
from solvers.trajectories.integrate import integrate
from solvers.trajectories.reduced import integrate_reduction

__all__ = [
    "Experiment",
    "ExperimentError",
    "NumericalFailure",
    "Status",
    "compare",
    "continue_all",
    "continue_branch",
    "critical_rate",
    "escape_against_dimension",
    "fixed_point_near",
    "fixed_points",
    "integrate",
    "integrate_reduction",
    "lingering",
    "optimal_rate",
    "phase_diagram",
    "predict_escape",
    "scaling",
    "simulate",
    "special_curve",
    "sweep",
]
