"""From a rule to its flow: the closed equations of its order parameters, as indexed definitions.

The rule's ``adapt`` is run on symbolic networks. The head of an adapted network is affine in the
task, w' = W û with û = (1, u), so that its moments over tasks are those of û; where the inner loop
moves the representation too, the network is kept per task instead, and a single teacher is simply
known. The averaged query loss at the
adapted network is the meta-objective; drifts are its gradients (``pull_back``), with the
displacement of the inner loop held fixed at order "first". The noise is ⟨c_k c_l⟩.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import sympy
from sympy import Expr, IndexedBase, Symbol

from theory.derivation import finite_head
from theory.derivation.differentiation import pull_back
from theory.derivation.indexed import Definition, Piece, Program, indices
from theory.derivation.noise import pushed_noise, query_noise
from theory.derivation.symbolic_network import Derivation, SymbolicNetwork, Vector
from theory.errors import NoTheoryError
from theory.rules import Rule, argument
from theory.rules.base import named
from theory.statement import PLAIN, Structure, is_finite

k, l, a, c, d, b, t, x, z, m, n = indices("k l a c d b t x z m n")
OUTER = {name: Symbol(name, nonnegative=True) for name in
         ("outer_rate", "head_rate", "weight_decay", "query", "tasks_per_step")}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Flow:
    """The closed equations of a rule: inputs, definitions in order, and which of them are outputs.

    Outputs are ``dQ`` (once per pair), ``dR``, ``dw`` and ``error``; dα-derivatives, or increments
    per step in the population regime. Everything a definition reads is an input or defined before.
    """

    rule: Rule
    structure: Structure
    program: Program
    scalars: tuple[str, ...]
    outputs: tuple[str, ...] = ("dQ", "dR", "dw", "error")
    corrections: tuple[str, ...] = ()
    """What an inner step on J from O(1) examples changes by O(1/N), which is dropped."""

    def __repr__(self) -> str:
        return f"<flow of {self.title}: {len(self.definitions)} definitions>"

    @property
    def title(self) -> str:
        """Rule, order and regime in words."""
        order = getattr(self.rule, "order", None)
        words = f"{self.rule.name}, order {order}" if order else self.rule.name
        if self.outputs == ("error",):
            return f"error after {words}"
        return f"{words}, {self.rule.regime}"

    @property
    def error_alone(self) -> Self:
        """What it takes to evaluate the error, without the flow."""
        program = self.program.needed(["error"])
        return replace(self, program=program, scalars=_scalars(program), outputs=("error",))

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """All definitions, in the order of evaluation."""
        return tuple(self.program.definitions)


def symbolic(rule: Rule) -> Rule:
    """The same rule with its rates as symbols; what selects an equation keeps its value."""
    stated = named(rule)
    rates = [f.name for f in fields(rule) if getattr(stated, f.name) == f.name]
    return replace(rule, **{n: Symbol(argument(n), nonnegative=True) for n in rates})


def _check(rule: Rule) -> None:
    """Refuse combinations of rule and regime that have no theory."""
    ratio = getattr(rule, "support_ratio", None)
    if rule.regime == "population" and is_finite(ratio):
        raise NoTheoryError(
            "an inner loop on an extensive support of finite ratio has no population map: "
            "set rule.support_ratio = inf, or rule.regime = streaming or gradient-flow"
        )


def derive(rule: Rule, structure: Structure = PLAIN) -> Flow:
    """The closed equations of (Q, R, w) and ε, from a rule's statement run on symbols.

    Times are α = updates/N, or steps in the population regime; rates stay symbols, K and M are
    ranges of indices. ``structure``: input blocks, a finite set of task heads, linear units.
    ``theory.printing.PrintedFlow.of(flow, activation)`` prints it, as ``Experiment.flow`` does.

    Raises NoTheoryError, with the reason, where the combination has no closed theory yet.
    Source: derived from the statement, as the head of this module says.

    >>> from theory.rules import Sgd
    >>> derive(Sgd(outer_rate=1.0)).scalars
    ('head_rate', 'label_noise', 'outer_rate', 'query', 'tasks_per_step', 'weight_decay')
    """
    _check(rule)
    derivation = Derivation(symbolic(rule), rule, structure.blocks, structure.linear)
    network = derivation.initial_network()
    adapted = _stated(rule, SymbolicNetwork, derivation.rule.adapt, network, derivation.task)
    error, objective = derivation.error(adapted), derivation.objective(adapted)
    gradient, head_gradient = _gradients(derivation, network, adapted, objective)
    head_step = derivation.rule.head_step
    custom = _stated(rule, Vector | None, head_step, network, adapted, derivation.task)
    if custom is not None:
        head_gradient = -derivation.mean(custom)
    noise = None
    if rule.regime == "streaming":
        noise = _noise(derivation, adapted, structure)
    _assemble(derivation, gradient, head_gradient, noise)
    program = derivation.program.needed(["dQ", "dR", "dw", str(error.label)])
    return Flow(rule, structure, program, _scalars(program), corrections=derivation.corrections)


def _scalars(program: Program) -> tuple[str, ...]:
    """The numbers that a program is given."""
    labels = set(program.inputs) | {d.name for d in program.definitions}
    used = {
        symbol.name
        for definition in program.definitions
        for piece in definition.pieces
        for symbol in piece.expression.free_symbols
        if isinstance(symbol, Symbol) and not symbol.is_integer
    }
    return tuple(sorted(used - labels))


def _stated(rule: Rule, kind: Any, step: Callable[..., Any], *arguments: Any) -> Any:
    """What a part of the rule's statement returns; refuses what only numbers could be put into."""
    part = f"rule {rule.name!r}: {step.__name__}"
    try:
        made = step(*arguments)
    except TypeError as error:
        raise NoTheoryError(
            f"{part} does what has no theory ({error}); heads may be added, subtracted and "
            "multiplied by numbers"
        ) from error
    if not isinstance(made, kind):
        wanted = "the adapted network" if kind is SymbolicNetwork else "a step of the head"
        raise NoTheoryError(f"{part} returns {made!r}; return {wanted}")
    return made


