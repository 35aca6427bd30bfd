"""The symbolic interpreter of a rule's statement: networks whose state is definitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sympy
from sympy import Expr, IndexedBase, Symbol

from theory.averages import Average
from theory.derivation import few_examples, finite_head, microscopic
from theory.derivation.differentiation import pull_back
from theory.derivation.indexed import Piece, Program, indices, range_of
from theory.derivation.noise import query_noise
from theory.errors import NoTheoryError
from theory.rules.base import Rule

k, l, a, c, d, b, t, x, z, m, n = indices("k l a c d b t x z m n")
SIGMA = microscopic.SIGMA
BOUNDLESS = (
    "an inner step on J moves it by O(1) on a support of P = ρN examples and hardly on P = O(1): "
    "give the rule a field support_ratio and set rule.support_ratio, or set rule.support"
)


@dataclass(frozen=True)
class Examples:
    """The support or the query set, as far as averages over it are concerned."""

    role: str
    finite: bool = False


@dataclass(frozen=True)
class SymbolicTask:
    """The two sets of examples that a rule's statement names."""

    support: Examples
    query: Examples


@dataclass(frozen=True)
class Vector:
    """A quantity per learner unit, affine in the task; entry(k) is its indexed expression."""

    entry: Callable[[Symbol], Expr]

    def __add__(self, other: Vector) -> Vector:
        return Vector(lambda at: self.entry(at) + other.entry(at))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(lambda at: self.entry(at) - other.entry(at))

    def __mul__(self, factor: Any) -> Vector:
        return Vector(lambda at: factor * self.entry(at))

    __rmul__ = __mul__

    def __truediv__(self, number: Any) -> Vector:
        return self * (1 / number)

    def __neg__(self) -> Vector:
        return self * (-1)


@dataclass(frozen=True)
class Fields:
    """Covariance of the fields (per task where ``lead`` says so) and its two-point averages."""

    base: IndexedBase
    lead: tuple[Symbol, ...]
    diagonal: IndexedBase
    I2: IndexedBase

    def covariance(self, p: Symbol, q: Symbol) -> Expr:
        """⟨x_p x_q⟩."""
        return self.diagonal[(*self.lead, p)] if p == q else self.base[(*self.lead, p, q)]


@dataclass(frozen=True)
class SymbolicNetwork:
    """A network in a derivation: head W (affine in the task), fields, and J' = map·(J, B)."""

    derivation: Derivation
    head_base: IndexedBase
    covariance: IndexedBase
    fields: Fields
    map: IndexedBase | None = None
    steps: int = 0
    spread: IndexedBase | None = None
    support_rates: tuple[Any, ...] = ()
    support_start: SymbolicNetwork | None = None
    planned: Fields | None = None

    @property
    def head_name(self) -> str:
        return str(self.head_base.label)

    @property
    def head(self) -> Vector:
        """w', as an expression affine in the task."""
        return self.derivation.vector(self.head_base)

    def descend(
        self, examples: Examples, *, head: Any = 0, representation: Any = 0
    ) -> SymbolicNetwork:
        """One gradient step on the mean loss of the support set."""
        return self.derivation.descend(self, examples, head, representation)

    def fit_head(self, examples: Examples, *, ridge: Any = 0) -> SymbolicNetwork:
        """The head that minimises the mean loss, plus (ridge/2)‖w‖²."""
        return self.derivation.fit_head(self, examples, ridge)

    def fit_deviation(self, examples: Examples, *, penalty: Any) -> SymbolicNetwork:
        """The head and the deviation that minimise the mean loss plus (penalty/2)‖δ‖²."""
        return self.derivation.fit_deviation(self, penalty)

    def head_descent(self, examples: Examples) -> Vector:
        """−∂loss/∂w, averaged over fields."""
        return self.derivation.vector(self.derivation.head_descent(self))

    def with_head(self, head: Vector) -> SymbolicNetwork:
        """The same network with another head."""
        return self.derivation.with_head(self, head)


