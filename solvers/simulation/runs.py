"""Vectors, random examples and the outer step of finite-N runs, vectorised over the runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.draws import block_sizes, fill_normal
from solvers.errors import ExperimentError
from solvers.simulation.closed_averages import PairMoments, pair_moments
from solvers.simulation.microscopic import support_size
from solvers.simulation.network import (
    Descent,
    FieldNetwork,
    Inputs,
    Limit,
    Sample,
    TaskData,
    outer_descent,
)
from theory.overlaps import field_covariance

if TYPE_CHECKING:
    from solvers.experiment import Experiment

Array = NDArray[np.float64]

TOGETHER = 32
"""Examples of a block of steps, unless a single step has more."""
STOCK = 1024
"""Task heads that one run draws at a time, unless a block has more."""


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
    def per_step(self) -> int:
        """Examples of one outer step."""
        return self.tasks * self.examples

    @cached_property
    def steps(self) -> int:
        """Outer steps of a block."""
        return max(1, TOGETHER // self.per_step)

    @property
    def octets(self) -> float:
        """Memory for the vectors and the examples, roughly."""
        layout = self.experiment.layout
        units = layout.hidden + layout.teacher_hidden
        spread = self.experiment.tasks.representation_spread > 0
        rows = self.steps * (self.per_step + self.tasks * spread * layout.teacher_hidden)
        return 8.0 * self.count * (self.N * (rows + 4 * units) + self.steps * self.per_step * units)


class Runs:
    """The state of all runs: J (runs, K, N), B (runs, M, N), w (runs, K), random streams.

    Within a block of steps J = κ Z stays a combination of the rows of Z = [J; B; X], those at the
    start and the inputs of the block, so that fields and overlaps follow from Γ = Z Zᵀ: a step
    moves κ (runs, L, K, n + A) alone, and vectors of length N meet in products of matrices only.
    """

    def __init__(self, setup: Setup, seeds: list[np.random.SeedSequence]) -> None:
        self.setup, self.step, self.first = setup, 0, 0
        experiment = setup.experiment
        self.moments: PairMoments = pair_moments(experiment.activation)
        self.values = experiment.parameters
        streams = [[np.random.SFC64(s) for s in seed.spawn(5)] for seed in seeds]
        start, self.inputs, *others = zip(*streams, strict=True)
        self.heads, self.noise, self.spread = (
            [np.random.Generator(bits) for bits in kind] for kind in others
        )
        Q, R, w = experiment.layout.unpack(experiment.initial_state())
        if not experiment.layout.blocks:
            Q, R = Q[None], R[None]
        C = field_covariance(Q, R, self.values["T"])
        self.rows = np.stack([vectors(C, setup, np.random.Generator(bits)) for bits in start])
        self.K, self.n = experiment.layout.hidden, C.shape[-1]
        self.B = self.rows[:, self.K :]
        self.w = np.tile(w, (len(seeds), 1))
        self.deviation = np.sqrt(np.repeat(self.values["variance"], setup.sizes))
        runs, L, A = len(seeds), len(C), setup.steps * setup.per_step
        self.normal = np.empty((runs, A * setup.N + A * setup.N % 2))
        self.flat = self.normal[:, : A * setup.N].reshape(runs, A, setup.N)
        self.X = self.flat.reshape(runs, setup.steps, setup.tasks, setup.examples, setup.N)
        self.stock: list[Array] = []
        self.known = self.n + A if setup.steps > 1 else self.n  # columns of Γ that a step needs
        self.gram = np.zeros((runs, L, self.n + A, self.known))
        self.kappa = np.empty((runs, L, self.K, self.n + A))
        self.task_C = np.zeros((runs, 1, *C.shape))
        self.task_C[..., self.K :, self.K :] = self.values["TT"]
        self._measure(slice(0, self.n), self.rows)
        self._anchor()

    @property
    def J(self) -> Array:
        """The learner's vectors (runs, K, N)."""
        total = np.empty((len(self.rows), self.K, self.setup.N))
        for i, b in enumerate(self.setup.blocks):
            total[..., b] = self.kappa[:, i, :, : self.n] @ self.rows[..., b]
            if self.step > self.first:
                total[..., b] += self.kappa[:, i, :, self.n :] @ self.flat[..., b]
        return total

    def overlaps(self) -> tuple[Array, Array, Array]:
        """Q, R, w of each run; per block with structured inputs."""
        Q, R = self._products(self._on(slice(0, self.known)))
        if self.setup.experiment.layout.blocks is None:
            Q, R = Q[:, 0], R[:, 0]
        return Q.copy(), R.copy(), self.w.copy()

    def advance(self, until: int) -> None:
        """Outer steps up to number ``until``."""
        while self.step < until:
            s = self.step - self.first
            if s == 0:
                self._draw()
            examples = slice(s * self.setup.per_step, (s + 1) * self.setup.per_step)
            network = self._network(self._task(s), examples)
            down, _ = outer_descent(self.setup.experiment.rule, network)
            self._move(examples, down)
            self.step += 1
            if s + 1 == self.setup.steps:
                self.rows[:, : self.K] = self.J
                self._measure(slice(0, self.n), self.rows)
                self._anchor()

    def _anchor(self) -> None:
        """The present vectors are those that a block starts from."""
        self.first = self.step
        self.kappa[:] = np.eye(self.K, self.kappa.shape[-1])

    def _measure(self, place: slice, vectors: Array) -> None:
        """Γ of ``vectors`` with all rows of Z that it is needed with."""
        n, gram = self.n, self.gram
        for i, b in enumerate(self.setup.blocks):
            gram[:, i, place, :n] = vectors[..., b] @ self.rows[..., b].mT
            if place.start == n and self.known > n:
                gram[:, i, :n, n:] = gram[:, i, n:, :n].mT
                gram[:, i, n:, n:] = vectors[..., b] @ vectors[..., b].mT

    def _on(self, rows: slice) -> Array:
        """Z Jᵀ on some rows of Z, (runs, L, rows, K)."""
        return self.gram[..., rows, :] @ self.kappa[..., : self.known].mT

    def _products(self, on: Array) -> tuple[Array, Array]:
        """Q (runs, L, K, K) and R (runs, L, K, M) from Z Jᵀ."""
        N = self.setup.N
        Q = self.kappa[..., : self.known] @ on[..., : self.known, :] / N
        return Q, on[..., self.K : self.n, :].mT / N

    def _draw(self) -> None:
        """Inputs ξ/√N, heads and labels of the next block of steps."""
        setup, tasks = self.setup, self.setup.experiment.tasks
        runs, S, T, E = self.X.shape[:-1]
        for numbers, bits in zip(self.normal, self.inputs, strict=True):
            fill_normal(bits, numbers, setup.N**-0.5)
        if (self.deviation != 1).any():
            self.X *= self.deviation
        self._measure(slice(self.n, self.n + S * T * E), self.flat)
        self.u = self._draw_heads()
        fields = self.gram[:, :, self.n :, self.K : self.n]
        fields = fields.reshape(runs, -1, S, T, E, fields.shape[-1])
        self.b = np.moveaxis(fields, 1, 3) + self._stray_fields()
        g = setup.experiment.activation.g
        self.y = (g(self.b.sum(-3)) @ self.u[..., None])[..., 0]
        if tasks.label_noise:
            normal = np.stack([rng.standard_normal((S, T, E)) for rng in self.noise])
            self.y += tasks.label_noise * normal

    def _draw_heads(self) -> Array:
        """u (runs, steps, T, M) of the next block, from a stock of several blocks'."""
        if not self.stock:
            setup = self.setup
            S, T, blocks = setup.steps, setup.tasks, 1 + STOCK // (setup.steps * setup.tasks)
            heads = [setup.experiment.tasks.draw(rng, blocks * S * T) for rng in self.heads]
            drawn = np.stack(heads).reshape(setup.count, blocks, S, T, -1)
            self.stock = list(drawn.swapaxes(0, 1)[::-1])
        return self.stock.pop()

    def _stray_fields(self) -> Array | float:
        """The fields (runs, steps, T, L, E, M) of δZ, each task's own part of the teacher."""
        setup, delta = self.setup, self.setup.experiment.tasks.representation_spread
        if not delta:
            return 0.0
        shape = (setup.steps, setup.tasks, self.n - self.K, setup.N)
        Z = np.stack([rng.standard_normal(shape) for rng in self.spread])
        return np.stack([delta * (self.X[..., b] @ Z[..., b].mT) for b in setup.blocks], axis=-3)

    def _task(self, s: int) -> TaskData:
        setup = self.setup
        P = setup.support
        return TaskData(
            u=self.u[:, s], b=self.b[:, s], y=self.y[:, s],
            support=Limit() if setup.infinite else Sample(slice(0, P)),
            query=Sample(slice(P, setup.examples)),
            inner=Inputs(self.X[:, s], setup.blocks),
            variance=self.values["variance"], reach=setup.reach,
        )  # fmt: skip

    def _network(self, task: TaskData, examples: slice) -> FieldNetwork:
        setup, n, K, C = self.setup, self.n, self.K, None
        here = slice(n + examples.start, n + examples.stop)
        if setup.infinite:
            on, C = self._on(slice(None)), self.task_C
            C[:, 0, :, :K, :K], R = self._products(on)
            C[:, 0, :, :K, K:], C[:, 0, :, K:, :K] = R, R.mT
            h = on[..., here, :]
        else:
            h = self._on(here)
        h = h.reshape(*h.shape[:2], setup.tasks, setup.examples, K).swapaxes(1, 2)
        head = self.w[:, None, :]
        return FieldNetwork(setup.experiment.activation, self.moments, task, h, head, C)

    def _move(self, examples: slice, down: Descent) -> None:
        """The outer step."""
        setup, rule, kappa = self.setup, self.setup.experiment.rule, self.kappa
        gain = setup.N if setup.population else 1
        rate = rule.outer_rate * gain
        if rule.weight_decay:
            kappa *= 1 - rate * rule.weight_decay / setup.N
        if down.C is not None:
            A, D = (part.mean(1) for part in down.of_overlaps(self.K))
            kappa += rate / setup.N * (A @ kappa)
            kappa[..., self.K : self.n] += rate / setup.N * D
        c = down.h.swapaxes(1, 2)
        c = c.reshape(*c.shape[:2], -1, self.K).mT
        kappa[..., self.n + examples.start : self.n + examples.stop] += rate / setup.tasks * c
        if rule.head_rate:
            self.w = self.w + rule.head_rate * gain / setup.N * down.w.mean(1)


def vectors(C: Array, setup: Setup, rng: np.random.Generator) -> Array:
    """Rows [J; B] (K + M, N) in random directions with the overlaps C (L, n, n) exactly."""
    rows = []
    for block, size in zip(C, setup.sizes, strict=True):
        values, directions = np.linalg.eigh(block)
        frame = np.linalg.qr(rng.standard_normal((size, len(block))))[0]
        rows.append((directions * np.sqrt(setup.N * np.maximum(values, 0.0))) @ frame.T)
    return np.concatenate(rows, axis=1)
