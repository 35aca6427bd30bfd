"""Compiled reductions: a flow on symmetric states, at the same cost for any number of units.

The scalars of ``theory.ansatz`` become one line of source each, with the numbers of units K and M
among the arguments; their derivatives follow by the chain rule, line by line. The same text runs
as plain Python and, with the extra ``fast``, as machine code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Expr, Symbol

from theory.activations import Activation, erf
from theory.ansatz import ANSAETZE, Reduction, reduce
from theory.flow import derive
from theory.generation import machine
from theory.generation.bound import bind
from theory.generation.formulas import FormulaPrinter
from theory.generation.native import UnsupportedError
from theory.generation.sources import cache_folder, load, page_of
from theory.rules import Rule, argument
from theory.statement import Structure

Array = NDArray[np.float64]
PRELUDE = """from math import asin as arcsin, atan2 as arctan2, exp, pi, sqrt

from numpy import empty
"""


@dataclass(frozen=True, repr=False)
class CompiledReduction:
    """A flow on the states of an ansatz, as functions of the reduced state y and its parameters.

    ``names`` are the order parameters in y, ``arguments`` the parameters: the rates of the rule,
    the numbers of units K and M, and the entries of symmetric tasks (u_0 of the head mean; v_d,
    v_o of its covariance; T, T_o of the teacher overlap; delta of the spread). Any of them may
    change from call to call.

    >>> from theory.rules import Sgd
    >>> flow = compile_reduction(Sgd(outer_rate=0.1), "site-symmetric", backend="numpy")
    >>> flow.names
    ('Q', 'C', 'R', 'S', 'w')
    >>> p = flow.parameters(K=1000, head_mean=1.0)
    >>> bool(abs(flow.rhs([1.0, 0.0, 1.0, 0.0, 1.0], p)).max() < 1e-15)
    True
    """

    reduction: Reduction
    rule: Rule
    backend: str = "auto"

    def __repr__(self) -> str:
        return f"<compiled {str(self.reduction).strip('<>')}>"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The reduced order parameters, in the order of y."""
        return tuple(str(name) for name in self.reduction.state)

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names of the parameters."""
        known = {*self.reduction.state, *self.reduction.scalars}
        found: set[Any] = set()
        for expression in (*self.reduction.scalars.values(), *self.reduction.state.values()):
            found |= expression.free_symbols - known
        return tuple(sorted(map(str, found | (self.reduction.error.free_symbols - known))))

    def parameters(self, **given: float) -> dict[str, float]:
        """Values of the parameters; the rates are the rule's unless given.

        ``head_mean``, ``head_variance`` (diagonal, of the covariance over tasks),
        ``head_covariance`` (off it), ``teacher_overlap``, ``teacher_cross``,
        ``representation_spread`` and ``label_noise`` name the tasks, K and M the units (M = K
        unless given). Raises ValueError for what is missing or unknown.
        """
        values: dict[str, float] = {"v_d": 0.0, "v_o": 0.0, "T": 1.0, "T_o": 0.0, "delta": 0.0,
                                    "label_noise": 0.0}  # fmt: skip
        rates = {argument(f.name): getattr(self.rule, f.name) for f in fields(self.rule)}
        values |= {a: rates[a] for a in self.arguments if a in rates}
        for name, value in given.items():
            symbol = TASKS.get(name, argument(name) if argument(name) in rates else name)
            if symbol not in {*values, *self.arguments, "K", "M", "u_0"}:
                raise ValueError(f"{name} is no parameter: there are {', '.join(self.arguments)}")
            values[symbol] = value
        values.setdefault("M", values.get("K", np.nan))
        missing = [a for a in self.arguments if a not in values]
        if missing:
            shown = {symbol: name for name, symbol in TASKS.items()}
            raise ValueError(f"give {', '.join(shown.get(a, a) for a in missing)}")
        return {a: float(values[a]) for a in self.arguments}

    @property
    def description(self) -> dict[str, Any]:
        """What the flow was derived from, in words, and the digest of its source."""
        digest = hashlib.sha256(self.source_of("flow").encode()).hexdigest()
        return {
            "rule": {"name": self.rule.name, **asdict(self.rule)},
            "ansatz": self.reduction.ansatz.name, "activation": self.reduction.activation.name,
            "source_digest": digest,
        }  # fmt: skip

    # ── source ───────────────────────────────────────────────────────────────────────────────

    def source_of(self, name: str) -> str:
        """Generated source of one function: flow, error or jacobian."""
        flow, ansatz = self.reduction.flow, self.reduction.ansatz.name
        return page_of(
            flow.rule, flow.structure, self.reduction.activation, f"reduced_{ansatz}_{name}",
            lambda: self._write(name),
        )  # fmt: skip

    def _write(self, name: str) -> str:
        lines = [(str(s), e) for s, e in self.reduction.scalars.items()]
        if name == "error":
            outputs = [self.reduction.error]
        elif name == "flow":
            outputs = list(self.reduction.state.values())
        else:
            more, outputs = _derivatives(self.reduction)
            lines += more
        code = FormulaPrinter().doprint
        before, angles, after = _angles_first(_needed(lines, outputs))
        body = [f"{n} = state[{i}]" for i, n in enumerate(self.names)]
        body += [f"{n} = {code(e)}" for n, e in before]
        if angles:  # one after the other, so that they run in vectors
            body += [f"angle = empty({len(angles)})"]
            body += [f"angle[{i}] = {code(angle.args[0])}" for i, angle in enumerate(angles)]
            body += [f"for i in range({len(angles)}):", "    angle[i] = arcsin(angle[i])"]
        known = {angle: Symbol(f"angle[{i}]") for i, angle in enumerate(angles)}
        body += [f"{n} = {code(e.xreplace(known))}" for n, e in after]
        body += [f"out[{i}] = {code(e.xreplace(known))}" for i, e in enumerate(outputs)]
        head = f"# {self.reduction.flow.title}, {self.reduction.ansatz.name}\n{PRELUDE}"
        shapes = f"SHAPES = {dict.fromkeys(self.arguments, ())!r}"
        signature = f"def {name}({', '.join(('state', *self.arguments, 'out'))}):"
        return "\n".join([head, shapes, "", "", signature, *(f"    {line}" for line in body), ""])

    # ── values ───────────────────────────────────────────────────────────────────────────────

    @cached_property
    def tier(self) -> str:
        """The backend in use: "numba" (machine code) where it exists, else "numpy" (Python)."""
        if self.backend == "numpy" or not machine.available():
            return "numpy"
        try:
            machine.module_of(self.source_of("flow"), {})
        except UnsupportedError:
            if self.backend == "numba":
                raise
            return "numpy"
        return "numba"

    def bound(self, name: str, parameters: Mapping[str, float]) -> Callable[[Any], Array]:
        """A function of y alone, for many calls: "flow", "jacobian" or "error"."""
        n = len(self.names)
        shape = {"jacobian": (n, n), "error": (1,)}.get(name, (n,))
        values = [float(parameters[a]) for a in self.arguments]
        if self.tier == "numba":
            loaded = machine.kernel(self.source_of(name), name, (), cache_folder())
            return bind(loaded, np.array([*values, 0.0]), n, shape)
        function = load(self.source_of(name), self.reduction.activation)[name]

        def call(y: Any) -> Array:
            out = np.empty(int(np.prod(shape)))
            function(np.asarray(y, float).tolist(), *values, out)
            return out.reshape(shape)

        return call

    def rhs(self, y: Any, parameters: Mapping[str, float]) -> Array:
        """dy/dα, or the increment per step in the population regime; shape (size,)."""
        return self.bound("flow", parameters)(y)

    def jacobian(self, y: Any, parameters: Mapping[str, float]) -> Array:
        """∂(rhs)_i/∂y_j, exact, shape (size, size)."""
        return self.bound("jacobian", parameters)(y)

    def error(self, y: Any, parameters: Mapping[str, float]) -> float:
        """ε = ½⟨(f − y)²⟩ against the noiseless target, after the rule's adaptation."""
        return float(self.bound("error", parameters)(y)[0])


