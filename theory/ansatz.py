"""Reductions: a flow on states that are symmetric under relabelling units, for any number of units.

Under an ansatz, an entry of a tensor depends only on the kinds of its indices and on which of them
name the same unit. Each definition of the flow then becomes one scalar per such pattern, and a
sum over units becomes a sum over patterns: units that are already named, and one that is not,
taken as often as there are others. K and M stay symbols throughout. A flow whose definitions use
its inputs in this way alone maps symmetric states to symmetric rates, which is the proof that the
ansatz is preserved; ``preserves`` shows it on explicit units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Indexed, Symbol

from theory.activations import Activation
from theory.derivation.closed import expand
from theory.derivation.indexed import Piece, range_of
from theory.errors import NoClosedFormError
from theory.flow import Flow

K, M = sympy.symbols("K M", positive=True, integer=True)
Value = tuple[str, int]
"""A concrete index: its kind and the number of its unit within the kind's family."""
CONSTANT: Value = ("1", 0)


@dataclass(frozen=True)
class Ansatz:
    """Kinds of units that are alike, and which kinds share a numbering.

    ``learner`` and ``teacher`` list (kind, family); units of one family with one number belong
    together (a learner unit and the teacher unit it is aligned with). ``sizes`` gives the number
    of units in each family.
    """

    name: str
    learner: tuple[tuple[str, str], ...]
    teacher: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, Expr], ...]

    def family(self, kind: str) -> str:
        """The numbering that a kind of units shares."""
        return dict((*self.learner, *self.teacher, ("u", dict(self.teacher)["b"])))[kind]

    def size(self, family: str) -> Expr:
        """The number of units in a family."""
        return dict(self.sizes)[family]

    def kinds(self, over: str) -> tuple[str, ...]:
        """The kinds of units that an index of this range may name."""
        learner, teacher = (tuple(k for k, _ in of) for of in (self.learner, self.teacher))
        return {"K": learner, "M": teacher, "N": learner + teacher, "H": ("1", "u"),
                "one": ("1",)}[over]  # fmt: skip


SITE_SYMMETRIC = Ansatz("site-symmetric", (("h", "site"),), (("b", "site"),), (("site", K),))
"""K = M: Q_kl = Q or C, R_kn = R or S, for k = l, n or not (Saad & Solla 1995)."""
SPECIALISED = Ansatz(
    "specialised",
    (("h", "site"), ("x", "extra")),
    (("b", "site"),),
    (("site", M), ("extra", K - M)),
)
"""K > M: M learner units with a teacher unit of their own, K − M further ones alike."""
SYMMETRIC = Ansatz("symmetric", (("h", "unit"),), (("b", "site"),), (("unit", K), ("site", M)))
"""All learner units alike and none aligned with one teacher unit: the symmetric plateau."""
ANSAETZE = {ansatz.name: ansatz for ansatz in (SITE_SYMMETRIC, SPECIALISED, SYMMETRIC)}

STATE_NAMES = {
    "Q_h0h0": "Q", "Q_h0h1": "C", "Q_h0x0": "D", "Q_x0x0": "Q_x", "Q_x0x1": "C_x",
    "R_h0b0": "R", "R_h0b1": "S", "R_x0b0": "R_x", "w_h0": "w", "w_x0": "w_x",
    "T_b0b0": "T", "T_b0b1": "T_o",
}  # fmt: skip


@dataclass(repr=False)
class Reduction:
    """A reduced flow: scalars in order of evaluation, and the rate of each state variable.

    ``state`` holds the symbols of the reduced order parameters, ``rates`` their derivatives in
    terms of ``scalars`` (symbol → expression) and of the parameters.
    """

    ansatz: Ansatz
    flow: Flow
    activation: Activation
    scalars: dict[Symbol, Expr] = field(default_factory=dict)
    state: dict[Symbol, Expr] = field(default_factory=dict)
    error: Expr = field(default=sympy.S.Zero)

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.state))
        return f"<flow of {self.flow.title}, {self.ansatz.name}: {names}>"

    def explicit(self, expression: Expr) -> Expr:
        """The expression in the state and the parameters alone."""
        known = set(self.scalars)
        while found := expression.free_symbols & known:
            expression = expression.xreplace({name: self.scalars[name] for name in found})
        return expression

    @property
    def rates(self) -> dict[Symbol, Expr]:
        """dα-derivatives of the state variables, explicit."""
        return {name: self.explicit(rate) for name, rate in self.state.items()}

    @property
    def jacobian(self) -> sympy.Matrix:
        """Derivatives of the rates by the state variables, explicit."""
        names = list(self.state)
        return sympy.Matrix([[sympy.diff(r, s) for s in names] for r in self.rates.values()])


