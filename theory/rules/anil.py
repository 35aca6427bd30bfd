"""ANIL: the inner loop adapts the head alone."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from theory.rules.base import MetaRule, choice, rate

NOISES = ("cubature", "gaussian-closure")


@dataclass(frozen=True, kw_only=True)
class Anil(MetaRule):
    """Almost no inner loop: gradient steps on the head, at a frozen representation.

    Source: Raghu et al. (2020), as analysed by Collins et al., arXiv:2202.03483. The flow of the
    nonlinear network is a reconstruction: the equations of arXiv:2408.12545 were not available.
    """

    name: ClassVar[str] = "anil"

    inner_rate: float = rate("η_in, inner rate of the head")
    inner_steps: int = field(
        default=1, metadata={"doc": "inner steps", "minimum": 0, "integer": True, "unrolled": True}
    )
    noise: str = choice("noise of the outer loop at finite support", NOISES)

    def adapt(self, network: Any, task: Any) -> Any:
        for _ in range(self.inner_steps):
            network = network.descend(task.support, head=self.inner_rate)
        return network
