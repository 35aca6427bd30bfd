"""Online gradient descent on the examples of one teacher, and of a stream of tasks."""

from dataclasses import dataclass
from typing import ClassVar

from theory.rules.base import Rule


@dataclass(frozen=True, kw_only=True)
class Sgd(Rule):
    """Online gradient descent on one teacher: no task variation, no inner loop.

    Source: Saad & Solla, Phys. Rev. E 52, 4225 (1995); with a trained head, Goldt et al. (2019).
    """

    name: ClassVar[str] = "sgd"
    one_task: ClassVar[bool] = True
