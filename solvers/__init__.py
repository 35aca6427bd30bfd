"""Solvers: an experiment's trajectory, simulation, fixed points, branches and phase diagram."""

from solvers.compare import compare, scaling
from solvers.continuation import continue_all, continue_branch
from solvers.experiment import Experiment, ExperimentError
from solvers.fixed_points import fixed_points
from solvers.integrate import integrate
from solvers.phase import phase_diagram
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
    "fixed_points",
    "integrate",
    "phase_diagram",
    "scaling",
    "simulate",
    "sweep",
]