TASKS = {
    "head_mean": "u_0", "head_variance": "v_d", "head_covariance": "v_o", "teacher_overlap": "T",
    "teacher_cross": "T_o", "representation_spread": "delta",
}  # fmt: skip
"""Keywords of symmetric tasks, and their symbols."""


def _derivatives(reduction: Reduction) -> tuple[list[tuple[str, Expr]], list[Expr]]:
    """Derivatives of all scalars along each order parameter, and those of the rates, row by row."""
    lines: list[tuple[str, Expr]] = []
    columns: list[list[Expr]] = []
    for along in reduction.state:
        moving: dict[Symbol, Expr] = {along: sympy.Integer(1)}

        def tangent(expression: Expr, moving: dict[Symbol, Expr] = moving) -> Expr:
            reads = sorted(expression.free_symbols & set(moving), key=str)
            slopes = (_slope(expression, s) * moving[s] for s in reads)
            return sympy.Add(*slopes)

        for symbol, expression in reduction.scalars.items():
            slope = tangent(expression)
            if slope != 0:
                name = Symbol(f"{symbol}_by_{along}")
                lines.append((name.name, slope))
                moving[symbol] = name
        columns.append([tangent(rate) for rate in reduction.state.values()])
    return lines, [column[i] for i in range(len(columns)) for column in columns]


