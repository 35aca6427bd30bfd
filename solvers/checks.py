"""What the tables of an experiment must fulfil together: shapes, covariances, sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers import draws, schema
from solvers.errors import ExperimentError
from theory.overlaps import Layout, is_physical
from theory.rules import Rule
from theory.tasks import TaskDistribution

Array = NDArray[np.float64]

SYMMETRY = 1e-12
"""Relative tolerance of the symmetry of a given matrix."""


def one_of(key: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuses a value that is not among the choices, naming the nearest."""
    if value not in choices:
        raise ExperimentError(
            f"{key} must be one of {', '.join(choices)}, not {str(value)[:40]!r}; "
            f"did you mean {nearest(str(value), choices)}?"
        )


def nearest(word: str, choices: tuple[str, ...]) -> str:
    """The choice that is spelled most like ``word``."""
    lower = {choice.lower(): choice for choice in choices}
    return lower[get_close_matches(word.lower(), tuple(lower), 1, 0.0)[0]]


def array(key: str, value: Any, *shapes: tuple[int, ...]) -> Array:
    """``value`` as an array that has one of the shapes."""
    try:
        result = np.array(value, float)
    except ValueError:
        raise ExperimentError(f"{key} has rows of unequal length; give {_shapes(shapes)}") from None
    if result.shape not in shapes:
        raise ExperimentError(f"{key} must be {_shapes(shapes)}, not {_shapes((result.shape,))}")
    return result


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    words = {0: "a number", 1: "a list of {}", 2: "a {} × {} matrix", 3: "{} matrices of {} × {}"}
    texts = [words.get(len(s), f"an array of {len(s)} indices").format(*s) for s in shapes]
    return " or ".join(texts)


def covariance(key: str, matrix: Array) -> Array:
    """``matrix`` (…, n, n), made exactly symmetric, if it is a covariance: symmetric and PSD."""
    scale = np.abs(matrix).max(initial=0.0)
    if np.abs(matrix - matrix.swapaxes(-1, -2)).max(initial=0.0) > SYMMETRY * scale:
        raise ExperimentError(f"{key} is not symmetric, so it is no covariance; make it symmetric")
    matrix = (matrix + matrix.swapaxes(-1, -2)) / 2
    smallest = np.linalg.eigvalsh(matrix).min(initial=0.0)
    if smallest < -1e-10 * scale:
        raise ExperimentError(
            f"{key} is no covariance: its smallest eigenvalue is {smallest:.3g}, not at least 0"
        )
    return matrix