def reduce(flow: Flow, ansatz: Ansatz | str, activation: Activation) -> Reduction:
    """The flow on the states of an ansatz: "site-symmetric", "specialised", "symmetric", or one's
    own; its ``rates`` are explicit expressions in the reduced state, for any numbers of units.

    Raises NoClosedFormError for flows that are kept per task or per block: a finite set of heads
    or a cubature over tasks need not share the symmetry; KeyError for another name.

    >>> from theory import derive, erf
    >>> from theory.rules import Sgd
    >>> reduce(derive(Sgd(outer_rate=1.0, regime="gradient-flow")), "site-symmetric", erf)
    <flow of sgd, gradient-flow, site-symmetric: Q, C, R, S, w>
    """
    ansatz = ANSAETZE[ansatz] if isinstance(ansatz, str) else ansatz
    broken = {"tasks", "L"} & {r for d in flow.definitions for r in d.ranges}
    if broken or "S_finite" in flow.program.inputs:
        raise NoClosedFormError(
            f"the {ansatz.name} ansatz needs Gaussian tasks, iid inputs and averages in closed form"
        )
    if any(definition.external for definition in flow.definitions):
        raise NoClosedFormError(
            f"the {ansatz.name} ansatz has no closed form for heads fitted by least squares"
        )
    reducer = _Reducer(flow, ansatz, activation)
    reduction = Reduction(ansatz, flow, activation, reducer.scalars)
    for tensor, rate, axes in (("Q", "dQ", "KK"), ("R", "dR", "KM"), ("w", "dw", "K")):
        for key in reducer.patterns(axes):
            name = reducer.input(tensor, key)
            if name not in reduction.state:
                reduction.state[name] = reducer.entry(rate, key)
    reduction.error = reducer.entry("error", ())
    return reduction


@dataclass
class _Reducer:
    flow: Flow
    ansatz: Ansatz
    activation: Activation
    scalars: dict[Symbol, Expr] = field(default_factory=dict)
    known: dict[tuple[str, tuple[Value, ...]], Expr] = field(default_factory=dict)
    equal: dict[Expr, Symbol] = field(default_factory=dict)
    """The scalar that first had a value: averages that are equal by symmetry are one."""

    def patterns(self, axes: str) -> Iterator[tuple[Value, ...]]:
        """Canonical index patterns over the axes, symmetric ones once."""
        seen: set[tuple[Value, ...]] = set()

        def extend(done: tuple[Value, ...], left: str) -> Iterator[tuple[Value, ...]]:
            if not left:
                yield done
                return
            for value, _ in self.choices(left[0], done):
                yield from extend((*done, value), left[1:])

        for key in extend((), axes):
            canonical = self.canonical(key)
            if axes == "KK" and self.canonical(key[::-1]) in seen:
                continue
            if canonical not in seen:
                seen.add(canonical)
                yield canonical

    def choices(self, over: str, named: tuple[Value, ...]) -> Iterator[tuple[Value, Expr]]:
        """Values of an index, with how many units each stands for: units named, and another."""
        for kind in self.ansatz.kinds(over):
            if kind == "1":
                yield CONSTANT, sympy.Integer(1)
                continue
            family = self.ansatz.family(kind)
            used = sorted({n for k, n in named if k != "1" and self.ansatz.family(k) == family})
            for number in used:
                yield (kind, number), sympy.Integer(1)
            others = self.ansatz.size(family) - len(used)
            if others != 0:
                yield (kind, next(n for n in range(len(used) + 1) if n not in used)), others

    def canonical(self, key: tuple[Value, ...]) -> tuple[Value, ...]:
        """The pattern of a key: units numbered in order of appearance within each family."""
        numbers: dict[tuple[str, int], int] = {}
        counts: dict[str, int] = {}
        made = []
        for kind, number in key:
            if kind == "1":
                made.append(CONSTANT)
                continue
            family = self.ansatz.family(kind)
            if (family, number) not in numbers:
                numbers[family, number] = counts.get(family, 0)
                counts[family] = numbers[family, number] + 1
            made.append((kind, numbers[family, number]))
        return tuple(made)

    def input(self, tensor: str, key: tuple[Value, ...]) -> Expr:
        """An input under the ansatz: a state variable, or a parameter of symmetric tasks."""
        mean, diagonal, off = sympy.symbols("u_0 v_d v_o", real=True)
        if tensor in ("constant", "mean_task"):
            (only,) = key
            return sympy.Integer(only == CONSTANT) if tensor == "constant" else (
                sympy.Integer(1) if only == CONSTANT else mean
            )  # fmt: skip
        if tensor == "teacher_head":
            return mean
        if tensor == "unit":
            unit, component = key
            return sympy.Integer(component != CONSTANT and unit[1] == component[1])
        if tensor == "U":
            ones = sum(value == CONSTANT for value in key)
            if ones:
                return mean if ones == 1 else sympy.Integer(1)
            return mean**2 + (diagonal if key[0] == key[1] else off)
        key = self.canonical(key)
        if tensor == "Q":
            key = min(key, self.canonical(key[::-1]))
        name = f"{'T' if tensor == 'TT' else tensor}_{''.join(f'{k}{n}' for k, n in key)}"
        known = STATE_NAMES.get(name, name)
        if tensor == "TT" and key[0] == key[1]:
            return Symbol(known, real=True) + Symbol("delta", nonnegative=True) ** 2
        return Symbol(known, real=True)

    def entry(self, tensor: str, key: tuple[Value, ...]) -> Expr:
        """The scalar that a tensor's entries of one pattern share."""
        key = self.canonical(key)
        if tensor in self.flow.program.inputs:
            return self.input(tensor, key)
        if (tensor, key) not in self.known:
            definition = self.flow.program[tensor]
            total = sympy.Add(*(self._piece(p, key) for p in definition.pieces))
            shown = () if definition.ranges == ("one",) else key
            self.known[tensor, key] = self._named(tensor, shown, total)
        return self.known[tensor, key]

    def _named(self, tensor: str, key: tuple[Value, ...], total: Expr) -> Expr:
        """A symbol for a scalar, unless it is as short as one."""
        if total.is_number or total.is_Symbol or (-total).is_Symbol:
            return total
        if total in self.equal and tensor not in self.flow.outputs:
            return self.equal[total]
        name = Symbol(f"{tensor}_{''.join(f'{k}{n}' for k, n in key)}" if key else tensor)
        self.scalars[name] = total
        self.equal.setdefault(total, name)
        return name

    def _piece(self, piece: Piece, key: tuple[Value, ...]) -> Expr:
        named: dict[Symbol, Value] = {}
        for i, value in zip(piece.at, key, strict=True):
            if value[0] not in self.ansatz.kinds(range_of(i)) or named.get(i, value) != value:
                return sympy.Integer(0)
            named[i] = value
        return sympy.Add(*(self._sum(term, piece.summed(term), named) for term in piece.terms()))

    def _sum(self, term: Expr, left: tuple[Symbol, ...], named: Mapping[Symbol, Value]) -> Expr:
        if not left:
            values = {e: self._value(e, named) for e in term.atoms(Indexed)}
            return expand(term.xreplace(values), self.activation)
        first, *rest = left
        total = sympy.Integer(0)
        for value, count in self.choices(range_of(first), tuple(named.values())):
            part = self._sum(term, tuple(rest), {**named, first: value})
            total += sympy.Add(*(count * each for each in sympy.Add.make_args(part)))
        return total

    def _value(self, entry: Indexed, named: Mapping[Symbol, Value]) -> Expr:
        return self.entry(str(entry.base.label), tuple(named[i] for i in entry.indices))


