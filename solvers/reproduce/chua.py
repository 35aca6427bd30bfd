"""Chua, Lei & Lee: how fine-tuning allows for effective meta-learning.

θ_t = (w_t, δ_t, 0) over blocks of input variance (ε, 1, 1), ‖w_t‖ = 1 and ‖δ_t‖ = δ0 in the mean.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers.experiment import Experiment
from solvers.linear import tuned_ridge_risk
from solvers.reproduce import finite
from solvers.reproduce.row import Relation, Row
from solvers.results import Trajectory
from solvers.trajectories.integrate import integrate

Array = NDArray[np.float64]


def share(R: Array) -> Array:
    """How much of the learned overlap lies in the right block, ‖R¹‖²/(‖R¹‖² + ‖R²‖²)."""
    size = (np.asarray(R) ** 2).sum((-1, -2))
    return size[..., 0] / (size[..., 0] + size[..., 1])


def with_deviation(source: str, squared: float) -> Experiment:
    """The preset at another δ0²."""
    covariance = [0.5, 0.5, squared / 2, squared / 2]
    return Experiment.load(source).replace(**{"tasks.head_covariance": covariance})


def trained(experiment: Experiment, **changes: object) -> Trajectory:
    """The orbit; keys of the experiment with two underscores for the dot."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return integrate(experiment.replace(**dotted))


def frozen_threshold(epsilon: float) -> float:
    """The δ0² at which frozen training starts to end in the wrong block, by bisection."""
    right, wrong = epsilon / 1.1, 1.1 * epsilon
    while wrong / right > 1.015:
        middle = np.sqrt(right * wrong)
        end = trained(with_deviation("chua-frozen", middle), integrate__time=3000)
        right, wrong = (middle, wrong) if share(end.final.R) > 0.5 else (right, middle)
    return float(np.sqrt(right * wrong))


def penalty_threshold(guess: float) -> float:
    """The penalty λ at which adaptive training starts to end in the wrong block, by bisection."""
    right, wrong = guess / 1.15, 1.15 * guess
    experiment = Experiment.load("chua-adapt")
    while wrong / right > 1.03:
        middle = float(np.sqrt(right * wrong))
        end = trained(experiment, rule__penalty=middle, integrate__time=6000)
        right, wrong = (middle, wrong) if share(end.final.R) > 0.5 else (right, middle)
    return float(np.sqrt(right * wrong))


def separation() -> list[Row]:
    """At δ0² > ε the frozen objective picks the wrong block, the adaptive one the right one."""
    frozen, adapt = (integrate(Experiment.load(f"chua-{name}")) for name in ("frozen", "adapt"))
    below = trained(with_deviation("chua-frozen", 0.2))
    return [
        Row("chua", "frozen, δ0² = 0.4 > ε = 0.3: share of the right block", 0.0,
            float(share(frozen.final.R)), 1e-6),
        Row("chua", "frozen, δ0² = 0.2 < ε = 0.3: share of the right block", 1.0,
            float(share(below.final.R)), 1e-6),
        Row("chua", "adaptive, δ0² = 0.4 > ε = 0.3, λ = 0.5: share of the right block", 1.0,
            float(share(adapt.final.R)), 1e-6),
        Row("chua", "frozen, wrong block: error left is ε/2", 0.15, frozen.final.error, 1e-8),
        Row("chua", "adaptive: error left is (δ0²/2)(λ/(1 + λ))²", 0.2 * (0.5 / 1.5) ** 2,
            adapt.final.error, 1e-8),
    ]  # fmt: skip


def thresholds() -> list[Row]:
    """Where gradient training changes over, against the objectives' minima."""
    epsilon, squared = 0.3, 0.4
    penalty = epsilon * (1 - squared) / (squared - epsilon)
    return [
        Row("chua", "frozen: gradient training changes over at δ0² = ε", epsilon,
            frozen_threshold(epsilon), 0.02),
        Row("chua", "adaptive: gradient training changes over at λ = ε(1 − δ0²)/(δ0² − ε)",
            penalty, penalty_threshold(penalty), 0.03),
    ]  # fmt: skip