def sizes(document: schema.Document) -> None:
    """Refuses what cannot fit in memory, by key and before any of it is made."""
    model, run = document.model, document.simulate
    K, M, blocks = model.hidden, model.teacher_hidden, len(model.inputs or "1")
    start = document.initial.random
    state = blocks * (K * (K + 1) // 2 + K * M) + K
    fits("model.hidden and model.teacher_hidden", 4 * blocks * (K + M) ** 2)
    fits("integrate.points", document.integrate.points * state)
    if start is not None:
        fits("initial.random.dimension", start.dimension * K)
    if run is not None:
        fits("simulate.dimension × simulate.runs", run.runs * run.dimension * (K + M))


def integration_fits(layout: Layout) -> None:
    """Refuses a flow whose Jacobian, or whose averages per pair, cannot fit in memory."""
    pairs, fields = len(layout.pairs[0]), layout.hidden + layout.teacher_hidden
    need = max(layout.size**2, pairs * fields**2)
    fits("model.hidden and model.teacher_hidden: the flow and its Jacobian", need)


def fits(key: str, numbers: int) -> None:
    """Refuses an array of that many numbers if it exceeds the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 8 * numbers > memory:
        need, have = _size(8 * numbers), _size(memory)
        raise ExperimentError(f"{key}: {need} do not fit in this machine's {have}; make it smaller")


def _size(octets: int) -> str:
    return f"{octets / 1e9:.3g} GB" if octets < 10**300 else "more than any number of bytes"


def fractions(model: schema.Model) -> Array:
    """The fraction of coordinates in each block of the inputs, (L,); [1] without structure."""
    if model.inputs is None:
        return np.ones(1)
    if not model.inputs:
        raise ExperimentError("model.inputs is empty; list {variance, fraction} or remove it")
    found = np.array([block.fraction for block in model.inputs])
    if abs(found.sum() - 1) > 1e-9:
        raise ExperimentError(f"model.inputs: fractions must sum to 1, not {found.sum():.12g}")
    return found / found.sum()


def coefficients(model: schema.Model) -> None:
    """The coefficients of a polynomial activation, and of no other."""
    if model.activation == "polynomial":
        if model.coefficients is None:
            raise ExperimentError("model.coefficients is missing; list c0, c1, … of Σ_n c_n xⁿ")
        array("model.coefficients", model.coefficients, (max(np.size(model.coefficients), 1),))
    elif model.coefficients is not None:
        raise ExperimentError(
            "model.coefficients is used by activation 'polynomial' alone; remove it, or change "
            "model.activation"
        )


def teacher_overlap(model: schema.Model, fraction: Array) -> Array:
    """T of each block, (L, M, M)."""
    key, M = "model.teacher_overlap", model.teacher_hidden
    blocks = len(fraction)
    full = (blocks, M, M) if model.inputs else (M, M)
    given = array(key, model.teacher_overlap, (), full)
    if given.ndim == 0:
        given = fraction[:, None, None] * given * np.eye(M)
    return covariance(key, given.reshape(blocks, M, M))


def tasks(table: schema.Tasks, M: int) -> TaskDistribution:
    """The task distribution of the table."""
    noise, spread = table.label_noise, table.representation_spread
    given = table.model_fields_set & {"head_mean", "head_covariance"}
    if table.heads is not None:
        if given:
            raise ExperimentError(f"tasks.heads replaces tasks.{min(given)}; give one of them")
        rows = len(table.heads) if isinstance(table.heads, tuple) else 1
        heads = array("tasks.heads", table.heads, (max(rows, 1), M))
        return TaskDistribution(heads.mean(axis=0), np.zeros((M, M)), heads, noise, spread)
    if table.head_mean is None:
        raise ExperimentError("tasks.head_mean is missing; add head_mean = … to the table [tasks]")
    mean = np.broadcast_to(array("tasks.head_mean", table.head_mean, (), (M,)), (M,)).copy()
    matrix = array("tasks.head_covariance", table.head_covariance, (), (M,), (M, M))
    if matrix.ndim < 2:
        matrix = np.diag(np.broadcast_to(matrix, (M,)))
    return TaskDistribution(mean, covariance("tasks.head_covariance", matrix), None, noise, spread)


def rule(kind: type[Rule], table: Mapping[str, Any]) -> Rule:
    """The rule that the table describes."""
    section = schema.rule_section(kind)
    unknown = [key for key in table if key not in section.model_fields]
    known_elsewhere = {key for other in _rules() for key in schema.rule_section(other).model_fields}
    if unknown and unknown[0] in known_elsewhere:
        raise ExperimentError(f"rule.{unknown[0]} is not used by rule {kind.name!r}; remove it")
    checked = schema.checked(section, table, "rule")
    try:
        made = kind(**{key: getattr(checked, key) for key in section.model_fields if key != "name"})
        made.check()
    except (TypeError, ValueError) as error:
        raise ExperimentError(error) from None
    return made


def _rules() -> list[type[Rule]]:
    from theory.rules import registered

    return list(registered().values())


def rule_fits(rule: Rule, document: schema.Document, tasks: TaskDistribution) -> None:
    """What a rule demands of the tasks and of time."""
    if rule.one_task and np.any(tasks.covariance):
        key = "heads" if tasks.heads is not None else "head_covariance"
        remedy = "give a single head" if tasks.heads is not None else "it must be 0"
        raise ExperimentError(
            f"tasks.{key}: rule {rule.name!r} has one teacher; {remedy}, or use average-risk"
        )
    activation = document.model.activation
    if rule.linear_only and getattr(activation, "name", activation) != "linear":
        raise ExperimentError(
            f"model.activation: rule {rule.name!r} has a theory for linear networks alone; "
            "set it to linear"
        )
    time = document.integrate.time
    if rule.regime == "population" and time != math.floor(time):
        raise ExperimentError(
            f"integrate.time counts steps in regime 'population': a whole number, not {time:g}"
        )
    if document.evaluate is not None:
        _evaluation_fits(rule, document.evaluate)


def _evaluation_fits(rule: Rule, table: schema.Evaluate) -> None:
    """What an extensive support leaves to say of the adaptation at test time."""
    keys = schema.Evaluate.model_fields
    values = {key: evaluation(rule, key, getattr(table, key)) for key in keys}
    ratio = getattr(rule, "support_ratio", None)
    if ratio is not None and table.support not in (None, math.inf):
        raise ExperimentError(
            f"evaluate.support is not used by rule {rule.name!r} with rule.support_ratio, which "
            "adapts J by O(1) on P = ρN examples; remove it"
        )
    if ratio not in (None, math.inf) and values["inner_steps"] > 1:
        raise ExperimentError(
            "evaluate.inner_steps: several steps on one support of finite ratio do not close; set "
            "it to 1, or rule.support_ratio = inf"
        )


def evaluation(rule: Rule, key: str, value: float | None) -> float:
    """A number of the adaptation at test time: as given, or the rule's own."""
    defaults = {"support": math.inf, "inner_steps": 1}
    candidates = (value, getattr(rule, key, None), defaults.get(key))
    value = next((number for number in candidates if number is not None), None)
    if value is None:
        raise ExperimentError(
            f"evaluate.{key} is missing; rule {rule.name!r} has no inner loop to take it from"
        )
    return value


def initial(table: schema.Initial, layout: Layout, overlap: Array, fraction: Array) -> Array:
    """The state vector at time 0."""
    K, M, L = layout.hidden, layout.teacher_hidden, layout.blocks
    w = np.broadcast_to(array("initial.w", table.w, (), (K,)), (K,))
    given = [key for key in ("Q", "R") if getattr(table, key) is not None]
    if table.random is not None:
        if given:
            raise ExperimentError(f"initial.random replaces initial.{given[0]}; give one of them")
        blocks = draws.block_sizes(fraction, table.random.dimension)
        if min(blocks) < M:
            raise ExperimentError(
                f"initial.random.dimension leaves {min(blocks)} coordinates for {M} teacher units; "
                f"it must be at least {math.ceil(M / fraction.min())}"
            )
        Q, R = draws.random_overlaps(K, overlap, blocks, table.random.norm, table.random.seed)
        return layout.pack(Q if L else Q[0], R if L else R[0], w)
    if len(given) < 2:
        absent = next(key for key in ("Q", "R") if key not in given)
        raise ExperimentError(f"initial.{absent} is missing; add it, or use initial.random")
    lead = (L,) if L else ()
    Q = covariance("initial.Q", array("initial.Q", table.Q, (*lead, K, K)))
    R = array("initial.R", table.R, (*lead, K, M))
    if not is_physical(Q, R, overlap if L else overlap[0]):
        raise ExperimentError(
            "initial.Q and initial.R are not physical: the covariance [[Q, R], [Rᵀ, T]] has a "
            "negative eigenvalue; make R smaller or Q larger"
        )
    return layout.pack(Q, R, w)


def dimension(run: schema.Simulate | None, layout: Layout, fraction: Array) -> None:
    """Refuses a finite dimension in which vectors of the given overlaps do not exist."""
    if run is None:
        return
    units = layout.hidden + layout.teacher_hidden
    blocks = draws.block_sizes(fraction, run.dimension)
    if min(blocks) < units:
        raise ExperimentError(
            f"simulate.dimension leaves {min(blocks)} coordinates for {units} vectors of given "
            f"overlaps; it must be at least {math.ceil(units / fraction.min())}"
        )
