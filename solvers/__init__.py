"""Solvers: experiments, trajectories and simulations of the theory's flows."""

from solvers.experiment import Experiment, ExperimentError
from solvers.integrate import integrate
from solvers.results import NumericalFailure, Status

__all__ = ["Experiment", "ExperimentError", "NumericalFailure", "Status", "integrate"]
