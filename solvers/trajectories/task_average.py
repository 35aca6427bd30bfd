"""How many nodes an average over task heads needs, and how good it is along a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory.parameters import DEFAULT_NODES

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

TOLERANCE = 1e-7
"""Error of a task average, relative to the largest rate, that is good enough."""
MOST_TASKS = 4000
FINER = 8


def is_cubature(experiment: Experiment) -> bool:
    """Whether the flow averages over task heads by nodes."""
    inner = getattr(experiment.rule, "support_ratio", None) is not None
    return inner and experiment.tasks.heads is None


def choices(experiment: Experiment) -> Iterator[tuple[Experiment, bool]]:
    """The experiment with more and more nodes per head dimension, and whether it is the last.

    ``rule.nodes`` is kept where it is given; the number of nodes in all stays below 4000.
    """
    if not is_cubature(experiment) or experiment.rule.nodes is not None:
        yield experiment, True
        return
    directions = np.linalg.matrix_rank(experiment.tasks.covariance)
    ladder = [DEFAULT_NODES, *(n for n in (20, 32, 48) if n**directions <= MOST_TASKS)]
    for nodes in ladder:
        more = experiment if nodes == DEFAULT_NODES else experiment.replace(**{"rule.nodes": nodes})
        yield more, nodes == ladder[-1]


def estimate(experiment: Experiment, y: Array) -> float:
    """Error of the rates at three states of a run, relative to the largest; 0 where exact.

    It is the change under eight more nodes per head dimension.
    """
    if not is_cubature(experiment):
        return 0.0
    nodes = experiment.rule.nodes or DEFAULT_NODES
    finer = experiment.replace(**{"rule.nodes": nodes + FINER}).parameters
    return max(_change(experiment, finer, state) for state in (y[0], y[len(y) // 2], y[-1]))


def _change(experiment: Experiment, finer: dict[str, Any], state: Array) -> float:
    with np.errstate(all="ignore"):  # a flow that has diverged may have no rates
        fine = experiment.compiled.rhs(state, finer)
        scale = float(np.abs(fine).max())
        change = float(np.abs(experiment.compiled.rhs(state, experiment.parameters) - fine).max())
    return change / scale if scale > 0 else 0.0


def warning(experiment: Experiment, error: float) -> list[str]:
    """A sentence where the average is not good enough."""
    if error <= TOLERANCE:
        return []
    nodes = experiment.rule.nodes or DEFAULT_NODES
    return [
        f"The average over tasks with {nodes} nodes per head dimension is good to {error:.1g} "
        "of the rates only: raise rule.nodes."
    ]
