"""Observables of simulated runs: at the instantaneous overlaps by the flow, or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.closed_averages import pair_moments
from solvers.errors import ExperimentError
from solvers.microscopic import sampled_task

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
    return [{"error": measured_error(experiment, state, moments)} for state in states], (MEASURED,)


def measured_error(experiment: Experiment, y: Array, moments: Any) -> float:
    """½E[(f − y)²] after adaptation, noiseless target, N → ∞, always on the same tasks."""
    rng = np.random.default_rng(0)
    network, _ = sampled_task(experiment, y, moments, TASKS, rng)
    task, g = network.task, experiment.activation.g
    adapted = experiment.rule.adapt(network, task)
    clean = (g(task.b[..., task.query.rows, :].sum(-3)) @ task.u[..., None])[..., 0]
    output = adapted.outputs(task.query, g(adapted.fields(task.query)))
    return float(0.5 * ((output - clean) ** 2).mean())