def _gradients(
    derivation: Derivation,
    network: SymbolicNetwork,
    adapted: SymbolicNetwork,
    objective: IndexedBase,
) -> tuple[IndexedBase, Expr]:
    """Gradient of the meta-objective: coefficients of ∂/∂J on the fields, and ∂/∂w."""
    program = derivation.program
    seeds = {str(objective.label): Piece((), sympy.Integer(1))}
    C = derivation.covariance
    exact = getattr(derivation.rule, "order", "first") == "exact"
    if exact:
        adjoints = pull_back(program, seeds, {str(C.label), "w"})
        head_gradient = adjoints["w"][k] if "w" in adjoints else sympy.Integer(0)
        return _representation_gradient(derivation, adjoints.get(str(C.label)), None), head_gradient
    moved, head = str(adapted.covariance.label), adapted.head_name
    held = {head, moved, *derivation.held}
    adjoints = pull_back(program, seeds, {moved, head}, held=held)
    head_gradient = derivation.over_tasks(adjoints[head][derivation.at(k)])
    return _representation_gradient(derivation, adjoints.get(moved), adapted), head_gradient


def _representation_gradient(
    derivation: Derivation, adjoint: IndexedBase | None, moved: SymbolicNetwork | None
) -> IndexedBase:
    """G with ∂ε/∂J = G·(J, B): twice the symmetric part of the adjoint of the covariance.

    Where the inner loop has moved the representation and that displacement is held, the gradient
    at (J', B) is written in (J, B) again.
    """
    program, block = derivation.program, derivation.block
    if adjoint is None:
        return program.define("gradient", ((*block, k, a), sympy.Integer(0)))
    lead = (t, *block)
    if moved is None or moved.map is None:
        shared = moved is None or moved.covariance == derivation.covariance
        over = block if shared else lead
        return program.define(
            "gradient", ((*block, k, a), adjoint[(*over, k, a)] + adjoint[(*over, a, k)])
        )
    G = moved.map
    twice = program.define(
        "adapted_gradient", ((*lead, k, a), adjoint[(*lead, k, a)] + adjoint[(*lead, a, k)])
    )
    return program.define(
        "gradient",
        ((*block, k, a), twice[(*lead, k, l)] * G[(*lead, l, a)]),
        ((*block, k, n), twice[(*lead, k, n)]),
    )


def _noise(derivation: Derivation, adapted: SymbolicNetwork, structure: Structure) -> Expr:
    """S_kl = ⟨c_k c_l⟩/(V T_b): different examples decouple, and c carries the mean's factor."""
    scale = 1 / (OUTER["query"] * OUTER["tasks_per_step"])
    share = derivation.share()
    if adapted.spread is not None:
        finite_head.check_noise(adapted)
        return share * derivation.program.input("S_finite", "kl")[k, l]
    per_task = derivation.per_task or (structure.heads and not derivation.one_task)
    S = query_noise(derivation, adapted, per_task)
    if not per_task:
        return scale * share * S[k, l]
    if derivation.exact and adapted.map is not None:
        total, lead = pushed_noise(derivation, S, adapted), (t, *derivation.block)
        return scale * share * derivation.weight[t] * total[(*lead, k, l)]
    return scale * share * derivation.weight[t] * S[t, k, l]


def _assemble(
    derivation: Derivation, gradient: IndexedBase, head_gradient: Expr, noise: Expr | None
) -> None:
    """The flow of (Q, R, w) from the displacement D·(J, B) of one unit of time."""
    program, block = derivation.program, derivation.block
    Q, R, T = derivation.Q, derivation.R, derivation.T
    eta, kappa = OUTER["outer_rate"], OUTER["weight_decay"]
    D = program.define(
        "D", ((*block, k, a), -eta * gradient[(*block, k, a)]), ((*block, k, k), -eta * kappa),
        meaning="mean displacement of J",
    )  # fmt: skip
    overlaps = program.define(
        "overlaps",
        ((*block, k, l), Q[(*block, k, l)]), ((*block, k, n), R[(*block, k, n)]),
        ((*block, n, k), R[(*block, k, n)]), ((*block, m, n), T[(*block, m, n)]),
        ranges=(*("L" for _ in block), "N", "N"), symmetric=True,
    )  # fmt: skip
    X = program.define("X", ((*block, k, c), D[(*block, k, a)] * overlaps[(*block, a, c)]))
    rate = X[(*block, k, l)] + X[(*block, l, k)]
    if derivation.rule.regime == "population":
        rate += X[(*block, k, a)] * D[(*block, l, a)]
    if noise is not None:
        rate += eta**2 * noise
    program.define("dQ", ((*block, k, l), rate), paired=True)
    program.define("dR", ((*block, k, n), X[(*block, k, n)]))
    program.define("dw", ((k,), -OUTER["head_rate"] * head_gradient))
