"""An outer step on O(1) examples in powers of 1/N, from the rule's own statement.

J enters a step through its fields x on the step's examples alone. An inner step on J along
(η/(P√N)) Σ_p c_p ξ_p moves the field of example q by (η/P) Σ_p c_p o_pq with o_pq = ξ_p·ξ_q/N, so
that all that a step averages is a function F(o). Of an input, the part in the span of J and B is
given by the n fields and the rest is independent of them:

    N o_pq = x_pᵀ C⁻¹ x_q + ξ⊥_p·ξ⊥_q,    ⟨o_pq⟩ = δ_pq + (x_pᵀ C⁻¹ x_q − n δ_pq)/N,
    Var o_pq = (1 + δ_pq)(1/N − n/N²),    ⟨F⟩ = ⟨F(1)⟩ + O(1/N):

a slope of F in o meets a mean of order 1/N, a curvature a variance of order 1/N. The flow of a rule
is therefore that of its adapted head alone where F(1) does not notice that J moved. (Structured
inputs: o_pq is a sum over blocks, of the same orders.) Source: derived here, checked by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sympy
from sympy import Expr, ImmutableDenseMatrix, IndexedBase

from theory.derivation import microscopic
from theory.derivation.differentiation import slope_of
from theory.errors import NoTheoryError
from theory.rules.base import Rule

h, w, y, x, o = (IndexedBase(name) for name in "hwyxo")
MOVED = (
    "several inner steps of the representation on one support of O(1) examples have no closed "
    "theory: set rule.inner_steps = 1 or rule.support_ratio = inf"
)

FITTED = "a head fitted on a finite support has no closed theory: set rule.support = inf"


class Unit(sympy.Function):
    """g⁽ʳ⁾(x) as Unit(r, x), for any g."""

    nargs = 2

    def fdiff(self, argindex: int = 2) -> Expr:
        order, at = self.args
        return Unit(order + 1, at)


@dataclass(frozen=True)
class ExampleNetwork:
    """A network on a few examples: head (K, 1) and fields (E, K), as expressions.

    ``still``: steps on J are left out; ``moved``: whether there were any.
    """

    head: ImmutableDenseMatrix
    fields: ImmutableDenseMatrix
    still: bool
    moved: bool = False

    def at(self, expression: Expr, example: int) -> Expr:
        """An expression in h_k, w_k and y at this network and example."""
        known = {y[0]: y[example]}
        for k, weight in enumerate(self.head):
            known |= {h[k]: self.fields[example, k], w[k]: weight}
        return expression.xreplace(known)

    def loss(self, examples: range) -> Expr:
        """The mean loss on the examples."""
        one = microscopic.loss(y[0] - sum(w[k] * Unit(0, h[k]) for k in range(len(self.head))))
        return sympy.Add(*(self.at(one, e) for e in examples)) / len(examples)

    def descent(self, examples: range, variable: IndexedBase) -> ImmutableDenseMatrix:
        """−∂loss/∂h or −∂loss/∂w of every example (E, K), with the weights of the mean loss."""
        K = len(self.head)
        loss = self.start.loss(range(1))
        of_one = [-slope_of(loss, variable[k]) / len(examples) for k in range(K)]
        rows = [[self.at(c, e) for c in of_one] if e in examples else [0] * K
                for e in range(self.fields.rows)]  # fmt: skip
        return ImmutableDenseMatrix(rows)

    @property
    def start(self) -> ExampleNetwork:
        """The network of this size whose head is w and whose first example has the fields h."""
        K = len(self.head)
        head = ImmutableDenseMatrix(K, 1, lambda k, _: w[k])
        return replace(self, head=head, fields=ImmutableDenseMatrix(1, K, lambda _, k: h[k]))

    def descend(self, examples: range, *, head: Any = 0, representation: Any = 0) -> ExampleNetwork:
        """One gradient step on the mean loss of the examples.

        Raises NoTheoryError where an earlier step has moved their own fields at leading order.
        """
        if self.moved and any(leading(self.fields[e, k]) != x[e, k]
                              for e in examples for k in range(self.fields.cols)):  # fmt: skip
            raise NoTheoryError(MOVED)
        stepped = self.head + head * self.head_descent(examples)
        if representation == 0 or self.still:
            return replace(self, head=stepped)
        overlap = ImmutableDenseMatrix(self.fields.rows, self.fields.rows, overlap_of)
        fields = self.fields + representation * overlap * self.descent(examples, h)
        return replace(self, head=stepped, fields=fields, moved=True)

    def fit_head(self, examples: range, *, ridge: Any = 0) -> ExampleNetwork:
        """Raises NoTheoryError: its mean over supports is not known."""
        raise NoTheoryError(FITTED)

    def head_descent(self, examples: range) -> ImmutableDenseMatrix:
        """−∂loss/∂w."""
        of_each = self.descent(examples, w)
        return of_each.T * sympy.ones(of_each.rows, 1)


def overlap_of(p: int, q: int) -> Expr:
    """o_pq = ξ_p·ξ_q/N, the same for (q, p)."""
    return o[min(p, q), max(p, q)]


@dataclass(frozen=True)
class Examples:
    """The examples of a step by number, as a rule's statement names them."""

    support: range
    query: range


def outer_step(
    rule: Rule, *, units: int = 2, support: int = 2, query: int = 1, still: bool = False
) -> dict[str, tuple[Expr, ...]]:
    """What the flow averages of one outer step, in fields x, labels y, head w and overlaps o.

    "drift": c_ka for every unit and example, of which the drift is ⟨Σ_a c_ka x_a⟩; "noise":
    Σ_ab c_ka c_lb o_ab for all pairs; "head": its step. ``still`` leaves out steps on J.
    """
    E = support + query
    task = Examples(range(support), range(support, E))
    head = ImmutableDenseMatrix(units, 1, lambda k, _: w[k])
    start = ExampleNetwork(head, ImmutableDenseMatrix(E, units, lambda e, k: x[e, k]), still)
    adapted = rule.adapt(start, task)
    if getattr(rule, "order", "first") == "exact":
        loss = adapted.loss(task.query)
        c = ImmutableDenseMatrix(E, units, lambda e, k: -slope_of(loss, x[e, k]))
        down = ImmutableDenseMatrix(units, 1, lambda k, _: -slope_of(loss, w[k]))
    else:
        c, down = adapted.descent(task.query, h), adapted.head_descent(task.query)
    custom = rule.head_step(start, adapted, task)
    overlap = ImmutableDenseMatrix(E, E, overlap_of)
    return {
        "drift": tuple(c),
        "noise": tuple(c.T * overlap * c),
        "head": tuple(down if custom is None else custom),
    }


def leading(value: Expr) -> Expr:
    """A value at N → ∞, where different inputs are orthogonal: o_pq = δ_pq."""
    return value.xreplace({
        entry: sympy.Integer(entry.indices[0] == entry.indices[1])
        for entry in value.atoms(sympy.Indexed) if entry.base == o
    })  # fmt: skip


def corrections(rule: Rule) -> tuple[str, ...]:
    """Which of drift, noise and head notice that J moved: by O(1/N), and not at leading order.

    Raises NoTheoryError where they do at leading order, as after several steps on one support:
    o_pp = 1, so that the support's own fields move by O(1).
    """
    step, alone = outer_step(rule), outer_step(rule, still=True)
    for name, values in step.items():
        if tuple(map(leading, values)) != tuple(map(leading, alone[name])):
            raise NoTheoryError(MOVED)
    return tuple(name for name in step if step[name] != alone[name])
