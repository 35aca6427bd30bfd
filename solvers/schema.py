"""The keys of an experiment file: their types, limits and defaults, section by section."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from solvers.errors import ExperimentError
from theory.rules import SHIPPED, Rule

ACTIVATIONS = ("erf", "linear", "relu", "polynomial")


def number(
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    integer: bool = False,
    infinite: bool = False,
) -> float | int:
    """``value`` as a number within its limits; ``"inf"`` counts where infinity is allowed."""
    if infinite and value == "inf":
        value = math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {_kind(value)}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError("is too large a number") from None
    if math.isnan(result) or (math.isinf(result) and not (infinite and result > 0)):
        raise ValueError(f"must be a finite number{' or inf' * infinite}, not {result}")
    if integer and math.isfinite(result):
        if result != math.floor(result):
            raise ValueError(f"must be a whole number, not {value}")
        result = int(value)
    if minimum is not None and result < minimum:
        raise ValueError(f"must be at least {minimum:g}, not {value}")
    if above is not None and result <= above:
        raise ValueError(f"must be above {above:g}, not {value}")
    return result


def numbers(value: Any, depth: int = 0) -> Any:
    """A number, or lists of numbers nested up to three deep, as tuples."""
    if not isinstance(value, (list, tuple)):
        return number(value)
    if depth == 3:
        raise ValueError("has lists nested more than three deep")
    return tuple(numbers(item, depth + 1) for item in value)


def _kind(value: Any) -> str:
    if isinstance(value, (bool, str)):
        return f"{'text' if isinstance(value, str) else 'a truth value'} ({value!r:.40})"
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, (list, tuple)) else f"{value!r:.40}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_kind(value)}")
    return value


def _one_of(value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        near = get_close_matches(str(value), choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"must be one of {', '.join(choices)}, not {str(value)[:40]!r}{hint}")
    return value


def _activation(value: Any) -> Any:
    return _one_of(value, ACTIVATIONS) if not hasattr(value, "derivative") else value


def _table(value: Any) -> Any:
    if not isinstance(value, (Mapping, BaseModel)):
        raise ValueError(f"must be a table of keys, not {_kind(value)}")
    return value


def _choice(*choices: str) -> Any:
    return BeforeValidator(partial(_one_of, choices=choices))


def _limited(**limits: Any) -> Any:
    return BeforeValidator(partial(number, **limits))


Count = Annotated[int, _limited(minimum=1, integer=True)]
Seed = Annotated[int, _limited(minimum=0, integer=True)]
Positive = Annotated[float, _limited(above=0.0)]
NonNegative = Annotated[float, _limited(minimum=0.0)]
Numbers = Annotated[Any, BeforeValidator(numbers)]
Table = BeforeValidator(_table)


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Inputs(Section):
    """Structured inputs: one variance on a fraction of the coordinates."""

    variance: Positive
    fraction: Positive


class Model(Section):
    """The learner and the meta-teacher."""

    activation: Annotated[Any, BeforeValidator(_activation)] = "erf"
    coefficients: Numbers = None
    hidden: Count
    teacher_hidden: Count
    teacher_overlap: Numbers = 1.0
    inputs: tuple[Annotated[Inputs, Table], ...] | None = None


class Tasks(Section):
    """The distribution of the task heads, label noise and representation spread."""

    head_mean: Numbers = None
    head_covariance: Numbers = 0.0
    heads: Numbers = None
    label_noise: NonNegative = 0.0
    representation_spread: NonNegative = 0.0


class Random(Section):
    """A start drawn at a finite dimension."""

    norm: NonNegative
    dimension: Count
    seed: Seed = 0


class Initial(Section):
    """Where learning starts: Q and R given, or drawn at random."""

    w: Numbers
    Q: Numbers = None
    R: Numbers = None
    random: Annotated[Random, Table] | None = None


class Integrate(Section):
    """How the flow is integrated, and when it is stored.

    Without a method of the user's choice, flows that run as compiled loops are integrated by those
    of Adams' method, unless they turn out stiff; all others by LSODA.
    """

    time: Positive
    method: Annotated[str, _choice("LSODA", "DOP853", "RK45", "Radau", "BDF")] = "LSODA"
    rtol: Positive = 1e-8
    atol: Positive = 1e-12
    points: Annotated[int, _limited(minimum=2, integer=True)] = 400
    spacing: Annotated[Literal["linear", "log"], _choice("linear", "log")] = "linear"
    backend: Annotated[str, _choice("auto", "numpy", "numba")] = "auto"

    @property
    def named_method(self) -> str | None:
        """The method if the user named one."""
        return self.method if "method" in self.model_fields_set else None


class Simulate(Section):
    """Finite-N runs of the algorithm itself."""

    dimension: Count
    runs: Count = 5
    seed: Seed = 0


class Evaluate(Section):
    """Adaptation at test time; what is absent is taken from the rule."""

    support: Annotated[Any, _limited(minimum=1, integer=True, infinite=True)] = None
    inner_steps: Annotated[Any, _limited(minimum=0, integer=True)] = None
    inner_rate: Annotated[Any, _limited(minimum=0.0)] = None


class Document(Section):
    """The whole file; the keys of ``rule`` depend on the rule's name."""

    title: Annotated[str, BeforeValidator(_text)] = ""
    model: Annotated[Model, Table]
    tasks: Annotated[Tasks, Table]
    rule: Annotated[Mapping[str, Any], Table]
    initial: Annotated[Initial, Table]
    integrate: Annotated[Integrate, Table]
    simulate: Annotated[Simulate, Table] | None = None
    evaluate: Annotated[Evaluate, Table] | None = None