def preserves(flow: Flow, ansatz: Ansatz, activation: Activation, units: int) -> bool:
    """Whether rates of entries of one pattern agree on explicit units, symbolically.

    Every entry is evaluated with its own units, unreduced; the differences simplify to zero.
    """
    explicit = _Explicit(flow, ansatz, activation, units)
    for rate, axes in (("dQ", "KK"), ("dR", "KM"), ("dw", "K")):
        first: dict[tuple[Value, ...], Expr] = {}
        for key in explicit.keys(axes):
            pattern, value = explicit.canonical(key), explicit.entry(rate, key)
            if pattern in first and sympy.simplify(first[pattern] - value) != 0:
                return False
            first.setdefault(pattern, value)
    return True


class _Explicit(_Reducer):
    """The same evaluation on units that all have names: nothing is identified by its pattern."""

    def __init__(self, flow: Flow, ansatz: Ansatz, activation: Activation, units: int) -> None:
        super().__init__(flow, ansatz, activation)
        self.units = units

    def keys(self, axes: str) -> Iterator[tuple[Value, ...]]:
        """All entries over the axes."""
        if not axes:
            yield ()
            return
        for key in self.keys(axes[:-1]):
            for value, _ in self.choices(axes[-1], ()):
                yield (*key, value)

    def choices(self, over: str, named: tuple[Value, ...]) -> Iterator[tuple[Value, Expr]]:
        del named
        for kind in self.ansatz.kinds(over):
            for number in range(1 if kind == "1" else self.units):
                yield (kind, number), sympy.Integer(1)

    def entry(self, tensor: str, key: tuple[Value, ...]) -> Expr:
        if tensor in self.flow.program.inputs:
            return self.input(tensor, key)
        if (tensor, key) not in self.known:
            definition = self.flow.program[tensor]
            self.known[tensor, key] = sympy.Add(*(self._piece(p, key) for p in definition.pieces))
        return self.known[tensor, key]
