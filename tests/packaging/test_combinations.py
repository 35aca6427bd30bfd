"""The README's table of what has a theory, row by row and cell by cell, against the code."""

import functools
from itertools import product
from typing import Any

import numpy as np
import pytest

import theory.flow
import theory.statement
from solvers import Experiment, ExperimentError
from tests.packaging.test_readme import README

REGIMES = ("streaming", "gradient-flow", "population")
ACTIVATIONS = ("erf", "relu", "polynomial", "linear")
STRUCTURES = ("iid inputs", "structured inputs", "given heads")
RATES = {"inner_rate": 0.5}
ROWS: dict[str, list[dict[str, Any]]] = {
    "`sgd`, `average-risk`": [{"name": "sgd"}, {"name": "average-risk"}],
    "`anil`, infinite support, any inner steps": [
        {"name": "anil", "inner_steps": n, **RATES} for n in (0, 1, 3)
    ],
    "`anil`, finite support, one step": [{"name": "anil", "support": 3, **RATES}],
    "`anil`, finite support, two or three steps": [
        {"name": "anil", "support": 3, "inner_steps": n, **RATES} for n in (2, 3)
    ],
    "`anil`, finite support, more steps": [
        {"name": "anil", "support": 3, "inner_steps": 4, **RATES}
    ],
    "`maml`, `support` = O(1), one step": [{"name": "maml", "support": 3, **RATES}],
    "`maml`, `support` = O(1), several steps": [
        {"name": "maml", "support": 3, "inner_steps": 2, **RATES}
    ],
    "`maml`, `support_ratio` finite, one step": [{"name": "maml", "support_ratio": 2.0, **RATES}],
    "`maml`, `support_ratio` finite, several steps": [
        {"name": "maml", "support_ratio": 2.0, "inner_steps": 2, **RATES}
    ],
    "`maml`, `support_ratio = inf`, any inner steps": [
        {"name": "maml", "support_ratio": np.inf, "inner_steps": n, **RATES} for n in (1, 2)
    ],
    "`frozen-representation`, infinite support": [{"name": "frozen-representation"}],
    "`frozen-representation`, finite support": [{"name": "frozen-representation", "support": 3}],
    "`adapt-representation`, infinite support": [{"name": "adapt-representation", "penalty": 0.5}],
    "`adapt-representation`, finite support": [
        {"name": "adapt-representation", "penalty": 0.5, "support": 3}
    ],
}
LEGEND = {
    "exact": "exact",
    "linear units: exact": "exact",
    "exact given the task average": "task average",
    "noise by cubature": "noise by cubature",
    "as `anil`; noise by cubature": "as anil, noise by cubature",
    "as `anil`": "as anil",
}
"""What a cell says, and what ``found`` calls that."""


def table():
    """Cells of the README's table by row and regime."""
    section = README.split("## What has a theory\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line] for line in lines]
    assert tuple(head[1:]) == REGIMES
    return {row[0]: dict(zip(REGIMES, row[1:], strict=True)) for row in body}


def test_the_table_has_all_rows():
    assert set(table()) == set(ROWS)


def experiment(rule, regime, activation, structure):
    changes = {"integrate.time": 10.0, "model.activation": activation}
    if activation == "polynomial":
        changes["model.coefficients"] = [0.1, 0.5, 0.2]
    if structure == "given heads":
        heads = [[1.0, -0.5], [0.3, 0.7]]
        changes["tasks.heads"] = heads[:1] if rule["name"] == "sgd" else heads
    elif rule["name"] == "sgd":
        changes["tasks.head_covariance"] = 0.0
    if structure == "structured inputs":
        zero, small = [[0.0, 0.0], [0.0, 0.0]], [[0.1, 0.0], [0.0, 0.12]]
        changes["model.inputs"] = [
            {"variance": 0.5, "fraction": 0.5}, {"variance": 2.0, "fraction": 0.5}
        ]  # fmt: skip
        changes["initial"] = {"w": 0.5, "Q": [small, small], "R": [zero, zero]}
    base = Experiment.load("meta-specialization")
    return base.replace(rule={**rule, "regime": regime, "outer_rate": 0.1}, **changes)


def found(rule, regime, activation, structure):
    """What the code makes of a combination: exact, approximate in a way that it names, refused."""
    try:
        flow = experiment(rule, regime, activation, structure).flow
    except ExperimentError as error:
        return f"refused: {error}"
    sentences = " ".join(theory.statement.notes(flow.rule))
    parts = []
    if "that of anil at leading order" in sentences:
        parts.append("as anil")
    if "S_finite" in flow.program.inputs:
        parts.append("noise by cubature")
    ranges = {r for d in flow.definitions for r in d.ranges}
    if "tasks" in ranges and structure != "given heads" and activation != "linear":
        parts.append("task average")
    return ", ".join(parts) or "exact"


def orders(rule):
    return ({},) if rule["name"] in ("sgd", "average-risk") else ({}, {"order": "exact"})


@pytest.mark.parametrize("row", ROWS)
def test_the_code_does_what_the_table_says(row, monkeypatch):
    # a flow is the same for all units that are not linear
    monkeypatch.setattr(theory.flow, "derive", functools.cache(theory.flow.derive))
    cells = table()[row]
    settings = [(rule, order) for rule in ROWS[row] for order in orders(rule)]
    for regime, cell in cells.items():
        for (rule, order), activation, structure in product(settings, ACTIVATIONS, STRUCTURES):
            result = found(rule | order, regime, activation, structure)
            case = (row, regime, order, activation, structure, result)
            refused = cell == "refused" or (cell.startswith("linear") and activation != "linear")
            if "support_ratio" in rule:  # as the line below the table says
                refused |= activation == "relu" and bool(order)
            if refused:
                assert result.startswith("refused: "), case
                assert "set " in result, case
                continue
            expected = LEGEND[cell]
            exact_average = activation == "linear" or structure == "given heads"
            if expected == "task average" and exact_average:
                expected = "exact"
            assert result == expected, case


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("activation", ["relu", "polynomial"])
def test_what_is_not_refused_has_rates(row, activation):
    """Averages of units other than erf may exist for a derivation and yet be infinite."""
    for regime, rule in product(REGIMES, ROWS[row]):
        for order in orders(rule):
            try:
                study = experiment(rule | order, regime, activation, "iid inputs")
                rates = study.compiled.rhs(study.initial_state(), study.parameters)
            except ExperimentError:
                continue
            assert np.isfinite(rates).all(), (row, regime, order)
