"""The head that is adapted on a finite support: its mean and its spread over supports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Expr, IndexedBase

from theory.derivation import few_examples, microscopic
from theory.derivation.indexed import indices
from theory.derivation.wishart import SupportMoments
from theory.errors import NoTheoryError

if TYPE_CHECKING:
    from theory.derivation.symbolic_network import Derivation, SymbolicNetwork

k, l, a, c, x, z = indices("k l a c x z")
MOST_STEPS = 3
"""Terms grow fourfold with every step on one support: 22 at two steps, 102 at three."""
SEVERAL = (
    "several inner steps on one finite support have no closed theory but for linear units: "
    "set rule.inner_steps = 1, rule.support = inf, or model.activation = linear"
)
MANY = (
    f"more than {MOST_STEPS} inner steps on one finite support are not worked out: "
    f"set rule.inner_steps to at most {MOST_STEPS}, or rule.support = inf"
)
MIXED = (
    "steps on one finite support after another adaptation have no closed theory: "
    "set rule.support = inf"
)
NOISE = (
    "the noise of several inner steps on one finite support has no closed theory: set "
    "rule.inner_steps = 1, rule.support = inf, or rule.regime = gradient-flow or population"
)
RATE = (
    "the noise at finite support is worked out for one step at the rate rule.inner_rate: call the "
    "rate so in the rule, or set rule.support = inf or rule.regime = gradient-flow"
)


def step(
    derivation: Derivation, network: SymbolicNetwork, rate: Any, representation: Any
) -> SymbolicNetwork:
    """One more gradient step on the finite support that the rule is given.

    A step on J changes the flow by O(1/N), as the rule's own statement shows or refuses.
    """
    rates = (*network.support_rates, rate)
    if representation != 0:
        derivation.corrections = few_examples.corrections(derivation.rule)
    if len(rates) != network.steps + 1:
        raise NoTheoryError(MIXED)
    if len(rates) > 1 and not derivation.linear:
        raise NoTheoryError(SEVERAL)
    if len(rates) > MOST_STEPS:
        raise NoTheoryError(MANY)
    start = network.support_start or network
    descent = derivation.head_descent(start)
    if len(rates) == 1:
        moved = derivation.with_head(start, start.head + derivation.vector(descent) * rate)
        spread = _after_one(derivation, start, descent, rate)
    else:
        square = _second_moment(derivation, start)[a, c] * start.fields.I2[a, c]
        square += microscopic.SIGMA**2
        moments = SupportMoments(
            derivation.program, start.fields.base, descent, square, derivation.U,
            derivation.support, rates,
        )  # fmt: skip
        displacement = derivation.vector(moments.drift)
        moved = derivation.with_head(start, start.head + displacement)
        spread = moments.spread
    base = derivation.program.define(
        "w_spread", ((k, l), spread), paired=True,
        meaning="covariance of the adapted head over supports",
    )  # fmt: skip
    derivation.held.add(str(base.label))
    return replace(
        moved, spread=base, steps=network.steps + 1, support_rates=rates, support_start=start
    )


def check_noise(network: SymbolicNetwork) -> None:
    """Refuse the noise of an adaptation that the cubature over supports does not know."""
    if len(network.support_rates) > 1:
        raise NoTheoryError(NOISE)
    if network.support_rates != (sympy.Symbol("inner_rate", nonnegative=True),):
        raise NoTheoryError(RATE)


def _second_moment(derivation: Derivation, start: SymbolicNetwork) -> IndexedBase:
    """⟨s_a s_c⟩ over tasks before the inner loop."""
    s = derivation.residual_weights(start)
    value = s[a, x] * derivation.U[x, z] * s[c, z]
    return derivation.program.define("s2_initial", ((a, c), value), symmetric=True)


def _after_one(
    derivation: Derivation, start: SymbolicNetwork, descent: IndexedBase, rate: Any
) -> Expr:
    """Mean over u of Cov(w'|u) = (η²/P)(⟨z zᵀ⟩ − ⟨z⟩⟨z⟩ᵀ), z_k = Δ g_k on one example."""
    program, fields = derivation.program, start.fields
    M = _second_moment(derivation, start)
    x_, g = microscopic.x, microscopic.g
    z2 = microscopic.residual(a) * microscopic.residual(c) * g(x_[k]) * g(x_[l])
    pieces: list[Expr] = []
    for weight, average in microscopic.field_average(z2, fields.covariance):
        if len(average.signature) == 2:
            pieces.append(weight * fields.I2[k, l])
            continue
        A4 = program.define("A4", ((k, l, a, c), average), paired=True)
        pieces.append(M[a, c] * A4[k, l, a, c])
    outer = program.define("e_outer", ((k, l), descent[k, x] * derivation.U[x, z] * descent[l, z]))
    return rate**2 / derivation.support * (sympy.Add(*pieces) - outer[k, l])
