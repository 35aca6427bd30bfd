"""The vocabulary of a rule carried out on arrays: networks known by their fields on examples.

During one outer step the network meets only the examples of the step, and J only through its
fields h = Jξ/√N on them: a step on J along Σ c_p ξ_p/√N changes the field of example e by
Σ c_p (ξ_p·ξ_e)/N. So an inner loop runs on the fields and the inner products of the inputs, at
finite N exactly; with the identity for the inner products it is the limit N → ∞. The gradient of
the query loss with respect to the fields *before* the inner loop (order "exact") is carried back
step by step; −∂loss/∂h_k on example e is the c_k that the outer step multiplies with ξ_e.

Axes: any leading ones (runs, tasks), then input blocks L, examples E, units K or M, n = K + M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.simulation.closed_averages import Averages, PairMoments

Array = NDArray[np.float64]


class Inner(Protocol):
    """Inner products of the inputs of a task, per block: G^b = X^b X^bᵀ/N."""

    def spread(self, c: Array) -> Array:
        """(…, E, K) ↦ (…, L, E, K): Σ_p G^b_ep c_p."""
        ...

    def gather(self, c: Array) -> Array:
        """(…, L or 1, E, K) ↦ (…, E, K): Σ_b Σ_p G^b_ep c^b_p, the adjoint of ``spread``."""
        ...


@dataclass(frozen=True)
class Orthogonal:
    """Inputs of infinite dimension: G^b = share_b · 1, share_b = λ_b f_b."""

    share: Array

    def spread(self, c: Array) -> Array:
        return self.share[:, None, None] * c[..., None, :, :]

    def gather(self, c: Array) -> Array:
        return (self.share[:, None, None] * c).sum(-3)


@dataclass(frozen=True)
class Inputs:
    """Inputs X = ξ/√N (…, E, N), scaled to their variances, and the coordinates of each block."""

    X: Array
    blocks: tuple[slice, ...]

    def spread(self, c: Array) -> Array:
        push = c.mT @ self.X
        parts = [self.X[..., b] @ push[..., b].mT for b in self.blocks]
        return np.stack(parts, axis=-3)

    def gather(self, c: Array) -> Array:
        total = np.zeros(())
        for i, block in enumerate(self.blocks):
            part, X = c[..., min(i, c.shape[-3] - 1), :, :], self.X[..., block]
            total = total + X @ (part.mT @ X).mT
        return total


@dataclass(frozen=True)
class Sample:
    """A finite set of examples: these rows of the task's arrays."""

    rows: slice


@dataclass(frozen=True)
class Limit:
    """Infinitely many examples: closed averages at the current overlaps."""


@dataclass(frozen=True)
class TaskData:
    """One task (or one per leading index) as the rule sees it.

    u (…, M) head, b (…, L, E, M) fields of the task's teacher, y (…, E) noisy labels.
    ``reach`` multiplies steps on J: 1, or N where the support is extensive.
    """

    u: Array
    b: Array
    y: Array
    support: Sample | Limit
    query: Sample
    inner: Inner
    variance: Array
    reach: float = 1.0


@dataclass(frozen=True)
class Descent:
    """Minus the derivative of the loss with respect to h (…, L or 1, E, K), w (…, K) and the
    blocks' covariance C (…, L, n, n), all entries independent; None is zero."""

    h: Array
    w: Array
    C: Array | None = None

    def of_overlaps(self, K: int) -> tuple[Array, Array]:
        """−(A, D): the part of the step on J, (η_J/N)(−A J − D B), per block."""
        if self.C is None:
            raise ValueError("this descent direction has no part that is shared by all inputs")
        learner, cross = self.C[..., :K, :K], self.C[..., :K, K:]
        return (
            learner + learner.mT,
            cross + self.C[..., K:, :K].mT,
        )