def _slope(expression: Expr, symbol: Symbol) -> Expr:
    return sympy.diff(expression, symbol).replace(sympy.sign, lambda x: x / sympy.Abs(x))


def _angles_first(
    lines: list[tuple[str, Expr]],
) -> tuple[list[tuple[str, Expr]], list[Expr], list[tuple[str, Expr]]]:
    """The lines that no arcsine enters, the arcsines of these alone, and the other lines."""
    late: set[str] = set()
    before, after, angles = [], [], dict[Expr, None]()
    for name, value in lines:
        found = sorted(value.atoms(sympy.asin), key=sympy.default_sort_key)
        reads = {str(s) for s in value.free_symbols}
        if found or reads & late:
            late.add(name)
            after.append((name, value))
            angles |= {a: None for a in found if not late & {str(s) for s in a.free_symbols}}
        else:
            before.append((name, value))
    return before, list(angles), after


def _needed(lines: list[tuple[str, Expr]], outputs: list[Expr]) -> list[tuple[str, Expr]]:
    """The lines that the outputs depend on."""
    wanted = {str(s) for e in outputs for s in e.free_symbols}
    kept = []
    for name, value in reversed(lines):
        if name in wanted:
            kept.append((name, value))
            wanted |= {str(s) for s in value.free_symbols}
    return kept[::-1]


@lru_cache(maxsize=64)
def _reduction(rule: Rule, ansatz: str, activation: Activation) -> Reduction:
    return reduce(derive(rule, Structure()), ANSAETZE[ansatz], activation)


def compile_reduction(
    rule: Rule, ansatz: str, activation: Activation = erf, *, backend: str = "auto"
) -> CompiledReduction:
    """The flow of a rule on the states of an ansatz: "site-symmetric", "specialised", "symmetric".

    ``backend``: "numpy" (plain Python here), "numba" (machine code) or "auto". Raises ValueError
    for another ansatz, NoTheoryError and NoClosedFormError where the flow has no reduction.
    """
    if ansatz not in ANSAETZE:
        raise ValueError(f"no ansatz {ansatz!r}: there are {', '.join(ANSAETZE)}")
    return CompiledReduction(_reduction(rule, ansatz, activation), rule, backend)
