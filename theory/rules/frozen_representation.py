"""Frozen representation: every task gets its own best head."""

from dataclasses import dataclass
from typing import Any, ClassVar

from theory.rules.base import MetaRule


@dataclass(frozen=True, kw_only=True)
class FrozenRepresentation(MetaRule):
    """The head is fitted by least squares on each task, the representation is not adapted.

    Source: Chua, Lei & Lee, arXiv:2105.02221 (the frozen learner).
    """

    name: ClassVar[str] = "frozen-representation"

    def adapt(self, network: Any, task: Any) -> Any:
        return network.fit_head(task.support)