class Derivation:
    """The definitions that a rule's statement leaves behind while it runs."""

    def __init__(self, rule: Rule, numbers: Rule, blocks: bool, linear: bool) -> None:
        self.rule, self.program = rule, Program()
        self.block, self.linear = (b,) if blocks else (), linear
        self.exact = getattr(rule, "order", "first") == "exact"
        self.per_task = getattr(numbers, "support_ratio", None) is not None
        self.one_task = numbers.one_task and not numbers.adapts  # no axis over tasks is needed
        ratio = getattr(numbers, "support_ratio", None)
        self.extensive = (
            sympy.Symbol("support_ratio") if ratio not in (None, float("inf")) else None
        )
        support = getattr(numbers, "support", None)
        self.support = sympy.Symbol("support", nonnegative=True)
        finite = numbers.adapts and support not in (None, float("inf"))
        self.task = SymbolicTask(Examples("support", finite), Examples("query"))
        self.held: set[str] = set()
        self.corrections: tuple[str, ...] = ()
        self._inputs(blocks)

    def _inputs(self, blocks: bool) -> None:
        program, lead = self.program, "b" if self.block else ""
        self.Q, self.R = program.input("Q", lead + "kl"), program.input("R", lead + "km")
        self.w = program.input("w", "k")
        self.T, self.TT = program.input("T", lead + "mn"), program.input("TT", lead + "mn")
        if blocks:
            self.variance, self.fraction = (
                program.input("variance", "b"),
                program.input("fraction", "b"),
            )
        self.heads, self.weight = program.input("heads", "tm"), program.input("weight", "t")
        self.U, self.constant = program.input("U", "xz"), program.input("constant", "x")
        self.mean_task, self.unit = program.input("mean_task", "x"), program.input("unit", "mx")
        self.task_vector = program.input("task_vector", "tx")
        self.teacher_head = program.input("teacher_head", "m")

    def vector(self, base: IndexedBase) -> Vector:
        """A quantity per learner unit as a vector."""
        return Vector(lambda unit: base[self.at(unit)])

    def at(self, *units: Symbol) -> tuple[Symbol, ...]:
        """Indices of a quantity affine in the task: (k, x); (k,) of the only one, or (t, k) where
        kept per task."""
        if self.per_task:
            return (t, *units)
        return units if self.one_task else (*units, x)

    def initial_network(self) -> SymbolicNetwork:
        """The network that the inner loop starts from: head w, covariance C of the fields."""
        program, block = self.program, self.block
        parts = (
            ((*block, k, l), self.Q[(*block, k, l)]), ((*block, k, n), self.R[(*block, k, n)]),
            ((*block, n, k), self.R[(*block, k, n)]), ((*block, m, n), self.TT[(*block, m, n)]),
        )  # fmt: skip
        ranges = (*(["L"] if block else []), "N", "N")
        self.covariance = program.define("C_block" if block else "C", *parts, ranges=ranges)
        if not self.per_task:
            head = self.w
            if not self.one_task:
                head = program.define("w_initial", ((k, x), self.w[k] * self.constant[x]))
            return SymbolicNetwork(self, head, self.covariance, self._fields(self.covariance, ()))
        head = program.define("w_initial", ((t, k), self.w[k]))
        own = program.define(
            f"{self.covariance.label}_task", ((t, *block, a, c), self.covariance[(*block, a, c)])
        )
        return SymbolicNetwork(self, head, own, self._fields(own, (t,)))

    def _fields(self, covariance: IndexedBase, lead: tuple[Symbol, ...], kept: Any = 1) -> Fields:
        """Covariance of the fields summed over blocks (the share ``kept`` of each), its diagonal
        and I2."""
        program, base = self.program, covariance
        if self.block:
            total = kept * self.variance[b] * covariance[(*lead, b, a, c)]
            base = program.define("C", ((*lead, a, c), total))
        elif kept != 1:
            base = program.define("C_kept", ((*lead, a, c), kept * covariance[(*lead, a, c)]))
        diagonal = program.define("V", ((*lead, a), base[(*lead, a, a)]))
        average = Average(((0,), (0,)))(
            diagonal[(*lead, a)], base[(*lead, a, c)], diagonal[(*lead, c)]
        )
        I2 = program.define("I2", ((*lead, a, c), average), symmetric=True)
        return Fields(base, lead, diagonal, I2)

    def residual_weights(self, network: SymbolicNetwork) -> IndexedBase:
        """s = (−w', u) over all fields."""
        return self.program.define(
            "s", (self.at(k), -network.head_base[self.at(k)]), (self.at(n), self.teacher()),
            ranges=["N" if i == k else range_of(i) for i in self.at(k)],
        )  # fmt: skip

    def teacher(self) -> Expr:
        """u_n, the head of the teacher."""
        if self.per_task:
            return self.heads[t, n]
        return self.teacher_head[n] if self.one_task else self.unit[n, x]

    def head_descent(self, network: SymbolicNetwork) -> IndexedBase:
        """e_k = ⟨Δ g_k⟩ = Σ_c s_c I2(k, c), minus the gradient of the averaged loss."""
        s, fields = self.residual_weights(network), network.fields
        expression = fields.I2[(*fields.lead, k, c)] * s[self.at(c)]
        return self.program.define("e", (self.at(k), expression))

    def with_head(self, network: SymbolicNetwork, head: Vector) -> SymbolicNetwork:
        base = self.program.define("w_adapted", (self.at(k), head.entry(k)))
        return replace(network, head_base=base)

    def descend(
        self, network: SymbolicNetwork, examples: Examples, head: Any, representation: Any
    ) -> SymbolicNetwork:
        if examples.finite:
            return finite_head.step(self, network, head, representation)
        if representation != 0 and not self.per_task:
            raise NoTheoryError(BOUNDLESS)
        if self.extensive is not None and network.steps:
            raise NoTheoryError(
                "several inner steps on one support of finite ratio do not close: "
                "set rule.inner_steps = 1 or rule.support_ratio = inf"
            )
        descent = self.vector(self.head_descent(network))
        stepped = self.with_head(network, network.head + descent * head)
        if representation != 0:
            stepped = self._move_representation(stepped, network, representation)
        return replace(stepped, steps=network.steps + 1)

    def _move_representation(
        self, stepped: SymbolicNetwork, network: SymbolicNetwork, eta: Any
    ) -> SymbolicNetwork:
        """J' = G·(J, B) after one gradient step on the averaged support loss, per task."""
        program, lead = self.program, (t, *self.block)
        error = str(self.task_error(network, "support_error").label)
        moved = str(network.covariance.label)
        bar = pull_back(program, {error: Piece((t,), sympy.Integer(1))}, {moved},
                        held={network.head_name})[moved]  # fmt: skip
        at, G = (*lead, k, a), network.map
        slope = program.define("A", (at, bar[(*lead, k, a)] + bar[(*lead, a, k)]))
        if G is None:
            new = program.define("G", (at, -eta * slope[at]), ((*lead, k, k), sympy.Integer(1)))
        else:
            through = G[at] - eta * slope[(*lead, k, l)] * G[(*lead, l, a)]
            new = program.define("G", (at, through), ((*lead, k, n), -eta * slope[(*lead, k, n)]))
        return self._moved_fields(stepped, network, new, eta)

    def _moved_fields(
        self, stepped: SymbolicNetwork, network: SymbolicNetwork, G: IndexedBase, eta: Any
    ) -> SymbolicNetwork:
        """Covariance of the fields of J' = G·(J, B); a support of finite ratio adds noise."""
        program, block, lead = self.program, self.block, (t, *self.block)
        C = self.covariance
        GC = program.define("GC", ((*lead, k, c), G[(*lead, k, a)] * C[(*block, a, c)]))
        pieces: list[tuple[tuple[Symbol, ...], Expr]] = [
            ((*lead, k, l), GC[(*lead, k, a)] * G[(*lead, l, a)]),
            ((*lead, k, n), GC[(*lead, k, n)]),
            ((*lead, n, k), GC[(*lead, k, n)]),
            ((*lead, m, n), self.TT[(*block, m, n)]),
        ]
        if self.extensive is not None:
            S = query_noise(self, network, per_task=True)
            pieces.append(((*lead, k, l), eta**2 / self.extensive * self.share() * S[t, k, l]))
            self.inner_noise_rate, self.support_network = eta, network
        covariance = program.define(
            f"{C.label}_adapted", *pieces, ranges=("tasks", *(["L"] if block else []), "N", "N")
        )
        return replace(stepped, covariance=covariance, map=G, fields=self._fields(covariance, (t,)))

    def share(self) -> Expr:
        """f_b λ_b, the share of a block of coordinates in the noise; 1 for iid inputs."""
        return self.fraction[b] * self.variance[b] if self.block else sympy.Integer(1)

    def task_error(self, network: SymbolicNetwork, name: str) -> IndexedBase:
        """½⟨Δ²⟩ of one task."""
        s, fields = self.residual_weights(network), network.fields
        half = sympy.Rational(1, 2)
        value = half * s[t, a] * s[t, c] * fields.I2[(*fields.lead, a, c)]
        return self.program.define(name, ((t,), value))

    def objective(self, adapted: SymbolicNetwork) -> IndexedBase:
        """What the outer loop descends: the error, or the penalised loss of a deviation."""
        if adapted.planned is None:
            return self.error(adapted)
        return self.error(replace(adapted, fields=adapted.planned), "objective")

    def error(self, adapted: SymbolicNetwork, name: str = "error") -> IndexedBase:
        """½⟨Δ²⟩ on new queries, averaged over tasks and supports."""
        program = self.program
        if self.per_task:
            error = self.task_error(adapted, "task_error")
            return program.define(name, ((), self.weight[t] * error[t]))
        s = self.residual_weights(adapted)
        product = s[a] * s[c] if self.one_task else s[a, x] * self.U[x, z] * s[c, z]
        pieces = [((a, c), product)]
        if adapted.spread is not None:
            pieces.append(((k, l), adapted.spread[k, l]))
        M = program.define("s2", *pieces, symmetric=True, meaning="second moment of s over tasks")
        self.moments, self.s = M, s
        (pair,) = microscopic.field_average(
            microscopic.loss_of_examples(a, c), adapted.fields.covariance
        )
        half = pair[0] / (microscopic.s[a] * microscopic.s[c])
        return program.define(name, ((), half * M[a, c] * adapted.fields.I2[a, c]))

    def fit_head(self, network: SymbolicNetwork, examples: Examples, ridge: Any) -> SymbolicNetwork:
        if examples.finite:
            raise NoTheoryError(few_examples.FITTED)
        program, fields = self.program, network.fields
        lead = fields.lead
        gram = program.define(
            "gram",
            ((*lead, k, l), fields.I2[(*lead, k, l)]),
            ((*lead, k, k), sympy.sympify(ridge, strict=True)),
        )
        inverse = program.define(
            "gram_inverse", ((*lead, k, l), gram[(*lead, k, l)]), external="pinv"
        )
        value = fields.I2[(*lead, k, n)] * self.teacher()
        target = program.define("target", (self.at(k), value))
        fitted = Vector(lambda at: inverse[(*lead, at, l)] * target[self.at(l)])
        return replace(self.with_head(network, fitted), steps=network.steps + 1)

    def fit_deviation(self, network: SymbolicNetwork, penalty: Any) -> SymbolicNetwork:
        """Head w and deviation δ at the minimum of the mean loss plus (λ/2)‖δ‖².

        δ_b = λ_b/(λ_b + λ) · residual, which leaves the share q_b = λ/(λ_b + λ) of every field:
        the loss with its penalty is ½⟨Δ²⟩ in the metric q_b λ_b, the error that in q_b² λ_b.
        """
        if self.block:
            q = self.program.define("kept", ((b,), penalty / (self.variance[b] + penalty)))[b]
        else:
            q = penalty / (1 + penalty)
        planned = self._fields(network.covariance, (), q)
        fitted = self.fit_head(replace(network, fields=planned), self.task.support, 0)
        left = self._fields(network.covariance, (), q**2)
        return replace(fitted, fields=left, planned=planned)

    def over_tasks(self, expression: Expr) -> Expr:
        """∂ε/∂w from the adjoint of the adapted head: every task has the same w."""
        return expression * self.constant[x] if x in self.at(k) else expression

    def mean(self, vector: Vector) -> Expr:
        """The mean over tasks of a quantity affine in the task."""
        if self.per_task:
            return self.weight[t] * vector.entry(k)
        return sympy.expand(vector.entry(k) * (1 if self.one_task else self.mean_task[x]))
