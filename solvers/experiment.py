"""Experiment: the checked, immutable description of one study, and what is derived from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from solvers import checks, schema, toml
from solvers.errors import ExperimentError
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.rules import Rule, registered
from theory.tasks import TaskDistribution

if TYPE_CHECKING:
    from theory.activations import Activation
    from theory.codegen import CompiledFlow
    from theory.printing import PrintedFlow
    from theory.statement import Structure

Array = NDArray[np.float64]

PRESETS = Path(__file__).parent / "presets"

REPLACES = {
    "initial.random": ("initial.Q", "initial.R"),
    "initial.Q": ("initial.random",),
    "initial.R": ("initial.random",),
    "tasks.heads": ("tasks.head_mean", "tasks.head_covariance"),
    "tasks.head_mean": ("tasks.heads",),
    "tasks.head_covariance": ("tasks.heads",),
    "rule.support_ratio": ("rule.support",),
    "rule.support": ("rule.support_ratio",),
}
"""Keys that stand instead of others: an override with the one removes the others."""


class Experiment:
    """One study: model, tasks, learning rule, start, integration, simulation.

    The keyword arguments are the tables of the experiment file; ``rule`` may also be an instance of
    a rule's class and ``model["activation"]`` an ``Activation``. With structured inputs, a scalar
    ``teacher_overlap`` s means T^b = f_b s I, the block sums of teachers of variance s.

    Raises:
        ExperimentError: one line that names the wrong key and the remedy.

    >>> e = Experiment.load("saad-solla").replace(**{"rule.outer_rate": 1.0})
    >>> e.rule.outer_rate, e.layout.size
    (1.0, 9)
    """

    name: str
    title: str
    model: schema.Model
    tasks: TaskDistribution
    rule: Any
    """The rule; which fields it has depends on its class."""
    initial: schema.Initial
    integrate: schema.Integrate
    simulate: schema.Simulate | None
    layout: Layout

    def __init__(self, *, name: str = "experiment", **tables: Any) -> None:
        rule = tables.get("rule")
        rule_class = type(rule) if isinstance(rule, Rule) else None
        if isinstance(rule, Rule):
            tables["rule"] = _rule_table(rule)
        self._build(schema.plain(tables), rule_class, name)

    def _build(self, tables: dict[str, Any], rule_class: type[Rule] | None, name: str) -> None:
        document: schema.Document = schema.checked(schema.Document, tables)
        model, K, M = document.model, document.model.hidden, document.model.teacher_hidden
        checks.sizes(document)
        checks.coefficients(model)
        layout = Layout(K, M, len(model.inputs) if model.inputs else None)
        fraction = checks.fractions(model)
        overlap = checks.teacher_overlap(model, fraction)
        tasks = checks.tasks(document.tasks, M)
        rule_class = rule_class or _rule_class(document.rule)
        rule = checks.rule(rule_class, document.rule)
        checks.rule_fits(rule, document, tasks)
        start = checks.initial(document.initial, layout, overlap, fraction)
        checks.dimension(document.simulate, layout, fraction)
        known = {
            "name": name, "title": document.title, "model": model, "tasks": tasks, "rule": rule,
            "initial": document.initial, "integrate": document.integrate,
            "simulate": document.simulate, "evaluate": document.evaluate, "layout": layout,
            "_tables": tables, "_document": document, "_rule_class": rule_class, "_start": start,
            "_overlap": overlap, "_fraction": fraction,
        }  # fmt: skip
        self.__dict__.update(known)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an Experiment is immutable; use .replace() to change {name}")

    def __reduce__(self) -> Any:
        return _restore, (type(self), self._tables, self._rule_class, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        K, M = self.layout.hidden, self.layout.teacher_hidden
        return f"<Experiment {self.name!r}: {self.rule.name}, K = {K}, M = {M}, {self.digest[:12]}>"

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """The experiment in a file, or the shipped one of that name."""
        found = presets().get(str(source))
        path = found or Path(source)
        if not found and not path.exists() and path.suffix != ".toml":
            raise ExperimentError(_absent(str(source)))
        return cls.from_dict(toml.read(path), name=path.stem)

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any], name: str = "experiment") -> Self:
        """The experiment described by nested tables, as a file holds them."""
        if not isinstance(tables, Mapping):
            raise ExperimentError(f"an experiment is a table, not {type(tables).__name__}")
        return _restore(cls, schema.plain(tables), None, name)

    @classmethod
    def from_toml(cls, text: str, name: str = "experiment") -> Self:
        """The experiment in TOML text."""
        return cls.from_dict(toml.parse(text), name)

    def replace(self, **changes: Any) -> Self:
        """A copy with keys replaced, e.g. ``replace(**{"rule.inner_rate": 2.0})``, or whole tables.

        A key that stands instead of others (``initial.random`` for ``initial.Q`` and
        ``initial.R``) removes them.
        """
        tables, rule_class = deepcopy(self._tables), self._rule_class
        for key, value in changes.items():
            if isinstance(value, Rule):
                rule_class, value = type(value), _rule_table(value)
            elif key == "rule" or (key == "rule.name" and value != self.rule.name):
                rule_class = None
            _override(tables, key, schema.plain(value))
        return _restore(type(self), tables, rule_class, self.name)

    def to_dict(self) -> dict[str, Any]:
        """The tables as they were given, in plain numbers, text and lists."""
        tables = deepcopy(self._tables)
        activation = tables["model"].get("activation", "erf")
        if not isinstance(activation, str):
            tables["model"]["activation"] = activation.name
        return tables

    def to_toml(self) -> str:
        """The experiment file."""
        order = ("title", *schema.Document.model_fields)
        tables = self.to_dict()
        return toml.write({key: tables[key] for key in dict.fromkeys(order) if key in tables})

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides the result: all but the title and the name."""
        full = schema.plain(self._document.model_dump(exclude={"title", "rule"}))
        full["integrate"]["method"] = self.integrate.named_method
        full["rule"] = {"name": self.rule.name, **dataclasses.asdict(self.rule)}
        if self._rule_class is not registered().get(self.rule.name):
            full["rule"]["class"] = f"{self._rule_class.__module__}.{self._rule_class.__qualname__}"
        text = json.dumps(full, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def activation(self) -> Activation:
        """The activation function g."""
        from theory.activations import ACTIVATIONS, polynomial

        given = self.model.activation
        if given == "polynomial":
            return polynomial(self.model.coefficients)
        return ACTIVATIONS[given] if isinstance(given, str) else given

    @cached_property
    def structure(self) -> Structure:
        """What changes the equations beside the rule: input blocks, given heads, linear units."""
        from theory.activations import linear
        from theory.statement import Structure

        heads = self.tasks.heads is not None
        return Structure(bool(self.layout.blocks), heads, self.activation == linear)

    @cached_property
    def flow(self) -> PrintedFlow:
        """The order-parameter flow that is derived from the rule; ``flow.latex()`` prints it.

        Raises:
            ExperimentError: there is no theory for this combination.
        """
        from theory.errors import NoTheoryError
        from theory.flow import derive
        from theory.printing import PrintedFlow
        from theory.statement import check_units

        try:
            check_units(self.rule, self.activation)
            return PrintedFlow.of(derive(self.rule, self.structure), self.activation)
        except NoTheoryError as error:
            raise ExperimentError(error) from error

    @cached_property
    def compiled(self) -> CompiledFlow:
        """The flow as numerical code, generated or taken from the cache.

        Raises:
            ExperimentError: there is no theory for this combination, or not with this backend.
        """
        from theory.codegen import compile_flow
        from theory.errors import NoClosedFormError, NoTheoryError
        from theory.generation.native import UnsupportedError

        heads, backend = self.tasks.heads is not None, self.integrate.backend
        try:
            compiled = compile_flow(
                self.rule, self.layout, self.activation, heads=heads, backend=backend
            )
            compiled.source  # noqa: B018 (derives)
            compiled.tier  # noqa: B018 (asks whether the backend can be had)
        except (NoTheoryError, NoClosedFormError, UnsupportedError) as error:
            raise ExperimentError(error) from error
        return compiled

    @cached_property
    def evaluation(self) -> dict[str, float] | None:
        """Support, inner steps and inner rate at test time; None without a table [evaluate]."""
        if self.evaluate is None:
            return None
        return {
            key: checks.evaluation(self.rule, key, getattr(self.evaluate, key))
            for key in schema.Evaluate.model_fields
        }

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The arguments of the compiled flow, by name.

        T (L, M, M), the bare teacher overlap; TT (L, M, M) = T + δ² f_b I, as one task's teacher
        has it; variance, fraction (L,); head_mean (M,); U (M+1, M+1) = E[û ûᵀ]; heads (t, M) and
        their weight (t,); label_noise; and the rule's numbers by name, those that a rule of one's
        own brings along with a prefix: rate_….
        """
        inputs = self.model.inputs
        variance = np.array([block.variance for block in inputs]) if inputs else np.ones(1)
        known = parameters(self.rule, self.tasks, self._overlap, variance, self._fraction)
        return known | {"head_mean": self.tasks.mean}

    def initial_state(self) -> Array:
        """The state vector y at time 0: as given, or drawn as at a finite dimension."""
        return self._start.copy()

    if TYPE_CHECKING:
        evaluate: schema.Evaluate | None
        _tables: dict[str, Any]
        _document: schema.Document
        _rule_class: type[Rule]
        _start: Array
        _overlap: Array
        _fraction: Array


def _restore(
    cls: type[Experiment], tables: dict[str, Any], rule: type[Rule] | None, name: str
) -> Any:
    experiment = object.__new__(cls)
    experiment._build(tables, rule, name)
    return experiment


def _rule_table(rule: Rule) -> dict[str, Any]:
    """The table of a rule: its name and every field that is not None."""
    fields = {entry.name: getattr(rule, entry.name) for entry in dataclasses.fields(rule)}
    return {"name": rule.name, **{key: value for key, value in fields.items() if value is not None}}


def _rule_class(table: Mapping[str, Any]) -> type[Rule]:
    """The registered rule that ``rule.name`` names."""
    if "name" not in table:
        raise ExperimentError(f"rule.name is missing; add one of {', '.join(registered())}")
    rules = registered()
    checks.one_of("rule.name", table["name"], tuple(rules))
    return rules[table["name"]]


def _override(tables: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key, and removes those that it stands instead of."""
    parts = key.split(".")
    if not all(parts):
        raise ExperimentError(f"{key!r} is not a key; write it as table.key")
    for stem in (".".join(parts[: depth + 1]) for depth in range(len(parts))):
        for other in REPLACES.get(stem, ()):
            table, _, name = other.partition(".")
            if isinstance(tables.get(table), dict):
                tables[table].pop(name, None)
    place = tables
    for depth, part in enumerate(parts[:-1]):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ExperimentError(f"unknown key {key}; {'.'.join(parts[: depth + 1])} is no table")
    place[parts[-1]] = value


def presets() -> dict[str, Path]:
    """The shipped experiments: file by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}


def _absent(source: str) -> str:
    near = checks.nearest(source, tuple(presets()))
    return (
        f"there is no file and no shipped experiment {source[:200]!r}; did you mean {near}? "
        "(`macrodyn presets` lists the shipped ones)"
    )
