"""Yüksel, Boursier & Flammarion: first-order ANIL learns low-rank structure despite its width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.experiment import Experiment
from solvers.linear import (
    complement,
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


STEPS = 400
"""Steps of the paper's experiment that are simulated."""


def paper_experiment() -> tuple[Experiment, Array]:
    """The paper's sizes, d = k′ = 50, k = 5, m = 30 (20 support, 10 query), σ² = 4, and its B0."""
    rate, k, d = 0.025, 5, 50
    covariance = np.diag(np.arange(1.0, k + 1))
    covariance *= np.sqrt(k) / np.linalg.norm(covariance)
    start = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0] / np.sqrt(4 * rate)
    return Experiment(
        model={"activation": "linear", "hidden": d, "teacher_hidden": k},
        tasks={"head_mean": 0.0, "head_covariance": covariance.tolist(), "label_noise": 2.0},
        rule={
            "name": "anil", "regime": "population", "inner_rate": rate, "support": 20, "query": 10,
            "outer_rate": rate, "head_rate": rate,
        },
        initial={"w": 0.0, "Q": (start.T @ start).tolist(), "R": start[:k].T.tolist()},
        integrate={"time": STEPS, "points": 21},
    ), start  # fmt: skip


def paper_simulation(every: int) -> tuple[Array, dict[str, Array]]:
    """The paper's experiment on 5000 tasks with fixed data (``finite.fixed_tasks``)."""
    experiment, start = paper_experiment()
    rule, tasks = experiment.rule, experiment.tasks
    return finite.fixed_tasks(
        start, tasks.covariance, tasks=5000, support=int(rule.support), query=rule.query,
        noise=tasks.label_noise**2, inner_rate=rule.inner_rate, outer_rate=rule.outer_rate,
        steps=STEPS, every=every, seed=1,
    )  # fmt: skip


def paper_size() -> list[Row]:
    """5000 fixed tasks in d = 50 dimensions against the population theory of infinitely many."""
    theory = orbit(paper_experiment()[0])
    _, found = paper_simulation(STEPS)
    final = theory.final
    outside, k = np.trace(complement(final.Q, final.R, np.eye(5))) / 45, range(5)
    ratio = found["product"][-1][k, k] / (final.R**2).sum(0)
    where = f"5000 fixed tasks, d = k′ = 50, {STEPS} steps"
    return [
        Row("yuksel", f"{where}: the complement, Tr(BᵀPB)/(d − k)",
            float(outside), float(found["mean unlearned"][-1]), 0.003),
        Row("yuksel", f"{where}: largest |(B*ᵀBBᵀB*)_mm / theory − 1|", 0.0,
            float(np.abs(ratio - 1).max()), 0.03),
    ]  # fmt: skip


STATEMENTS = (low_rank_limit, infinite_support, one_step, baselines, paper_size)
