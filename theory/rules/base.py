"""What a learning rule is: named rates and the statement of its algorithm, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

REGIMES = ("streaming", "gradient-flow", "population")
ORDERS = ("first", "exact")
LIMITS = ("minimum", "above", "integer", "infinite")
"""What may be demanded of the values of a rate."""


class Network(Protocol):
    """The learner inside a rule's statement: a two-layer network that can be adapted.

    The flow, the simulation and the Monte-Carlo check each bring their own ``Network``; a rule is
    written once against this vocabulary and runs in all of them.
    """

    @property
    def head(self) -> Any:
        """The head w, which can be added, subtracted and multiplied by numbers."""
        ...

    def descend(self, examples: Any, *, head: Any = 0, representation: Any = 0) -> Self:
        """One step of gradient descent on the mean loss of ``examples``, at the given rates."""
        ...

    def fit_head(self, examples: Any, *, ridge: Any = 0) -> Self:
        """The head that minimises the mean loss on ``examples`` plus (ridge/2)‖w‖²."""
        ...

    def fit_deviation(self, examples: Any, *, penalty: Any) -> Self:
        """The head, and the deviation δ of a linear network's function, that minimise the mean
        loss on ``examples`` plus (penalty/2)‖δ‖²."""
        ...

    def head_descent(self, examples: Any) -> Any:
        """Minus the gradient of the mean loss on ``examples`` with respect to the head."""
        ...


class Task(Protocol):
    """One task: the examples that the inner and the outer loop are given."""

    @property
    def support(self) -> Any:
        """The support set of the inner loop."""
        ...

    @property
    def query(self) -> Any:
        """The query set of the outer loop."""
        ...


def rate(doc: str, **limits: Any) -> Any:
    """A field of a rule that stays an argument of the generated code. Default: required.

    ``limits``: default, minimum (0 unless given), above, integer, infinite (allowed). Raises
    TypeError for others.
    """
    default = limits.pop("default", None)
    if unknown := set(limits) - set(LIMITS):
        raise TypeError(f"a rate has no limit {min(unknown)!r}: there are {', '.join(LIMITS)}")
    metadata = {"doc": doc, "minimum": 0.0, **limits}
    return (
        field(metadata=metadata) if default is None else field(default=default, metadata=metadata)
    )


def choice(doc: str, values: tuple[str, ...]) -> Any:
    """A field that selects an equation; the first value is the default."""
    return field(default=values[0], metadata={"doc": doc, "values": values})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A learning rule: its numbers, and its algorithm stated in ``adapt`` and ``head_step``.

    One outer step draws ``tasks_per_step`` tasks with ``query`` examples each and moves

        J_k ← (1 − κ/N) J_k + (η_J/√N) · mean c_k ξ,      c_k = −∂loss/∂h_k,
        w_k ← w_k + (η_w/N) · mean (head_step)_k,

    with the loss ½(f − y)² taken at the network that ``adapt`` returns. Order "first" treats the
    displacement made by ``adapt`` as a constant, order "exact" takes the total derivative.
    """

    name: ClassVar[str]
    adapts: ClassVar[bool] = False
    """Whether there is an inner loop."""
    one_task: ClassVar[bool] = False
    """Whether the rule learns from a single teacher (head covariance 0)."""
    linear_only: ClassVar[bool] = False
    """Whether the rule has a theory for linear networks alone."""

    outer_rate: float = rate("η_J, outer rate of the representation")
    head_rate: float = rate("η_w, outer rate of the head (0 keeps it fixed)", default=0.0)
    weight_decay: float = rate("κ, weight decay of the representation", default=0.0)
    query: int = rate("V, query examples per task", default=1, minimum=1, integer=True)
    tasks_per_step: int = rate("T_b, tasks per outer step", default=1, minimum=1, integer=True)
    regime: str = choice("time and noise of the outer loop", REGIMES)

    def check(self) -> None:
        """Raises ValueError, naming the field, where fields do not go together."""

    def adapt(self, network: Any, task: Any) -> Any:
        """The inner loop: from the initial network to the one that the query loss is taken at."""
        return network

    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        """The direction in which the outer loop moves the head; the outer gradient by default."""
        return None


def named(rule: Rule) -> Any:
    """The rule with the name of each rate for its value; what selects an equation keeps its value.

    So much of a rule decides its equations: those that differ in their rates are one.
    """
    rates = {}
    for entry in fields(rule):
        value = getattr(rule, entry.name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not entry.metadata.get("unrolled") and value != float("inf"):
            rates[entry.name] = entry.name
    return replace(rule, **rates)


@dataclass(frozen=True, kw_only=True)
class MetaRule(Rule):
    """A rule with an inner loop on the support set of each task."""

    adapts: ClassVar[bool] = True

    order: str = choice("derivative through the inner loop", ORDERS)
    support: float | None = rate(
        "P, support examples per task", default=float("inf"), minimum=1, integer=True, infinite=True
    )
