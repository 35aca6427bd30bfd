"""Observables of simulated runs: at the instantaneous overlaps by the flow, or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.simulation.closed_averages import Averages, PairMoments, pair_moments
from solvers.simulation.microscopic import CHUNK, Tally, examples_of, overlaps, sampled_task
from solvers.simulation.network import FieldNetwork
from theory.overlaps import field_covariance

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

TASKS = 20_000
"""Fresh tasks on which an error without a formula is measured."""
MEASURED = "the error is measured on 20000 fresh tasks: this rule has no formula for it"
UNMEASURED = "the error is not known: it needs a formula at extensive support"


def observe(
    experiment: Experiment, runs: Mapping[str, Array]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The error and the flow's other observables at each run's overlaps (runs, n), and notes."""
    y = experiment.layout.pack(runs["Q"], runs["R"], runs["w"])
    lead = y.shape[:-1]
    states = y.reshape(-1, y.shape[-1])
    notes: tuple[str, ...] = ()
    try:
        compiled, parameters = experiment.compiled, experiment.parameters
        found = [compiled.observables(state, parameters) for state in states]
    except ExperimentError:
        found, notes = _measured(experiment, states)
    return {name: np.array([f[name] for f in found]).reshape(lead) for name in found[0]}, notes


def _measured(
    experiment: Experiment, states: Array
) -> tuple[list[dict[str, float]], tuple[str, ...]]:
    if getattr(experiment.rule, "support_ratio", None) not in (None, np.inf):
        return [{"error": np.nan} for _ in states], (UNMEASURED,)
    moments = pair_moments(experiment.activation)
    measured = [measured_error(experiment, state, moments, TASKS) for state in states]
    return [{"error": error} for error, _ in measured], (MEASURED,)


def measured_error(
    experiment: Experiment, y: Array, moments: PairMoments, tasks: int
) -> tuple[float, float]:
    """½E[(f − y)²] after adaptation, noiseless target, N → ∞, and its standard error.

    Measured on ``tasks`` tasks and supports, the same at every call. A finite support moves no
    query field, so that given the head the average over queries is closed.
    """
    rng, tally, left = np.random.default_rng(0), Tally(), tasks
    while left:
        size = min(left, max(1, CHUNK // examples_of(experiment.rule)))
        left -= size
        network, _ = sampled_task(experiment, y, moments, size, rng)
        adapted = experiment.rule.adapt(network, network.task)
        tally.add(_errors(experiment, y, network, adapted))
    return float(tally.estimate.mean), float(tally.estimate.error)


def _errors(
    experiment: Experiment, y: Array, network: FieldNetwork, adapted: FieldNetwork
) -> Array:
    """½E[(f − y)²] of each task; on its own queries where the representation has moved."""
    task, g = network.task, experiment.activation.g
    if network.C is None:
        Q, R, _ = overlaps(experiment, y)
        C = field_covariance(Q, R, experiment.parameters["TT"])
        return Averages(adapted.moments, adapted.head, task.u, C, task.variance).error
    clean = (g(task.b[..., task.query.rows, :].sum(-3)) @ task.u[..., None])[..., 0]
    output = adapted.outputs(task.query, g(adapted.fields(task.query)))
    return 0.5 * ((output - clean) ** 2).mean(-1)
