"""Yüksel, Boursier & Flammarion: first-order ANIL learns low-rank structure despite its width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.experiment import Experiment
from solvers.linear import (
    limit_product,
    one_step_risk,
    oracle_risk,
    ridge_risk,
    unlearning_constant,
)
from solvers.reproduce import finite
from solvers.reproduce.measure import orbit, slope
from solvers.reproduce.row import Row
from solvers.results import Trajectory

Array = NDArray[np.float64]

TITLE = "Yüksel et al. 2024, First-order ANIL despite overparametrisation (arXiv:2303.01335)"


def expected_limit(experiment: Experiment) -> Array:
    """Λ* of the experiment."""
    rule, tasks = experiment.rule, experiment.tasks
    noise = tasks.label_noise**2
    return limit_product(tasks.covariance, rule.inner_rate, rule.support, noise)


def expected_constant(experiment: Experiment) -> float:
    """c in ‖P B‖² → c/t."""
    rule, tasks = experiment.rule, experiment.tasks
    return unlearning_constant(
        tasks.covariance, rule.inner_rate, rule.outer_rate, rule.support, tasks.label_noise**2
    )


def measured_constant(run: Trajectory) -> float:
    """c from the second half of a run: 1/‖P B‖² grows by 1/c per step."""
    inverse = 1 / run.observables["unlearned"]
    half = len(run.time) // 2
    return float((run.time[-1] - run.time[half]) / (inverse[-1] - inverse[half]))


def low_rank_limit() -> list[Row]:
    """B*ᵀBBᵀB* tends to Λ*, also where the task covariance is not the identity."""
    rows = []
    widths = {"yuksel-limit": "k′ = 2k", "yuksel-exact-width": "k′ = k"}
    for preset, width in widths.items():
        run = orbit(preset)
        R = run.final.R
        gap = float(np.abs(R.T @ R - expected_limit(run.experiment)).max())
        text = f"{width}, Σ* not diagonal: largest |B*ᵀBBᵀB* − Λ*|"
        rows.append(Row("yuksel", text, 0.0, gap, 1e-10))
        if preset == "yuksel-limit":
            rows += _unlearning(run)
        else:
            rows += _exponential(run)
    return rows


def _unlearning(run: Trajectory) -> list[Row]:
    found, expected = measured_constant(run), expected_constant(run.experiment)
    text = "k′ = 2k: the complement ‖P B‖² falls as c/t, c = m/(2βa²(Tr Σ* + σ²))"
    return [Row("yuksel", text, expected, found, 0.01)]


def _exponential(run: Trajectory) -> list[Row]:
    rate = slope(run.time, run.observables["unlearned"], 1e-4, 1e-8)
    late = slope(run.time, run.observables["unlearned"], 1e-7, 1e-11)
    text = "k′ = k: the complement decays exponentially (late over early rate)"
    return [Row("yuksel", text, 1.0, late / rate, 0.01)]


def infinite_support() -> list[Row]:
    """With population inner steps nothing outside the span is unlearned."""
    run = orbit("yuksel-infinite-support")
    left = run.observables["unlearned"]
    text = "m = ∞: the complement at the end over that at half time"
    gap = float(np.abs(run.final.R.T @ run.final.R - expected_limit(run.experiment)).max())
    return [
        Row("yuksel", text, 1.0, float(left[-1] / left[len(left) // 2]), 1e-9),
        Row("yuksel", "m = ∞: largest |B*ᵀBBᵀB* − I/a|", 0.0, gap, 1e-10),
    ]


HEAD, TESTS = (0.8, -0.5, 0.6), (5, 20, 100)
"""A new task's head, and numbers of its examples."""


def one_step() -> list[Row]:
    """The risk after one step on a new task: closed form, the engine's error, a simulation."""
    rows, experiment = [], Experiment.load("yuksel-exact-width")
    product, noise = expected_limit(experiment), experiment.tasks.label_noise**2
    a, head = experiment.rule.inner_rate, np.array(HEAD)
    values, vectors = np.linalg.eigh(product)
    R = vectors * np.sqrt(values) @ vectors.T
    start = {"w": 0.0, "Q": (R @ R).tolist(), "R": R.tolist()}
    tasks = {"heads": [list(HEAD)], "label_noise": experiment.tasks.label_noise}
    for support in TESTS:
        closed = one_step_risk(product, head, a, support, noise)
        one = experiment.replace(tasks=tasks, initial=start, **{"rule.support": support})
        engine = 2 * one.compiled.error(one.initial_state(), one.parameters)
        rows.append(Row("yuksel", f"risk after one step on {support} examples: the flow's 2ε",
                        closed, float(engine), 1e-10))  # fmt: skip
        mean, error = finite.one_step_risk(
            R, head, a, support, noise, dimension=50, runs=4000, seed=support
        )
        rows.append(Row("yuksel", "the same, simulated at d = 50 (4 standard errors)",
                        closed, mean, 4 * error / closed))  # fmt: skip
    return rows


def baselines() -> list[Row]:
    """Tuned ridge and the oracle that knows the span, against simulation at d = 50."""
    noise, head, rows = 4.0, np.ones(5), []
    for support in (20, 50, 200):
        mean, error = finite.ridge_risk(head, support, noise, dimension=50, runs=2000, seed=1)
        closed = ridge_risk(50, support, noise, float(head @ head))
        rows.append(Row("yuksel", f"ridge at its best penalty, {support} examples, d = 50 (d → ∞)",
                        closed, mean, 0.03 + 4 * error / closed))  # fmt: skip
    mean, error = finite.oracle_risk(head, 20, noise, runs=4000, seed=2)
    closed = oracle_risk(5, 20, noise)
    rows.append(Row("yuksel", "least squares in the true span, 20 examples (4 standard errors)",
                    closed, mean, 4 * error / closed))  # fmt: skip
    return rows


STATEMENTS = (low_rank_limit, infinite_support, one_step, baselines)
