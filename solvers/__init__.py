"""Solvers: an experiment's trajectory, simulation, fixed points, branches and phase diagram."""

from solvers.compare import compare, scaling
from solvers.continuation import continue_all, continue_branch
from solvers.curves import special_curve
from solvers.escape import lingering, predict_escape
from solvers.escape_scaling import escape_against_dimension
from solvers.experiment import Experiment, ExperimentError
from solvers.fixed_points import fixed_point_near, fixed_points
from solvers.integrate import integrate
from solvers.phase import phase_diagram
from solvers.rates import critical_rate, optimal_rate
from solvers.reduced import integrate_reduction
from solvers.results import NumericalFailure, Status
from solvers.simulate import simulate
from solvers.sweep import sweep

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
