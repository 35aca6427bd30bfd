"""The learning rules, one file each, found by name."""

from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points

from theory.rules.adapt_representation import AdaptRepresentation
from theory.rules.anil import Anil
from theory.rules.average_risk import AverageRisk
from theory.rules.base import MetaRule, Rule
from theory.rules.frozen_representation import FrozenRepresentation
from theory.rules.maml import Maml
from theory.rules.sgd import Sgd

SHIPPED: tuple[type[Rule], ...] = (
    Sgd,
    AverageRisk,
    Anil,
    Maml,
    FrozenRepresentation,
    AdaptRepresentation,
)

_NAMES = frozenset(entry.name for rule in SHIPPED for entry in fields(rule))


def argument(name: str) -> str:
    """What a number of a rule is called in its equations and in their code.

    A name that a rule brings along may mean something there already (s, e, weight, pi).
    """
    return name if name in _NAMES else f"rate_{name}"


@cache
def _installed() -> dict[str, type[Rule]]:
    return {point.name: point.load() for point in entry_points(group="macrodyn.rules")}


def registered() -> dict[str, type[Rule]]:
    """All rules by name: those shipped, then those of the entry-point group ``macrodyn.rules``."""
    shipped = {rule.name: rule for rule in SHIPPED}
    return {**shipped, **_installed(), **shipped}


__all__ = [
    "SHIPPED",
    "AdaptRepresentation",
    "Anil",
    "AverageRisk",
    "FrozenRepresentation",
    "Maml",
    "MetaRule",
    "Rule",
    "Sgd",
    "argument",
    "registered",
]
