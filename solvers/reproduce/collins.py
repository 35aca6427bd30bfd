"""Collins, Mokhtari, Oh & Shakkottai: MAML and ANIL provably learn representations."""

from __future__ import annotations

import numpy as np

from solvers.linear import recovery_bound, recovery_rate
from solvers.reproduce.measure import orbit, slope
from solvers.reproduce.row import Relation, Row
from solvers.results import Status, Trajectory
from theory.rules import Anil

RULES = {
    "collins-fo-anil": "first-order ANIL",
    "collins-exact-anil": "ANIL",
    "collins-fo-maml": "first-order MAML",
    "collins-exact-maml": "MAML",
}
FROM, TO = 1e-3, 1e-6
"""Distances between which a rate is measured: below the transient, above rounding."""


def measured_rate(trajectory: Trajectory) -> float:
    """d log dist/dt where the distance falls from 10⁻³ to 10⁻⁶."""
    return slope(trajectory.time, trajectory.observables["distance"], FROM, TO)


def predicted_rate(trajectory: Trajectory) -> float:
    """log(1 − aβμ²) of the experiment."""
    rule, tasks = trajectory.experiment.rule, trajectory.experiment.tasks
    return recovery_rate(rule.inner_rate, rule.outer_rate, tasks.second_moment[1:, 1:])


def recovery() -> list[Row]:
    """The four algorithms recover the span exponentially."""
    rows = []
    for preset, name in RULES.items():
        run = orbit(preset)
        text = f"{name} recovers the span at the rate log(1 − aβμ²) per step"
        rows.append(Row("collins", text, predicted_rate(run), measured_rate(run), 0.01))
    return rows


def bound() -> list[Row]:
    """The theorem's bound holds along the whole run."""
    rows = []
    for preset in ("collins-fo-anil", "collins-exact-anil"):
        run = orbit(preset)
        rule, distance = run.experiment.rule, run.observables["distance"]
        moment = run.experiment.tasks.second_moment[1:, 1:]
        limit = recovery_bound(rule.inner_rate, rule.outer_rate, moment, distance[0], run.time)
        resolved = distance > 1e-7
        largest = float(np.max((distance / limit)[resolved]))
        text = f"{RULES[preset]}: largest dist_t / (1 − ½βaE0μ²)^(t−1) along the run"
        rows.append(Row("collins", text, 1.0, largest, 0.0, Relation.below))
    return rows


def diversity() -> list[Row]:
    """Less diverse tasks are recovered more slowly, at the predicted rate."""
    rows = []
    for smallest in (0.25, 0.1):
        run = orbit(
            "collins-fo-anil", tasks__head_covariance=[1.0, 0.8, smallest],
            integrate__time=round(800 / smallest), integrate__points=2000,
        )  # fmt: skip
        text = f"first-order ANIL at task diversity μ² = {smallest}: the rate follows"
        rows.append(Row("collins", text, predicted_rate(run), measured_rate(run), 0.01))
    return rows


def average_risk() -> list[Row]:
    """Without adaptation one direction is learned at most."""
    run = orbit("collins-average-risk")
    distance = run.observables["distance"]
    text = "average risk, k = 3: share of the initial distance that is left at the end"
    share = float(distance[-1] / distance[0])
    one = orbit(
        "collins-average-risk", model__hidden=1, model__teacher_hidden=1,
        tasks__head_covariance=1.0, initial__Q=[[4.0]], initial__R=[[0.8]], initial__w=0.1,
        integrate__time=3000,
    ).observables["distance"]  # fmt: skip
    return [
        Row("collins", text, 0.9, share, 0.0, Relation.above),
        Row("collins", "average risk, k = 1: the distance at the end", 1e-6, float(one[-1]), 0.0,
            Relation.below),
    ]  # fmt: skip


def where_maml_fails() -> list[Row]:
    """From a large head, or with tasks far from centred, MAML loses the span and ANIL does not."""
    rows = []
    cases = {
        "collins-maml-large-head": "from w0 = 2",
        "collins-maml-uncentred": "with task mean 3",
    }
    for preset, where in cases.items():
        run = orbit(preset)
        lost = 1.0 if run.status is Status.diverged else float(run.observables["distance"][-1])
        rows.append(
            Row("collins", f"MAML {where}: the distance at the end (1 if it diverges)", 0.9, lost,
                0.0, Relation.above)
        )  # fmt: skip
        rule = run.experiment.rule
        same = Anil(
            inner_rate=rule.inner_rate, outer_rate=rule.outer_rate, head_rate=rule.head_rate,
            order="exact", regime="population",
        )  # fmt: skip
        anil = orbit(run.experiment.replace(rule=same)).observables["distance"]
        rows.append(
            Row("collins", f"ANIL {where}: the distance at the end", 1e-5, float(anil[-1]), 0.0,
                Relation.below)
        )  # fmt: skip
    return rows


STATEMENTS = (recovery, bound, diversity, average_risk, where_maml_fails)
