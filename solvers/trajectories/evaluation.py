"""The error on new tasks after the adaptation that the table [evaluate] describes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.simulation.closed_averages import pair_moments
from solvers.simulation.observe import measured_error
from theory.rules import Anil

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

TASKS = 5000
"""Fresh tasks, the same at every state, on which an error without a formula is measured."""
MEASURED = f"The error at test time is measured on {TASKS} tasks"


def at_test_time(experiment: Experiment) -> Experiment:
    """The experiment with the rule that adapts as [evaluate] says: the experiment's own, or head
    steps of gradient descent where it has no numbers for support, steps and rate."""
    settings, rule = dict(experiment.evaluation or {}), experiment.rule
    known = {entry.name for entry in dataclasses.fields(rule)}
    if not set(settings) <= known:
        rule = Anil(outer_rate=rule.outer_rate, inner_rate=settings["inner_rate"])
    if getattr(rule, "support_ratio", None) is not None:
        settings.pop("support")
    return experiment.replace(rule=dataclasses.replace(rule, regime="gradient-flow", **settings))


def evaluation_error(experiment: Experiment, y: Array) -> tuple[Array, list[str]]:
    """ε after the adaptation at test time, at each state (n,), and warnings.

    By the flow's own closed form where there is one; else measured on fresh tasks and supports,
    with the average over queries in closed form.
    """
    tested = at_test_time(experiment)
    try:
        compiled, parameters = tested.compiled, tested.parameters
    except ExperimentError:
        moments = pair_moments(experiment.activation)
        found = [measured_error(tested, state, moments, TASKS) for state in y]
        mean, error = np.array(found).T
        share = float((error / np.where(mean > 0, mean, 1.0)).max())
        return mean, [f"{MEASURED}, which is good to {share:.1g} of it: this adaptation has no "
                      "closed form."]  # fmt: skip
    return compiled.along("error", parameters)(y), []
