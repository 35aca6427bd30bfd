"""Vectors, random examples and the outer step of finite-N runs, vectorised over the runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.closed_averages import PairMoments, pair_moments
from solvers.draws import block_sizes
from solvers.errors import ExperimentError
from solvers.microscopic import support_size
from solvers.network import Descent, FieldNetwork, Inputs, Limit, Sample, TaskData, outer_descent
from theory.overlaps import field_covariance

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

BATCH = 2**16
"""Random inputs that one run draws at a time."""
TOGETHER = 2**25
"""Random inputs that all runs hold at a time, unless a single step needs more."""


@dataclass(frozen=True)
class Setup:
    """Sizes of a simulation of ``count`` runs at dimension ``N``."""

    experiment: Experiment
    N: int
    count: int

    def __post_init__(self) -> None:
        units = self.experiment.layout.hidden + self.experiment.layout.teacher_hidden
        if min(self.sizes) < units:
            raise ExperimentError(
                f"simulate.dimension leaves {min(self.sizes)} coordinates for {units} vectors of "
                "given overlaps; make it larger"
            )
        rule, activation = self.experiment.rule, self.experiment.activation
        if hasattr(rule, "representation_rate") and rule.order == "exact":
            try:
                activation.dg(0.0, 2)
            except ValueError as error:
                raise ExperimentError(
                    f"the second derivative of {activation.name} is no function: order 'exact' "
                    "cannot be simulated where the inner loop adapts the representation"
                ) from error

    @cached_property
    def sizes(self) -> list[int]:
        """Coordinates per input block."""
        return block_sizes(self.experiment.parameters["fraction"], self.N)

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """The coordinates of each input block."""
        edges = np.cumsum([0, *self.sizes]).tolist()
        return tuple(slice(a, b) for a, b in pairwise(edges))

    @property
    def population(self) -> bool:
        return self.experiment.rule.regime == "population"

    @property
    def steps_per_time(self) -> int:
        """N in the streaming regime, else 1."""
        return 1 if self.population else self.N

    @cached_property
    def ratio(self) -> float | None:
        """ρ = P/N of an extensive support, else None."""
        return getattr(self.experiment.rule, "support_ratio", None)

    @property
    def infinite(self) -> bool:
        """Whether the inner loop uses closed averages."""
        return support_size(self.experiment.rule, finite_ratio=0) == np.inf

    @cached_property
    def support(self) -> int:
        """P, drawn examples of a support set."""
        if self.infinite:
            return 0
        if self.ratio is not None:
            return max(1, round(self.ratio * self.N))
        return int(support_size(self.experiment.rule))

    @property
    def reach(self) -> float:
        """The factor of an inner step on J: N for an extensive support, so that J moves by O(1)."""
        return 1.0 if self.ratio is None or self.infinite else float(self.N)

    @cached_property
    def examples(self) -> int:
        """Examples per task: support and query."""
        return self.support + int(self.experiment.rule.query)

    @property
    def tasks(self) -> int:
        """T_b."""
        return int(self.experiment.rule.tasks_per_step)

    @cached_property
    def batch(self) -> int:
        """Outer steps whose examples are drawn together."""
        numbers = self.tasks * self.examples * self.N
        return max(1, min(BATCH, TOGETHER // self.count) // numbers)

    @property
    def octets(self) -> float:
        """Memory for the vectors and the examples, roughly."""
        layout = self.experiment.layout
        units = layout.hidden + layout.teacher_hidden
        spread = self.experiment.tasks.representation_spread > 0
        rows = self.tasks * (self.examples + spread * layout.teacher_hidden)
        rows = self.batch * rows + self.tasks * self.examples * units / 8
        return 8.0 * self.count * (self.N * (rows + 4 * units))


class Runs:
    """The state of all runs: J (runs, K, N), B (runs, M, N), w (runs, K), random streams."""

    def __init__(self, setup: Setup, seeds: list[np.random.SeedSequence]) -> None:
        self.setup, self.step, self.drawn, self.first = setup, 0, 0, 0
        experiment = setup.experiment
        self.moments: PairMoments = pair_moments(experiment.activation)
        self.values = experiment.parameters
        streams = [
            [np.random.Generator(np.random.SFC64(s)) for s in seed.spawn(5)] for seed in seeds
        ]
        start, self.inputs, self.heads, self.noise, self.spread = zip(*streams, strict=True)
        Q, R, w = experiment.layout.unpack(experiment.initial_state())
        if not experiment.layout.blocks:
            Q, R = Q[None], R[None]
        C = field_covariance(Q, R, self.values["T"])
        rows = np.stack([vectors(C, setup, rng) for rng in start])  # J and B are views of it
        K = experiment.layout.hidden
        self.rows, self.J, self.B = rows, rows[:, :K], rows[:, K:]
        self.w = np.tile(w, (len(seeds), 1))
        self.scale = np.sqrt(np.repeat(self.values["variance"], setup.sizes) / setup.N)
        shape = (setup.batch, setup.tasks, setup.examples, setup.N)
        self.X, self.push = np.empty((len(seeds), *shape)), np.empty_like(self.J)
        self.task_C = np.zeros((len(seeds), 1, *C.shape))
        self.task_C[..., K:, K:] = self.values["TT"]

    def overlaps(self) -> tuple[Array, Array, Array]:
        """Q, R, w of each run; per block with structured inputs."""
        C, K = self._products(), self.J.shape[1]
        if self.setup.experiment.layout.blocks is None:
            C = C[:, 0]
        return C[..., :K].copy(), C[..., K:].copy(), self.w.copy()

    def _products(self) -> Array:
        """[Q | R] = J [J; B]ᵀ/N per block, (runs, L, K, K + M)."""
        return (
            apart([self.J[..., b] @ self.rows[..., b].mT for b in self.setup.blocks]) / self.setup.N
        )

    def advance(self, until: int) -> None:
        """Outer steps up to number ``until``."""
        while self.step < until:
            if self.step == self.drawn:
                self._draw()
            s = self.step - self.first
            X = self.X[:, s]
            network = self._network(self._task(s, X), X)
            down, _ = outer_descent(self.setup.experiment.rule, network)
            self._move(X, down)
            self.step += 1

    def _draw(self) -> None:
        """Inputs ξ/√N, heads and labels of the next batch of steps."""
        setup, tasks = self.setup, self.setup.experiment.tasks
        S, T, E = setup.batch, setup.tasks, setup.examples
        self.first, self.drawn = self.step, self.step + S
        for X, rng in zip(self.X, self.inputs, strict=True):
            rng.standard_normal(out=X)
            X *= self.scale
        draws = [tasks.draw(rng, S * T) for rng in self.heads]
        self.u = np.stack(draws).reshape(setup.count, S, T, -1)
        self.b = self._teacher_fields()
        g = setup.experiment.activation.g
        self.y = (g(self.b.sum(-3)) @ self.u[..., None])[..., 0]
        if tasks.label_noise:
            normal = np.stack([rng.standard_normal((S, T, E)) for rng in self.noise])
            self.y += tasks.label_noise * normal

    def _teacher_fields(self) -> Array:
        """b (runs, steps, T, L, E, M) of each task's own teacher B + δZ."""
        setup, delta = self.setup, self.setup.experiment.tasks.representation_spread
        runs, S, T, E, N = self.X.shape
        M = self.B.shape[1]
        parts = []
        for block in setup.blocks:
            flat = self.X[..., block].reshape(runs, S * T * E, -1)
            fields = flat @ self.B[..., block].mT
            parts.append(fields.reshape(runs, S, T, E, M))
        if delta:
            Z = np.stack([rng.standard_normal((S, T, M, N)) for rng in self.spread])
            for part, block in zip(parts, setup.blocks, strict=True):
                part += delta * (self.X[..., block] @ Z[..., block].mT)
        return np.stack(parts, axis=-3)

    def _task(self, s: int, X: Array) -> TaskData:
        setup = self.setup
        P = setup.support
        return TaskData(
            u=self.u[:, s], b=self.b[:, s], y=self.y[:, s],
            support=Limit() if setup.infinite else Sample(slice(0, P)),
            query=Sample(slice(P, setup.examples)),
            inner=Inputs(X, setup.blocks),
            variance=self.values["variance"], reach=setup.reach,
        )  # fmt: skip

    def _network(self, task: TaskData, X: Array) -> FieldNetwork:
        setup, runs = self.setup, self.setup.count
        T, E, K = setup.tasks, setup.examples, self.J.shape[1]
        fields = [X[..., b].reshape(runs, T * E, -1) @ self.J[..., b].mT for b in setup.blocks]
        h = apart(fields).reshape(runs, len(fields), T, E, K).swapaxes(1, 2)
        C = None
        if setup.infinite:
            C, products = self.task_C, self._products()
            C[:, 0, :, :K], C[:, 0, :, K:, :K] = products, products[..., K:].mT
        w = self.w[:, None, :]
        return FieldNetwork(setup.experiment.activation, self.moments, task, h, w, C)

    def _move(self, X: Array, down: Descent) -> None:
        """The outer step."""
        setup, rule = self.setup, self.setup.experiment.rule
        runs, T, E, N = X.shape
        gain = N if setup.population else 1
        rate = rule.outer_rate * gain
        if rule.weight_decay:
            self.J *= 1 - rate * rule.weight_decay / N
        if down.C is not None:
            A, D = down.of_overlaps(self.J.shape[1])
            A, D = A.mean(1), D.mean(1)
            for i, b in enumerate(setup.blocks):
                moved = A[:, i] @ self.J[..., b] + D[:, i] @ self.B[..., b]
                part = self.J[..., b]
                part += rate / N * moved
        for i, b in enumerate(setup.blocks):
            c = down.h[:, :, min(i, down.h.shape[2] - 1)].reshape(runs, T * E, -1)
            flat = X[..., b].reshape(runs, T * E, -1)
            part = self.J[..., b]
            part += np.matmul(rate / T * c.mT, flat, out=self.push[..., b])
        if rule.head_rate:
            self.w = self.w + rule.head_rate * gain / N * down.w.mean(1)


def apart(parts: list[Array]) -> Array:
    """Arrays (runs, …) of the blocks as one (runs, L, …)."""
    return parts[0][:, None] if len(parts) == 1 else np.stack(parts, axis=1)


def vectors(C: Array, setup: Setup, rng: np.random.Generator) -> Array:
    """Rows [J; B] (K + M, N) in random directions with the overlaps C (L, n, n) exactly."""
    rows = []
    for block, size in zip(C, setup.sizes, strict=True):
        values, directions = np.linalg.eigh(block)
        frame = np.linalg.qr(rng.standard_normal((size, len(block))))[0]
        rows.append((directions * np.sqrt(setup.N * np.maximum(values, 0.0))) @ frame.T)
    return np.concatenate(rows, axis=1)
