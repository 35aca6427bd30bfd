"""The parameters of a flow as plain numbers and arrays: what the generated functions are given."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.finite import lattice
from theory.rules import Rule, argument
from theory.tasks import TaskDistribution

Array = NDArray[np.float64]
DEFAULT_NODES = 12
"""Gauss-Hermite nodes per head dimension where a task average is not closed."""


def task_nodes(tasks: TaskDistribution, nodes: int) -> tuple[Array, Array]:
    """Heads (t, M) and weights (t,) that average over tasks: the given set, or Gauss-Hermite.

    Along the eigenvectors of the head covariance, with one node where the variance vanishes;
    exact for polynomials of degree 2·nodes − 1 in each direction.
    """
    if tasks.heads is not None:
        return tasks.heads, np.full(len(tasks.heads), 1.0 / len(tasks.heads))
    return lattice.task_nodes(tasks.head_mean, tasks.head_covariance, nodes)


def parameters(
    rule: Rule, tasks: TaskDistribution, teacher_overlap: Array,
    variance: Array | None = None, fraction: Array | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the generated functions of a rule may ask for, by name.

    ``teacher_overlap`` is T, (M, M) or (L, M, M) with the variances and fractions of structured
    inputs. ``TT`` is the overlap of one task's teacher, T + δ²·I (δ² f_b per block).
    """
    M = teacher_overlap.shape[-1]
    share = np.ones(1) if fraction is None else fraction[:, None, None]
    spread = tasks.representation_spread**2 * share * np.eye(M)
    averaged = tasks.heads is not None or getattr(rule, "support_ratio", None) is not None
    nodes = getattr(rule, "nodes", None) or DEFAULT_NODES
    heads, weight = task_nodes(tasks, nodes) if averaged else (tasks.mean[None], np.ones(1))
    constant = np.eye(M + 1)[0]
    finite = getattr(rule, "support", None) not in (None, float("inf"))
    noise_heads, noise_weights = heads, weight
    if finite and tasks.heads is None:  # the noise at finite support is of degree 4 in u
        noise_heads, noise_weights = lattice.head_nodes(tasks.head_mean, tasks.head_covariance)
    values: dict[str, Any] = {
        argument(f.name): getattr(rule, f.name) for f in dataclasses.fields(rule)
        if isinstance(getattr(rule, f.name), int | float)
    }  # fmt: skip
    if getattr(rule, "representation_rate", 0.0) is None:
        values["representation_rate"] = values["inner_rate"]
    return values | {
        "T": teacher_overlap,
        "TT": teacher_overlap + (spread[0] if fraction is None and spread.ndim == 3 else spread),
        "variance": variance, "fraction": fraction,
        "U": tasks.second_moment, "mean_task": tasks.second_moment[0], "constant": constant,
        "unit": np.eye(M, M + 1, 1), "teacher_head": tasks.mean,
        "heads": heads, "weight": weight,
        "task_vector": np.concatenate([np.ones((len(heads), 1)), heads], axis=1),
        "noise_heads": noise_heads, "noise_weights": noise_weights,
        "label_noise": tasks.label_noise,
    }  # fmt: skip