def plus(a: Array | None, b: Array | None) -> Array | None:
    """a + b, where None is zero."""
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True)
class FieldNetwork:
    """A two-layer network: fields h (…, L, E, K), head (…, K), overlaps C (…, L, n, n).

    C = [[Q, R], [Rᵀ, T]] per block is needed where a support is infinite, else None.
    """

    activation: Any
    moments: PairMoments
    task: TaskData
    h: Array
    head: Array
    C: Array | None = None
    deviation: Array | None = None
    came_from: FieldNetwork | None = None
    pull: Callable[[Descent], Descent] | None = None

    def fields(self, examples: Sample) -> Array:
        """h (…, P, K) on a set of examples, summed over the blocks."""
        h = self.h[..., examples.rows, :]
        return h[..., 0, :, :] if h.shape[-3] == 1 else h.sum(-3)

    def errors(self, examples: Sample, g: Array) -> Array:
        """y − f, shape (…, P), from the activations g (…, P, K)."""
        return self.task.y[..., examples.rows] - self.outputs(examples, g)

    def outputs(self, examples: Sample, g: Array) -> Array:
        """f, shape (…, P), from the activations g (…, P, K); with the deviation if there is one."""
        output = (g @ self.head[..., None])[..., 0]
        return output if self.deviation is None else output + self.deviation[..., examples.rows]

    @property
    def averages(self) -> Averages:
        """The closed averages at the current overlaps."""
        if self.C is None:
            raise ValueError("an infinite support needs the overlaps of the network")
        return Averages(self.moments, self.head, self.task.u, self.C, self.task.variance)

    def become(self, pull: Callable[[Descent], Descent], **changes: Array) -> FieldNetwork:
        """The network after a step, which remembers how derivatives go back through it."""
        return replace(self, came_from=self, pull=pull, **changes)

    def head_descent(self, examples: Sample | Limit) -> Array:
        """−∂loss/∂w (…, K) of the mean loss on the examples."""
        if isinstance(examples, Limit):
            return -self.averages.pull_of_head
        g = self.activation.g(self.fields(examples))
        return mean_product(self.errors(examples, g), g)

    def descend(
        self, examples: Sample | Limit, *, head: float = 0, representation: float = 0
    ) -> FieldNetwork:
        """One gradient step on the mean loss of the examples."""
        if isinstance(examples, Limit):
            return self._descend_limit(head, representation)
        return self._descend_sample(examples, head, representation * self.task.reach)

    def _descend_sample(self, examples: Sample, rate_w: float, rate_j: float) -> FieldNetwork:
        w, h = self.head, self.fields(examples)
        g, dg = self.activation.g(h), self.activation.dg(h, 1)
        delta = self.errors(examples, g)
        P = delta.shape[-1]
        new: dict[str, Array] = {"head": w + rate_w * mean_product(delta, g)}
        if rate_j:
            c = np.zeros((*delta.shape[:-1], self.h.shape[-2], w.shape[-1]))
            c[..., examples.rows, :] = delta[..., None] * w[..., None, :] * dg
            new["h"] = self.h + rate_j / P * self.task.inner.spread(c)

        def pull(after: Descent) -> Descent:
            v = rate_w / P * after.w[..., None, :]
            slope = v * dg
            q = (v * g).sum(-1)
            grad_w = np.zeros(())
            if rate_j:
                a = rate_j / P * self.task.inner.gather(after.h)[..., examples.rows, :]
                q = q + (a * w[..., None, :] * dg).sum(-1)
                slope = slope + a * w[..., None, :] * self.activation.dg(h, 2)
                grad_w = (delta[..., None] * a * dg).sum(-2)
            on_h = delta[..., None] * slope - q[..., None] * w[..., None, :] * dg
            on_w = after.w + grad_w - (q[..., None, :] @ g)[..., 0, :]
            return Descent(add_rows(after.h, on_h, examples.rows, self.h.shape), on_w, after.C)

        return self.become(pull, **new)

    def _descend_limit(self, rate_w: float, rate_j: float) -> FieldNetwork:
        average = self.averages
        K = self.head.shape[-1]
        head = self.head - rate_w * average.pull_of_head
        if not rate_j:

            def pull_head(after: Descent) -> Descent:
                on_w, on_C = average.back(-rate_w * after.w)
                return Descent(after.h, after.w + on_w, plus(after.C, on_C))

            return self.become(pull_head, head=head)
        A, D = average.pull_of_representation
        step = rate_j * self.task.variance[:, None, None]
        A, D = A[..., None, :, :], D[..., None, :, :]
        C = average.C
        lead = np.broadcast_shapes(C.shape[:-2], A.shape[:-2])
        move = np.zeros((*lead, *C.shape[-2:])) + np.eye(C.shape[-1])
        move[..., :K, :K] -= step * A
        move[..., :K, K:] -= step * D
        h = self.h - step * (self.h @ A + self.task.b @ D.mT)
        moved = move @ C @ move.mT

        def pull(after: Descent) -> Descent:
            on_h, on_C = after.h - step * (after.h @ A), None
            flipped = after.h.mT
            on_A, on_D = -step * (flipped @ self.h), -step * (flipped @ self.task.b)
            if after.C is not None:
                on_C = move.mT @ after.C @ move
                on_move = (after.C + after.C.mT) @ move @ C
                on_A = on_A - step * on_move[..., :K, :K]
                on_D = on_D - step * on_move[..., :K, K:]
            on_w, through = average.back(
                -rate_w * after.w, np.sum(on_A, axis=-3), np.sum(on_D, axis=-3)
            )
            return Descent(on_h, after.w + on_w, plus(on_C, through))

        return self.become(pull, head=head, h=h, C=moved)

    def fit_head(self, examples: Sample | Limit, *, ridge: float = 0) -> FieldNetwork:
        """The least-squares head; singular values below 1e-12 of the largest are cut."""
        if isinstance(examples, Limit):
            return self._fit_limit(ridge)
        h = self.fields(examples)
        g, y, P = self.activation.g(h), self.task.y[..., examples.rows], h.shape[-2]
        transposed = g.mT
        if ridge:
            inverse = np.linalg.inv(transposed @ g + P * ridge * np.eye(g.shape[-1]))
            solve = inverse @ transposed
        else:
            solve = np.linalg.pinv(g, rcond=CUT)
            inverse = solve @ solve.mT
        w = (solve @ y[..., None])[..., 0]
        left = y - (g @ w[..., None])[..., 0]

        def pull(after: Descent) -> Descent:
            back = (solve.mT @ after.w[..., None])[..., 0]
            twice = (inverse @ after.w[..., None])[..., 0]
            on_g = left[..., None] * twice[..., None, :] - back[..., None] * w[..., None, :]
            if not ridge:  # the pseudoinverse turns with the space that g spans
                rest = after.w - (transposed @ back[..., None])[..., 0]
                along = (solve.mT @ w[..., None])[..., 0]
                on_g = on_g + along[..., None] * rest[..., None, :]
            on_h = on_g * self.activation.dg(h, 1)
            zero = np.zeros_like(after.w)
            return Descent(add_rows(after.h, on_h, examples.rows, self.h.shape), zero, after.C)

        return self.become(pull, head=w)

    def _fit_limit(self, ridge: float) -> FieldNetwork:
        average, K = self.averages, self.head.shape[-1]
        table = average.moment(0, 0)
        inverse = np.linalg.pinv(table[..., :K, :K] + ridge * np.eye(K), rcond=CUT, hermitian=True)
        w = (inverse @ table[..., :K, K:] @ self.task.u[..., None])[..., 0]

        def pull(after: Descent) -> Descent:
            back = (inverse @ after.w[..., None])[..., 0]
            on_table = np.zeros(
                np.broadcast_shapes(table.shape[:-2], back.shape[:-1]) + table.shape[-2:]
            )
            on_table[..., :K, :K] = -back[..., :, None] * w[..., None, :]
            on_table[..., :K, K:] = back[..., :, None] * self.task.u[..., None, :]
            C = plus(after.C, average.to_blocks(average.through((0, 0), on_table)))
            return Descent(after.h, np.zeros_like(after.w), C)

        return self.become(pull, head=w)

    def fit_deviation(self, examples: Sample | Limit, *, penalty: float) -> FieldNetwork:
        """Head and deviation at the minimum of the mean loss plus (penalty/2)‖δ‖², for linear g.

        At the minimum the total derivative is the partial one, so that nothing is carried back.
        """
        if isinstance(examples, Sample):
            raise ValueError("a deviation is fitted on an infinite support alone")
        variance, K = self.task.variance, self.head.shape[-1]
        kept = penalty / (variance + penalty)
        C = ((kept * variance)[:, None, None] * self.averages.C).sum(-3)
        inverse = np.linalg.pinv(C[..., :K, :K], rcond=CUT, hermitian=True)
        w = (inverse @ C[..., :K, K:] @ self.task.u[..., None])[..., 0]
        target = (self.task.b @ self.task.u[..., None, :, None])[..., 0]
        residual = target - (self.h @ w[..., None, :, None])[..., 0]
        deviation = ((1 - kept)[:, None] * residual).sum(-2)

        def pull(after: Descent) -> Descent:
            return replace(after, w=np.zeros_like(after.w))

        stepped = self.become(pull, head=np.broadcast_to(w, self.head.shape))
        return replace(stepped, deviation=deviation)


