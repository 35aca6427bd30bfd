"""What the engine is asked for beside a rule, and what it refuses; nothing here needs sympy."""

from __future__ import annotations

from dataclasses import dataclass

from theory.activations import Activation, linear
from theory.errors import NoTheoryError
from theory.rules.base import Rule


@dataclass(frozen=True)
class Structure:
    """What changes the equations themselves, beside the rule: each combination is one flow."""

    blocks: bool = False
    """Structured inputs: order parameters carry a leading block index."""
    heads: bool = False
    """Tasks come from a finite set of heads, not from a Gaussian."""
    linear: bool = False
    """Units are linear, so that the moments of a finite support close by Wick's theorem."""


PLAIN = Structure()
"""Unstructured inputs, Gaussian tasks, any units."""


def notes(rule: Rule) -> tuple[str, ...]:
    """What is approximate, or our own reconstruction, in the flow of a rule: a sentence each."""
    found = []
    if rule.adapts and rule.regime == "streaming":
        found.append("the flow of this rule was reconstructed for this package, "
                     "no published equations of the nonlinear network being available")  # fmt: skip
    finite = is_finite(getattr(rule, "support", None))
    if finite and getattr(rule, "noise", "") == "gaussian-closure":
        found.append("the noise at finite support is closed by a Gaussian (gaussian-closure), "
                     "which is wrong by 5 to 65 % of the noise at P ≤ 10")  # fmt: skip
    if finite and hasattr(rule, "support_ratio"):
        found.append("with O(1) support examples maml moves query fields by O(1/√N): "
                     "the flow is that of anil at leading order")  # fmt: skip
    return tuple(found)


def is_finite(support: float | None) -> bool:
    return support is not None and support != float("inf")


def check_units(rule: Rule, activation: Activation) -> None:
    """Refuse units for which the flow of a rule does not exist.

    The total derivative through steps on J needs g'' on single examples, whose square has no
    average where g has a kink, or second derivatives of averages, infinite where fields coincide.
    """
    if rule.linear_only and activation != linear:
        raise NoTheoryError(
            f"rule {rule.name!r} has a theory for linear networks alone: "
            "set model.activation = linear"
        )
    moves = getattr(rule, "support_ratio", None) is not None
    if moves and getattr(rule, "order", "first") == "exact" and activation.has_kinks:
        raise NoTheoryError(
            "the exact order of inner steps on J needs the second derivative of g, which "
            f"{activation.name} does not have: set rule.order = first or rule.support"
        )
