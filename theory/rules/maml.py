"""MAML: the inner loop adapts the head and the representation."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from theory.rules.base import MetaRule, rate


@dataclass(frozen=True, kw_only=True)
class Maml(MetaRule):
    """Model-agnostic meta-learning: gradient steps on the whole network.

    With ``support`` = P examples the step on J is J' = J + (η/√N)·mean c ξ, which changes the flow
    by O(1/N) (``theory.derivation.few_examples``); with
    ``support_ratio`` = P/N it is J' = J + η√N·mean c ξ, which moves J by O(1).

    Source: Finn, Abbeel & Levine (2017); Collins et al., arXiv:2202.03483. The flow of the
    nonlinear network is derived for this package.
    """

    name: ClassVar[str] = "maml"

    inner_rate: float = rate("η_h, inner rate of the head")
    inner_steps: int = field(
        default=1, metadata={"doc": "inner steps", "minimum": 0, "integer": True, "unrolled": True}
    )
    support: float | None = field(
        default=None,
        metadata={"doc": "P, support examples per task", "minimum": 1, "integer": True},
    )
    support_ratio: float | None = field(
        default=None, metadata={"doc": "ρ = P/N, extensive support", "above": 0.0, "infinite": True}
    )
    representation_rate: float | None = field(
        default=None,
        metadata={
            "doc": "η, inner rate of the representation (default: inner_rate)",
            "minimum": 0.0,
        },
    )
    nodes: int | None = field(
        default=None,
        metadata={"doc": "cubature nodes per head dimension", "minimum": 1, "integer": True},
    )

    def check(self) -> None:
        if (self.support is None) == (self.support_ratio is None):
            raise ValueError("rule.support or rule.support_ratio: maml needs exactly one of them")

    def adapt(self, network: Any, task: Any) -> Any:
        rate_of_j = (
            self.inner_rate if self.representation_rate is None else self.representation_rate
        )
        for _ in range(self.inner_steps):
            network = network.descend(task.support, head=self.inner_rate, representation=rate_of_j)
        return network
