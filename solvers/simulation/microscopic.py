"""Direct Monte-Carlo of one outer step at N → ∞: the check of every drift and noise.

The fields (h, b) of the support and query examples are drawn from N(0, C), the heads and the
label noise from the tasks' distribution; the rule is carried out on them, and the coefficients
c_k of the step are averaged as PHYSICS defines the flow. No Gaussian average of the flow enters,
except at infinite support, where the inner loop itself consists of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.simulation.closed_averages import PairMoments, pair_moments
from solvers.simulation.network import (
    FieldNetwork,
    Limit,
    Orthogonal,
    Sample,
    TaskData,
    outer_descent,
)
from theory.overlaps import field_covariance

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

CHUNK = 200_000
"""Examples that are held in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A mean over independent samples and its standard error, of the same shape."""

    mean: Array
    error: Array

    def z(self, expected: Any) -> Array:
        """(mean − expected)/error, entry by entry; 0 where both agree to rounding."""
        gap = self.mean - np.asarray(expected, float)
        scale = np.maximum(self.error, 1e-13 * (1 + np.abs(self.mean)))
        return np.where(np.abs(gap) <= 1e-12 * (1 + np.abs(self.mean)), 0.0, gap / scale)


@dataclass
class Tally:
    """Running sums of a quantity over samples, which are its first axis."""

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    shift: Any = field(default=None)

    def add(self, values: Array) -> None:
        """Takes in samples (n, …); sums are taken about the first sample's mean."""
        if self.shift is None:
            self.shift = values.mean(axis=0)
        values = values - self.shift
        self.count += len(values)
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + (values**2).sum(axis=0)

    @property
    def estimate(self) -> Estimate:
        """Mean and standard error."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0.0)
        return Estimate(mean + self.shift, np.sqrt(variance / max(self.count - 1, 1)))


@dataclass(frozen=True)
class MicroscopicRates:
    """One step's averages at unit rates, per input block (axis of length L first; 1 ordinarily).

    R (L, K, M) = E[Σ c_k b_n], Q (L, K, K) = E[Σ (c_k h_l + c_l h_k)], S (L, K, K) = the step's
    Σ E[c_k c_l] weighted with λ_b f_b, w (K,) = E[head step], error () = E[½(f − y)²], the sums
    over the examples of a step. At infinite support, order exact, R and Q hold the part that
    comes through the closed averages.
    """

    R: Estimate
    Q: Estimate
    S: Estimate
    w: Estimate
    error: Estimate

    def flow(self, experiment: Experiment, y: Array | None = None) -> dict[str, Estimate]:
        """dQ/dα, dR/dα, dw/dα with the experiment's rates, its regime and its weight decay.

        Shapes (L, K, K), (L, K, M), (K,); in the population regime these are not the increments.
        """
        rule = experiment.rule
        Q, R, _ = overlaps(experiment, y)
        eta, decay = rule.outer_rate, rule.outer_rate * rule.weight_decay
        noise = eta**2 if rule.regime == "streaming" else 0.0
        return {
            "Q": Estimate(
                eta * self.Q.mean + noise * self.S.mean - 2 * decay * Q,
                eta * self.Q.error + noise * self.S.error,
            ),
            "R": Estimate(eta * self.R.mean - decay * R, eta * self.R.error),
            "w": Estimate(rule.head_rate * self.w.mean, rule.head_rate * self.w.error),
        }


def microscopic_rates(
    experiment: Experiment, y: Array | None = None, *, samples: int = 200_000, seed: int = 0
) -> MicroscopicRates:
    """Drift and noise of one outer step at the state y (default: the initial one).

    Each of ``samples`` is a task with its support and query examples.

    Raises:
        ExperimentError: extensive support; its inner step does not close on a few examples.
    """
    rule, K = experiment.rule, experiment.layout.hidden
    ratio = getattr(rule, "support_ratio", None)
    if ratio is not None and np.isfinite(ratio):
        raise ExperimentError("an extensive support has no Monte-Carlo on single examples")
    rng = np.random.default_rng(seed)
    moments = pair_moments(experiment.activation)
    tallies = {name: Tally() for name in ("R", "Q", "S", "w", "error")}
    left = samples
    while left:
        size = min(left, max(1, CHUNK // examples_of(rule)))
        left -= size
        for name, values in _one_step(experiment, y, moments, size, rng, K).items():
            tallies[name].add(values)
    return MicroscopicRates(**{name: tally.estimate for name, tally in tallies.items()})


def support_size(rule: Any, finite_ratio: float = np.inf) -> float:
    """P; 0 without an inner loop, inf for closed averages, ``finite_ratio`` for P = ρN."""
    if not rule.adapts:
        return 0
    ratio = getattr(rule, "support_ratio", None)
    if ratio is not None:
        return np.inf if ratio == np.inf else finite_ratio
    return rule.support


def examples_of(rule: Any) -> int:
    """How many examples one task of a step holds."""
    P = support_size(rule)
    return int(rule.query) + (int(P) if np.isfinite(P) else 0)


def overlaps(experiment: Experiment, y: Array | None) -> tuple[Array, Array, Array]:
    """Q (L, K, K), R (L, K, M), w (K,)."""
    Q, R, w = experiment.layout.unpack(experiment.initial_state() if y is None else y)
    return (Q, R, w) if experiment.layout.blocks else (Q[None], R[None], w)


def sampled_task(
    experiment: Experiment, y: Array | None, moments: PairMoments, size: int,
    rng: np.random.Generator,
) -> tuple[FieldNetwork, Array]:  # fmt: skip
    """``size`` tasks with fresh fields on their examples, and the bare teacher's fields."""
    rule, tasks, values = experiment.rule, experiment.tasks, experiment.parameters
    Q, R, w = overlaps(experiment, y)
    K, M = R.shape[-2:]
    E, P = examples_of(rule), support_size(rule)
    variance, share = values["variance"], values["variance"] * values["fraction"]
    spectrum, vectors = np.linalg.eigh(field_covariance(Q, R, values["T"]))
    root = vectors * np.sqrt(variance[:, None, None] * np.maximum(spectrum, 0.0)[:, None, :])
    x = rng.standard_normal((size, len(variance), E, K + M)) @ root.mT
    h, bare = x[..., :K], x[..., K:]
    b = bare
    if tasks.representation_spread:
        wander = np.sqrt(share)[:, None, None] * rng.standard_normal(bare.shape)
        b = bare + tasks.representation_spread * wander
    u = tasks.draw(rng, size)
    labels = (experiment.activation.g(b.sum(-3)) @ u[..., None])[..., 0]
    labels = labels + tasks.label_noise * rng.standard_normal(labels.shape)
    infinite = not np.isfinite(P)
    support = Limit() if infinite else Sample(slice(0, int(P)))
    query = Sample(slice(E - int(rule.query), E))
    data = TaskData(u, b, labels, support, query, Orthogonal(share), variance)
    C = field_covariance(Q, R, values["TT"]) if infinite else None
    head = np.broadcast_to(w, (size, K))
    return FieldNetwork(experiment.activation, moments, data, h, head, C), bare


