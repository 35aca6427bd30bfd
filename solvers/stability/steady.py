"""The flow of an experiment as a ``Problem`` in one of the experiment's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.stability.joined import coinciding, joined
from solvers.stability.problem import Problem, SignedPermutation
from solvers.stability.symmetry import Units
from theory.overlaps import margin as physical_margin

Array = NDArray[np.float64]
Parameters = Mapping[str, Any]

WHOLE = ("hidden", "teacher_hidden", "inner_steps", "nodes")
"""Numbers that make another flow, or another state, at every value."""
SMALLEST_RATE = 1e-12
"""Stands for an outer rate of 0, so that the limit of a slow outer loop can be reached."""
DEGREE = 4
"""Parameters of the flow are polynomials of at most this degree in any number of the experiment."""


def _remembered(function: Callable[[Array, float], Array]) -> Callable[[Array, float], Array]:
    """The function, with its last value remembered: neighbouring steps ask for the same one."""
    key, last = (b"", 0.0), np.empty(0)

    def remembering(x: Array, value: float) -> Array:
        nonlocal key, last
        if key != (now := (x.tobytes(), value)):
            key, last = now, function(x, value)
        return last

    return remembering


@dataclass(frozen=True)
class Steady:
    """An experiment's flow in the coordinates that evolve: Q once per pair, R, and w if it learns.

    ``parameter`` is the dotted name of the number that is varied (None: nothing is). ``moved``
    holds a second one beside it, as (its own Steady, its value): the parameters of the flow are
    sums of terms that depend on one number of the experiment each, so that their changes add.
    """

    experiment: Experiment
    parameter: str | None = None
    moved: tuple[Steady, float] | None = None

    @cached_property
    def free(self) -> NDArray[np.intp]:
        """The places of the evolving coordinates in the state vector."""
        layout = self.experiment.layout
        learns = float(getattr(self.experiment.rule, "head_rate", 0.0)) > 0
        varied = self.parameter == "rule.head_rate"
        return np.arange(layout.size - (0 if learns or varied else layout.hidden))

    @cached_property
    def value(self) -> float:
        """The parameter's value in the experiment; 0 if nothing is varied."""
        if self.parameter is None:
            return 0.0
        table, _, key = self.parameter.partition(".")
        if key in WHOLE or table in ("initial", "integrate", "simulate", "evaluate"):
            raise ExperimentError(
                f"{self.parameter} is no continuous parameter of the flow, so that fixed points "
                "cannot be continued in it; compare several values with macrodyn phase"
            )
        value = self.experiment.to_dict().get(table, {}).get(key)
        if value is None:
            value = self._default(table, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ExperimentError(
                f"{self.parameter} is not a number of this experiment, so it cannot be continued in"
            )
        if not np.isfinite(value):
            raise ExperimentError(
                f"{self.parameter} is infinite here: continue from a finite value"
            )
        return float(value)

    def _default(self, table: str, key: str) -> Any:
        """The value of a key that the file leaves out; an unknown key is an ExperimentError."""
        if self.parameter == "tasks.head_covariance" and self.experiment.tasks.heads is None:
            return 0.0
        value = getattr(getattr(self.experiment, table, None), key, None)
        if value is None:
            self.experiment.replace(**{str(self.parameter): 1.0})
        return value

    @cached_property
    def costly(self) -> bool:
        """Whether the flow is no closed formula: a cubature, or a quadrature of its averages."""
        source = self.experiment.compiled.source
        return any(name in source for name in ("S_finite", "sign_moment(", "average("))

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The values the parameter may take."""
        table, _, key = (self.parameter or "").partition(".")
        if table == "rule":
            for field in fields(self.experiment.rule):
                if field.name == key:
                    lower = field.metadata.get("minimum", field.metadata.get("above"))
                    upper = field.metadata.get("maximum", np.inf)
                    return (-np.inf if lower is None else float(lower)), float(upper)
        nonnegative = ("head_covariance", "label_noise", "representation_spread", "teacher_overlap")
        return (0.0 if key in nonnegative else -np.inf), np.inf

    def ends(self, first: float, last: float) -> tuple[float, float]:
        """The ends of a range of the parameter, in order.

        Raises:
            ExperimentError: they are not two different finite numbers that it may take.
        """
        name, (lower, upper) = self.parameter, self.limits
        if not (np.isfinite(first) and np.isfinite(last)) or first == last:
            raise ExperimentError(f"{name} needs two different finite ends, not {first} and {last}")
        low, high = min(first, last), max(first, last)
        if low < lower or high > upper:
            raise ExperimentError(
                f"{name} is limited to [{lower:g}, {upper:g}]; "
                f"the range {low:g} to {high:g} leaves it"
            )
        return low, high

    @cached_property
    def _varying(self) -> Callable[[float], tuple[Parameters, Array]]:
        """λ → (parameters of the flow, head): exact, since they are polynomials in λ."""
        base, head = self.experiment.parameters, self._head(self.experiment)
        if self.parameter is None:
            return lambda value: (base, head)
        table, _, key = self.parameter.partition(".")
        if self.parameter == "rule.outer_rate":
            return lambda value: ({**base, key: max(value, SMALLEST_RATE)}, head)
        if table == "rule" and key in base:
            return lambda value: ({**base, key: value}, head)
        return self._interpolated(base)

    def _head(self, experiment: Experiment) -> Array:
        return experiment.layout.unpack(experiment.initial_state())[2]

    def _apart(self) -> Experiment:
        """The experiment with a start that is physical whatever the teacher is: R = 0."""
        experiment = self.experiment
        if experiment.initial.random is not None:
            return experiment
        R = experiment.layout.unpack(experiment.initial_state())[1]
        return experiment.replace(**{"initial.R": np.zeros_like(R).tolist()})

    def _interpolated(self, base: Parameters) -> Callable[[float], tuple[Parameters, Array]]:
        width = max(abs(self.value), 1.0)
        first = min(max(self.value - width / 2, self.limits[0]), self.limits[1] - width)
        nodes = first + width * np.linspace(0, 1, DEGREE + 2)
        sampled = [self._apart().replace(**{str(self.parameter): float(v)}) for v in nodes]
        values = [{**e.parameters, "_head": self._head(e)} for e in sampled]
        base = {**base, "_head": self._head(self.experiment)}
        polynomials = {}
        for name, entry in base.items():
            table = np.array([np.ravel(v[name]) for v in values])
            if (table != table[0]).any():
                degree = min(DEGREE, len(nodes) - 1)
                fit = np.polynomial.Polynomial.fit
                polynomials[name] = (
                    np.shape(entry),
                    [fit(nodes, column, degree).convert() for column in table.T],
                )

        def at(value: float) -> tuple[Parameters, Array]:
            moved = {
                name: np.array([p(value) for p in column]).reshape(shape)[()]
                for name, (shape, column) in polynomials.items()
            }
            p = {**base, **moved}
            return p, p.pop("_head")

        return at

    def state(self, x: Array, value: float) -> Array:
        """The full state vector (…, size) of the coordinates x (…, n)."""
        if x.shape[-1] == self.experiment.layout.size:
            return x
        head = self._varying(value)[1]
        if x.ndim > 1:
            head = np.broadcast_to(head, (*x.shape[:-1], len(head)))
        return np.concatenate((x, head), -1)

    def parameters(self, value: float) -> Parameters:
        """The parameters of the flow where the varied one has this value."""
        p = self._varying(value)[0]
        if self.moved is None:
            return p
        other, at = self.moved
        there, base = other.parameters(at), self.experiment.parameters
        changed = {
            k: p[k] + (v - base[k]) for k, v in there.items() if not np.array_equal(v, base[k])
        }
        return {**p, **changed}

    def rate(self, value: float) -> Array:
        """The outer rate of each coordinate (n,); 1 where it is zero."""
        p, layout = self.parameters(value), self.experiment.layout
        rates = np.full(len(self.free), float(p["outer_rate"]) or 1.0)
        rates[layout.size - layout.hidden :] = float(p.get("head_rate", 0.0)) or 1.0
        return rates

    def error(self, x: Array, value: float) -> float:
        """ε at x."""
        y, p = self.state(x, value), self.parameters(value)
        return float(self.experiment.compiled.observables(y, p)["error"])

    def units(self, value: float) -> Units:
        """What distinguishes the units of this experiment, whatever value the parameter takes."""
        generic = (value, self.value + 0.37, self.value + 0.71) if self.parameter else (value,)
        low, high = self.limits
        families = [self._varying(min(max(v, low), high)) for v in generic]
        p = families[0][0]
        layout, learns = self.experiment.layout, len(self.free) == self.experiment.layout.size
        K, M = layout.hidden, layout.teacher_hidden
        blocks = [np.reshape(q[name], (-1, M, M)) for q, _ in families for name in ("T", "TT")]
        moments = [np.asarray(q["U"]) for q, _ in families]
        matrices = np.concatenate([*blocks, *(moment[None, 1:, 1:] for moment in moments)])
        fixed = np.zeros((K + M, K + M, len(matrices)))
        fixed[K:, K:] = np.moveaxis(matrices, 0, -1)
        marks = np.zeros((K + M, 2, len(families)))
        for i, (moment, (_, head)) in enumerate(zip(moments, families, strict=True)):
            marks[K:, 0, i] = moment[0, 1:]
            marks[:K, 1, i] = 0.0 if learns else head
        marks = marks.reshape(K + M, -1)
        heads = np.asarray(p["heads"]) if self.experiment.tasks.heads is not None else None
        odd = bool(getattr(self.experiment.activation, "odd", True))
        return Units(layout, fixed, marks, odd, heads)

    @cached_property
    def problem(self) -> Problem:
        """The zeros of the flow, per unit of the fastest rate, with its symmetries."""
        compiled, free, n = self.experiment.compiled, self.free, len(self.free)
        parameters = lru_cache(maxsize=4)(self.parameters)
        rate = lru_cache(maxsize=4)(self.rate)

        @_remembered
        def residual(x: Array, value: float) -> Array:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                try:
                    return compiled.rhs(self.state(x, value), parameters(value))[free]
                except (ArithmeticError, ValueError):
                    return np.full(n, np.nan)

        @_remembered
        def jacobian(x: Array, value: float) -> Array:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                return compiled.jacobian(self.state(x, value), parameters(value))[:n, :n]

        def margin(x: Array, value: float) -> float:
            Q, R, _ = self.experiment.layout.unpack(self.state(x, value))
            T = np.reshape(parameters(value)["T"], (*R.shape[:-2], *2 * R.shape[-1:]))
            return physical_margin(Q, R, T)

        def symmetries(x: Array, value: float) -> list[SignedPermutation]:
            units = self.units(value)
            return [units.action(g, free) for g in units.isotropy(self.state(x, value))[1]]

        def equivalent(x: Array, other: Array, value: float) -> bool:
            y, z = self.state(x, value), self.state(other, value)
            return self.units(value).isomorphism(y, z) is not None

        def subspace(x: Array, value: float) -> Array:
            first = coinciding(self.experiment.layout, self.state(x, value), 1e-9)
            return joined(self.experiment.layout, first, free)

        def outer_slope(x: Array, value: float) -> Array:
            """Drift is linear and noise quadratic in the outer rate: F/rate is linear."""
            far = 2 * value + 1e-2
            here = residual(x, value) / rate(value)  # first, while it is remembered
            there = residual(x, far) / rate(far)
            return (there - here) / (far - value)

        lower, upper = self.limits
        return Problem(
            residual,
            jacobian,
            outer_slope if self.parameter == "rule.outer_rate" else None,
            margin,
            symmetries,
            equivalent,
            subspace,
            rate,
            discrete=self.experiment.rule.regime == "population",
            lower=lower,
            upper=upper,
            name=self.parameter or "parameter",
        )