@lru_cache
def rule_section(rule: type[Rule]) -> type[Section]:
    """The table of a rule, made of the fields of its dataclass and their metadata."""
    fields: dict[str, Any] = {"name": (str, rule.name)}
    for entry in dataclasses.fields(rule):
        required = entry.default is dataclasses.MISSING
        fields[entry.name] = (_rule_type(entry), ... if required else entry.default)
    return create_model(rule.name, __base__=Section, **fields)


def _rule_type(entry: dataclasses.Field[Any]) -> Any:
    limits = entry.metadata
    if "values" in limits:
        return Annotated[Any, _choice(*limits["values"])]
    kind = str(getattr(entry.type, "__name__", entry.type))
    if kind in ("str", "bool"):
        return {"str": Annotated[str, BeforeValidator(_text)], "bool": bool}[kind]
    known = {name: limits[name] for name in ("minimum", "above", "infinite") if name in limits}
    return Annotated[Any, _limited(**known, integer=limits.get("integer", "int" in kind))]


def checked(section: type[Section], data: Any, prefix: str = "") -> Any:
    """``data`` as a ``section``.

    Raises:
        ExperimentError: naming the first wrong key below ``prefix``; unknown keys come first.
    """
    try:
        return section.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    key = dotted((*filter(None, [prefix]), *first["loc"]))
    if first["type"] == "extra_forbidden":
        raise ExperimentError(f"unknown key {key}; {_hint(section, key, prefix)}")
    if first["type"] == "missing":
        raise ExperimentError(f"{key} is missing; {_advice(section, key)}")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    raise ExperimentError(f"{key} {message}")


def dotted(location: Iterable[str | int]) -> str:
    """A key as users write it: ``model.inputs[1].variance``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section, tables within it included."""
    result = []
    for name, entry in section.model_fields.items():
        result.append(f"{prefix}{name}")
        inner = _inner(entry.annotation)
        if inner is not None:
            result += keys(inner, f"{prefix}{name}.")
    return result


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    return next((found for found in map(_inner, arguments) if found), None)


def _hint(section: type[Section], key: str, prefix: str) -> str:
    """The known key nearest to an unknown one: in its own table, or of that name elsewhere."""
    table, _, name = key.rpartition(".")
    known = keys(section, f"{prefix}." if prefix else "")
    beside = [k for k in known if k.rpartition(".")[0] == table]
    of_rules = [key for rule in SHIPPED for key in keys(rule_section(rule), "rule.")]
    everywhere = list(dict.fromkeys([*of_rules, *known, *keys(Document)]))
    elsewhere = [k for k in everywhere if k.rpartition(".")[2] == name]
    near = (
        [k for k in beside if k.startswith(key)]
        or get_close_matches(key, beside, 1, 0.8)
        or elsewhere
        or get_close_matches(key, beside or everywhere, 1, 0.0)
    )
    return f"did you mean {near[0]}?"


def _advice(section: type[Section], key: str) -> str:
    table, _, name = key.rpartition(".")
    if table:
        return f"add {name} = … to the table [{table}]"
    inner = _inner(section.model_fields[name].annotation)
    example = next(iter(inner.model_fields)) if inner else "name"
    return f"add a table [{name}], which begins with {example} = …"


def plain(value: Any) -> Any:
    """Arrays, numpy scalars, tuples and sections as the lists, numbers and tables of a file."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(exclude_unset=True))
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