def _one_step(
    experiment: Experiment, y: Array | None, moments: PairMoments, size: int,
    rng: np.random.Generator, K: int,
) -> Mapping[str, Array]:  # fmt: skip
    """Samples of R, Q, S, w and the error, (size, …)."""
    network, bare = sampled_task(experiment, y, moments, size, rng)
    down, adapted = outer_descent(experiment.rule, network)
    task = network.task
    c = down.h.mT
    on_R, half = c @ bare, c @ network.h
    if down.C is not None:
        Q, R, _ = overlaps(experiment, y)
        A, D = down.of_overlaps(K)
        on_R = on_R + A @ R + D @ experiment.parameters["T"]
        half = half + A @ Q + D @ R.mT
    share = experiment.parameters["variance"] * experiment.parameters["fraction"]
    S = share[:, None, None] * (c @ down.h) / experiment.rule.tasks_per_step
    g = experiment.activation.g
    clean = (g(task.b[..., task.query.rows, :].sum(-3)) @ task.u[..., None])[..., 0]
    output = adapted.outputs(task.query, g(adapted.fields(task.query)))
    return {
        "R": on_R,
        "Q": half + half.mT,
        "S": S,
        "w": np.broadcast_to(down.w, (size, K)),
        "error": 0.5 * ((output - clean) ** 2).mean(-1),
    }