def one_step_anil() -> list[Row]:
    """One-step ANIL with ε² < δ0² < ε learns the wrong block first and leaves it later."""
    along = share(trained(Experiment.load("chua-anil"), integrate__points=401).R)
    return [
        Row("chua", "one-step ANIL, ε² < δ0² < ε: smallest share of the right block on the way",
            0.1, float(along.min()), 0.0, Relation.below),
        Row("chua", "one-step ANIL, ε² < δ0² < ε: share of the right block at the end", 1.0,
            float(along[-1]), 1e-6),
    ]  # fmt: skip


SIZES = {"epsilon": 0.1, "squared": 0.15, "units": 2, "dimension": 50, "noise": 0.1}
"""The target tasks: ε, δ0², k, d, σ²."""


KNOWN = {"adapt": 0, "frozen": 1, "scratch": None}
"""The block that each pretrained learner knows."""


def expected_risk(support: int) -> dict[str, float]:
    """The same risks by the deterministic equivalent of ridge regression, an approximation."""
    k = SIZES["units"]
    sizes = (k, k, SIZES["dimension"] - 2 * k)
    spectrum = np.repeat([SIZES["epsilon"], 1.0, 1.0], sizes)
    squared = np.repeat([1.0 / k, SIZES["squared"] / k, 0.0], sizes)
    block = np.repeat([0, 1, 2], sizes)
    risks = {}
    for name, known in KNOWN.items():
        left, free = block != known, int((block == known).sum())
        risks[name] = tuned_ridge_risk(spectrum[left], squared[left], support, SIZES["noise"], free)
    return risks


def target_risk() -> list[Row]:
    """Excess risk of a target task at n_T = 100 examples, every penalty tuned."""
    rows = []
    for support in (20, 100):
        expected = expected_risk(support)
        risk = finite.target_risk(support, runs=100, seed=0, **SIZES)
        for name, (mean, error) in risk.items():
            text = f"target risk, {name}, n_T = {support}, d = 50, against the limit d → ∞"
            tolerance = 0.03 + 4 * error / expected[name]
            rows.append(Row("chua", text, expected[name], mean, tolerance))
    risk = {name: mean for name, (mean, _) in risk.items()}
    return [
        *rows,
        Row("chua", "target risk, frozen + fine-tune over scratch, n_T = 100, d = 50: no better",
            0.9, risk["frozen"] / risk["scratch"], 0.0, Relation.above),
        Row("chua", "target risk, adapt + fine-tune over scratch, n_T = 100, d = 50: better",
            0.7, risk["adapt"] / risk["scratch"], 0.0, Relation.below),
    ]  # fmt: skip


def fine_tuned_error(tuning: Experiment, Q: Array, R: Array) -> float:
    """ε after the fine-tuning of ``tuning`` from a representation (Q, R) and its best head."""
    compiled, parameters, K = tuning.compiled, tuning.parameters, tuning.layout.hidden

    def error(w: Array) -> float:
        return float(compiled.error(tuning.layout.pack(Q, R, w), parameters))

    found = scipy.optimize.minimize(error, np.ones(K), method="Nelder-Mead", options=PRECISE)
    return float(found.fun)


PRECISE = {"xatol": 1e-6, "fatol": 1e-10}


def nonlinear() -> list[Row]:
    """Two-layer networks: a representation trained for fine-tuning is better to fine-tune."""
    adapt, frozen = (integrate(Experiment.load(f"chua-nonlinear-{n}")) for n in ("adapt", "frozen"))
    tuning = adapt.experiment
    best = fine_tuned_error(tuning, adapt.final.Q, adapt.final.R)
    other = fine_tuned_error(tuning, frozen.final.Q, frozen.final.R)
    return [
        Row("chua", "erf network, spread 0.6: error frozen over fine-tuned, both fine-tuned", 1.03,
            other / best, 0.0, Relation.above),
        Row("chua", "erf network, spread 0.6: error frozen over fine-tuned, each in its own way",
            5.0, frozen.final.error / adapt.final.error, 0.0, Relation.above),
    ]  # fmt: skip


