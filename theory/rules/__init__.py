"""The learning rules, one file each, found by name."""

from importlib.metadata import entry_points

from theory.rules.anil import Anil
from theory.rules.average_risk import AverageRisk
from theory.rules.base import MetaRule, Rule
from theory.rules.frozen_representation import FrozenRepresentation
from theory.rules.maml import Maml
from theory.rules.sgd import Sgd

SHIPPED: tuple[type[Rule], ...] = (Sgd, AverageRisk, Anil, Maml, FrozenRepresentation)


def registered() -> dict[str, type[Rule]]:
    """All rules by name: those shipped, then those of the entry-point group ``macrodyn.rules``."""
    rules = {rule.name: rule for rule in SHIPPED}
    for point in entry_points(group="macrodyn.rules"):
        rules.setdefault(point.name, point.load())
    return rules


__all__ = ["SHIPPED", "MetaRule", "Rule", "registered", "Anil", "AverageRisk", "FrozenRepresentation",
           "Maml", "Sgd"]
