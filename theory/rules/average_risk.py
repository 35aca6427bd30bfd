"""Average-risk minimisation: gradient descent on a fresh task at every step, unadapted."""

from dataclasses import dataclass
from typing import ClassVar

from theory.rules.base import Rule


@dataclass(frozen=True, kw_only=True)
class AverageRisk(Rule):
    """Gradient descent on the loss averaged over tasks; the baseline without an inner loop."""

    name: ClassVar[str] = "average-risk"
