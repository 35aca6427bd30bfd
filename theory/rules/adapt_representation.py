"""Adapted representation: every task gets its own best head, and its own deviation."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from theory.rules.base import MetaRule


@dataclass(frozen=True, kw_only=True)
class AdaptRepresentation(MetaRule):
    """Fine-tuning planned for: each task fits a head w and a deviation δ from the representation.

    min over (w, δ) of the mean loss of J^T w + δ plus (λ/2)‖δ‖², to convergence. The deviation
    leaves the share λ/(λ_b + λ) of the residual in a block of input variance λ_b, so that what is
    learned is the frozen problem with the metric λ λ_b/(λ_b + λ); first and exact order agree.

    Source: Chua, Lei & Lee, arXiv:2105.02221 (the adapted learner); the penalty on the effective
    deviation as derived for this package.
    """

    name: ClassVar[str] = "adapt-representation"
    linear_only: ClassVar[bool] = True

    penalty: float = field(
        metadata={"doc": "λ, penalty of a task's deviation", "above": 0.0},
    )

    def check(self) -> None:
        if self.support != float("inf"):
            raise ValueError(
                "rule.support: a deviation fitted on a finite support has no closed theory; "
                "set rule.support = inf"
            )

    def adapt(self, network: Any, task: Any) -> Any:
        return network.fit_deviation(task.support, penalty=self.penalty)
