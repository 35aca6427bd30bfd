"""Functions whose text is compiled where generated loops call them, and how texts are read."""

from __future__ import annotations

import ast
import inspect
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

FLOAT, INT, BOOL, ARRAY = "double", "i64", "i1", "ptr"
"""What LLVM calls the kinds of values."""
HOMES = {
    **dict.fromkeys(("arcsin", "arctan2", "exp", "erf_given"), "theory.generation.special"),
    "sign_moment": "theory.generation.sign_loop",
    **dict.fromkeys(
        ("volume_of", "explained_of", "angle_of", "half_of", "integrand_of"),
        "theory.gaussian.plackett",
    ),
    **dict.fromkeys(("excess_of", "weight_of"), "theory.finite.lattice"),
    **dict.fromkeys(("eigen", "lattice_sums", "walk"), "theory.finite.lattice_loop"),
    **dict.fromkeys(
        ("add_block", "add_pair", "powers_of", "products", "times", "dots"),
        "theory.finite.block_sums",
    ),
    **dict.fromkeys(("finite_noise", "add_support_noise", "unfold"), "theory.finite.noise_loop"),
    **dict.fromkeys(
        ("cumulants", "mirrored3", "mirrored4", "query_noise", "support_noise"),
        "theory.finite.head_noise",
    ),
}
"""Functions that are compiled where they are called, and where their text stands. Those of numbers
return one; others fill arrays, and annotate the arguments that are numbers. A text may bring more
of both kinds along."""


@cache
def text_of(name: str) -> ast.FunctionDef:
    """A function of HOMES."""
    return parse(inspect.getsource(import_module(HOMES[name])))[name]


def kinds_of(function: ast.FunctionDef) -> list[str]:
    """The kinds of the arguments of such a function, sizes included."""
    numbers = {"int": INT, "float": FLOAT}
    fills = is_routine(function)
    return [
        numbers.get(ast.unparse(a.annotation), ARRAY) if fills and a.annotation else FLOAT
        for a in function.args.args
    ]


def is_routine(function: ast.FunctionDef) -> bool:
    """Whether a function fills arrays, and returns nothing."""
    return isinstance(function.returns, ast.Constant)


def parse(text: str) -> dict[str, ast.FunctionDef]:
    """The functions of a generated source, by name."""
    return {n.name: n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}


@lru_cache(maxsize=256)
def literals(text: str) -> dict[str, Any]:
    """The constants of a generated source, by name."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found