ONE_STEP = {
    "rule.inner_steps": 1, "rule.inner_rate": 1.35, "rule.representation_rate": 0.95,
    "rule.nodes": 10, "integrate.time": 600.0,
}  # fmt: skip
"""Training for a single step of fine-tuning, at rates that are best for it."""


def best_step(Q: Array, R: Array, ratio: float) -> tuple[float, Array]:
    """ε of the erf network after one step on ρN target examples, J and w, at its best.

    From the representation (Q, R): the least error, and the initial head, the rate of the head and
    that of J, (K + 2,), which attain it.
    """
    rates = {"inner_rate": 1.0, "representation_rate": 1.0, "outer_rate": 1.0}
    rule = {"name": "maml", "support_ratio": ratio, "nodes": 10, **rates}
    tuning = Experiment.load("chua-nonlinear-adapt").replace(rule=rule)
    compiled, parameters, K = tuning.compiled, tuning.parameters, tuning.layout.hidden

    def error(z: Array) -> float:
        rates = {"inner_rate": abs(z[K]), "representation_rate": abs(z[K + 1])}
        return float(compiled.error(tuning.layout.pack(Q, R, z[:K]), parameters | rates))

    starts = ([*np.ones(K), 1.5, 1.0], [*np.ones(K), 2.5, 0.2], [*np.ones(K), 0.0, 0.5])
    minimize = scipy.optimize.minimize
    found = [minimize(error, start, method="Nelder-Mead", options=PRECISE) for start in starts]
    best = min(found, key=lambda one: one.fun)
    return float(best.fun), np.append(best.x[:K], np.abs(best.x[K:]))


def one_step_error(Q: Array, R: Array, ratio: float) -> float:
    """The least error of ``best_step``."""
    return best_step(Q, R, ratio)[0]


def simulated_step(
    Q: Array, R: Array, step: Array, ratio: float, *, dimension: int, runs: int, seed: int
) -> tuple[float, float]:
    """``best_step`` carried out at finite N: mean error and its standard error."""
    tasks = Experiment.load("chua-nonlinear-adapt").tasks
    return finite.network_step_error(
        Q, R, step[:-2], tasks, rates=(step[-2], step[-1]), support=round(ratio * dimension),
        dimension=dimension, runs=runs, seed=seed,
    )  # fmt: skip


def from_scratch(ratio: float) -> float:
    """``one_step_error`` of a representation without overlap with the teacher, at its best norm."""
    norms = np.array([0.03, 0.1, 0.3, 1.0])
    return min(one_step_error(norm * np.eye(2), np.zeros((2, 2)), ratio) for norm in norms)


def nonlinear_target_risk() -> list[Row]:
    """Target risk of erf networks against the number of examples, one step of fine-tuning."""
    adapt = integrate(Experiment.load("chua-nonlinear-adapt").replace(**ONE_STEP)).final
    frozen = integrate(Experiment.load("chua-nonlinear-frozen")).final
    many, few = 1000.0, 2.0
    best, other = (one_step_error(s.Q, s.R, many) for s in (adapt, frozen))
    known, step = best_step(frozen.Q, frozen.R, few)
    mean, error = simulated_step(frozen.Q, frozen.R, step, few, dimension=200, runs=1000, seed=0)
    text = "erf network, spread 0.6, one step of fine-tuning"
    return [
        Row("chua", f"{text} on 1000N examples: error frozen over adapted", 1.05, other / best, 0.0,
            Relation.above),
        Row("chua", f"{text} on 2N examples: error from scratch over frozen", 2.0,
            from_scratch(few) / known, 0.0, Relation.above),
        Row("chua", f"{text} on 2N examples: the frozen one simulated at N = 200 (4 standard "
            "errors)", known, mean, 4 * error / known),
    ]  # fmt: skip


STATEMENTS = (separation, thresholds, one_step_anil, target_risk, nonlinear, nonlinear_target_risk)