CUT = 1e-12


def mean_product(delta: Array, g: Array) -> Array:
    """(1/P) Σ_p delta_p g_p: (…, P) and (…, P, K) give (…, K)."""
    return (delta[..., None, :] @ g)[..., 0, :] / delta.shape[-1]


def add_rows(base: Array | None, part: Array, rows: slice, shape: tuple[int, ...]) -> Array:
    """``base`` plus ``part`` (…, P, K), the same for every block, on the given rows."""
    if base is None:
        total = np.zeros((*part.shape[:-2], 1, *shape[-2:]))
        total[..., 0, rows, :] = part
        return total
    total = np.array(np.broadcast_to(base, (*part.shape[:-2], *base.shape[-3:])))
    total[..., rows, :] += part[..., None, :, :]
    return total


def outer_descent(rule: Any, start: FieldNetwork) -> tuple[Descent, FieldNetwork]:
    """Minus the derivative of the mean query loss after ``rule.adapt``, and the adapted network.

    Order "first" holds the displacement made by ``adapt`` fixed, "exact" differentiates it. The
    entry w is the direction of the rule's ``head_step`` where it states one.
    """
    task = start.task
    adapted = rule.adapt(start, task)
    h = adapted.fields(task.query)
    g = adapted.activation.g(h)
    delta = adapted.errors(task.query, g)
    c = delta[..., None] * adapted.head[..., None, :] * adapted.activation.dg(h, 1) / h.shape[-2]
    down = Descent(add_rows(None, c, task.query.rows, start.h.shape), mean_product(delta, g))
    if getattr(rule, "order", "first") == "exact":
        network = adapted
        while network is not start:
            if network.pull is None or network.came_from is None:
                raise ValueError("the adapted network was not made from the initial one")
            down, network = network.pull(down), network.came_from
    head = rule.head_step(start, adapted, task)
    return (down if head is None else replace(down, w=head)), adapted
