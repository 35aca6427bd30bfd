"""Wang, Yip & Li: meta-learning representation in the teacher-student scenario.

The paper's equations were not available to us: the flow is our reconstruction, and so are the
numbers that the rows expect; what is compared with the paper is the order of events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.experiment import Experiment
from solvers.reproduce.row import Relation, Row
from solvers.results import Trajectory
from solvers.trajectories.integrate import integrate

Array = NDArray[np.float64]

BASE = "task-diversity"


def run(**changes: Any) -> Trajectory:
    """The preset "task-diversity" with keys replaced; two underscores stand for the dot."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return integrate(Experiment.load(BASE).replace(**dotted))


def closed_errors() -> list[Row]:
    """The error of a specialised network before and after one inner step: Tr Σ_u/6 · (1 − η/3)²."""
    rows, identity = [], np.eye(2).tolist()
    for rate in (0.0, 1.0, 2.0):
        at = Experiment.load(BASE).replace(
            **{"rule.inner_rate": rate, "initial.Q": identity, "initial.R": identity,
               "initial.w": 1.0}
        )  # fmt: skip
        error = float(at.compiled.error(at.initial_state(), at.parameters))
        rows.append(Row("wang", f"specialised, inner rate {rate:g}: ε = (Tr Σ_u/6)(1 − η_in/3)²",
                        (1 / 6) * (1 - rate / 3) ** 2, error, 1e-12))  # fmt: skip
    return rows


def growth() -> list[Row]:
    """From R ≈ 0, with centred tasks and w = 0, every R_kn grows at the same closed rate."""
    rows = []
    for inner, variance, norm in ((1.0, 0.5, 0.25), (2.0, 1.0, 0.5)):
        small = 1e-6
        at = Experiment.load(BASE).replace(
            **{"tasks.head_mean": 0.0, "tasks.head_covariance": variance, "initial.w": 0.0,
               "rule.inner_rate": inner, "initial.Q": (norm * np.eye(2)).tolist(),
               "initial.R": (small * np.eye(2)).tolist()}
        )  # fmt: skip
        _, R, _ = at.layout.unpack(at.compiled.rhs(at.initial_state(), at.parameters))
        rate = 2 * at.rule.outer_rate * inner * variance / (np.pi**2 * (1 + norm))
        text = f"growth of R at η_in = {inner:g}, q = {norm:g}: η_J η_in σ_u² 2/(π²(1 + q))"
        rows.append(Row("wang", text, float(rate), float(R[0, 0] / small), 1e-6))
    return rows


def fixed_point() -> list[Row]:
    """First-order fixed point without noise, u0 = 0, w = 0: Q = q* I, R = √q* I."""
    rows = []
    for inner, expected in ((1.0, 7.877), (2.0, 2.033)):
        start = expected * np.eye(2)
        at = Experiment.load(BASE).replace(
            **{"tasks.head_mean": 0.0, "tasks.head_covariance": 1.0, "initial.w": 0.0,
               "rule.head_rate": 0.0, "rule.inner_rate": inner, "rule.regime": "gradient-flow",
               "initial.Q": (0.9 * start).tolist(), "integrate.time": 2e4,
               "initial.R": (0.9 * np.sqrt(start)).tolist()}
        )  # fmt: skip
        end = integrate(at).final
        text = f"first-order fixed point as η_J → 0, inner rate {inner:g}: q*"
        rows.append(Row("wang", text, expected, float(end.Q[0, 0]), 5e-4))
    return rows


DIVERSITY = {
    (0.0, 0.0): 262.56654911948004,
    (0.0, 2.0): 263.51112244104354,
    (1.0, 0.0): 542.8074827409673,
    (1.0, 2.0): 48.15539130654993,
}
"""Escape times by (variance of the heads, inner rate), integrated independently of this engine."""


def diversity() -> list[Row]:
    """Diverse tasks lengthen the plateau without adaptation and shorten it with adaptation."""
    rows = []
    for (variance, rate), expected in DIVERSITY.items():
        found = run(
            tasks__head_covariance=variance, rule__inner_rate=rate, integrate__time=700.0
        ).escape_time
        text = f"escape from the plateau at head variance {variance:g}, inner rate {rate:g}"
        rows.append(Row("wang", text, expected, found or float("nan"), 1e-4))
    return rows


def final_errors() -> list[Row]:
    """Width, learning rate, support and variability of the mapping."""
    base = run(integrate__time=2000.0)
    start = [[1.2e-3, 0.8e-3], [0.7e-3, 1.1e-3], [0.9e-3, 1.0e-3]]
    wide = run(
        model__hidden=3, initial__Q=(0.25 * np.eye(3)).tolist(), initial__R=start,
        integrate__time=2000.0,
    )  # fmt: skip
    fast = run(rule__outer_rate=20.0, integrate__time=2000.0)
    error = base.final.error
    rows = [
        Row("wang", "K = 3 for M = 2: final error over that of K = 2", 1.0,
            wide.final.error / error, 0.0, Relation.below),
        Row("wang", "outer rate 20: largest specialization on the way (no escape)", 0.3,
            float(np.nanmax(fast.specializations)), 0.0, Relation.below),
    ]  # fmt: skip
    flows = [
        run(rule__support=support, rule__regime="gradient-flow", integrate__time=1000.0)
        for support in (3, 30)
    ]
    ratio = flows[0].final.error / flows[1].final.error
    rows.append(Row("wang", "3 support examples: final error over that with 30 (gradient flow)",
                    1.0, ratio, 0.0, Relation.above))  # fmt: skip
    spread = run(tasks__representation_spread=0.2, integrate__time=2000.0)
    rows.append(Row("wang", "mapping that varies by 0.2: it still specialises (specialization)",
                    0.7, spread.specialization or 0.0, 0.0, Relation.above))  # fmt: skip
    return rows


STATEMENTS = (closed_errors, growth, fixed_point, diversity, final_errors)
