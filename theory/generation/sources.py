"""Sources of generated functions, kept on disk by content; what is there needs no sympy."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import platformdirs

from theory.activations import Activation
from theory.generation.digest import engine_digest
from theory.rules.base import Rule, named
from theory.statement import Structure


def cache_folder() -> Path:
    """Where generated sources are kept: $MACRODYN_CACHE, else the user's cache folder."""
    return Path(os.environ.get("MACRODYN_CACHE") or platformdirs.user_cache_path("macrodyn"))


def _statement(rule: type[Rule]) -> str:
    """The text of a rule and of the rules that it is made from, outside this package, and what
    their methods read of their modules."""
    classes = [
        c for c in rule.__mro__ if issubclass(c, Rule) and not c.__module__.startswith("theory")
    ]
    read: dict[str, str] = {}
    for method in (m for c in classes for m in vars(c).values() if inspect.isfunction(m)):
        _reads(method, read)
    return "\n".join((*map(_text, classes), repr(sorted(read.items())))) if classes else rule.name


def _reads(function: FunctionType, found: dict[str, str]) -> None:
    """Numbers, text and functions that a function reads of its module, and what these read."""
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        key = f"{function.__module__}.{name}"
        if key in found:
            continue
        if isinstance(value, int | float | str | tuple):
            found[key] = repr(value)
        elif inspect.isfunction(value) and not value.__module__.startswith("theory"):
            found[key] = repr(_byte_code(value.__code__))
            _reads(value, found)


def _names(code: CodeType) -> set[str]:
    inner = (_names(c) for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*inner)


def _text(rule: type[Rule]) -> str:
    """The text of a class, or its byte code where no file holds it, as in a worker process."""
    try:
        return inspect.getsource(rule)
    except (OSError, TypeError):
        methods = [item for item in vars(rule).values() if inspect.isfunction(item)]
        return repr([(method.__name__, _byte_code(method.__code__)) for method in methods])


def _byte_code(code: CodeType) -> tuple[Any, ...]:
    constants = [_byte_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code, code.co_names, constants


@lru_cache(maxsize=256)
def _key(stated: Rule, structure: Structure, activation: Activation) -> str:
    """What the equations depend on: the engine, the rule's text and structure, the activation.

    ``stated`` is the rule with its rates by name, so that a scan over them asks once.
    """
    numbers = {f.name: getattr(stated, f.name) for f in dataclasses.fields(stated)}
    text = [engine_digest(), _statement(type(stated)), repr(sorted(numbers.items(), key=str)),
            repr(structure), activation.digest]  # fmt: skip
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def source_path(
    rule: Rule, structure: Structure, activation: Activation, name: str, backend: str
) -> Path:
    """Where the generated source of a function is kept."""
    key = _key(named(rule), structure, activation)[:32]
    return cache_folder() / f"{backend}_{name}_{key}.py"


def source_of(
    rule: Rule, structure: Structure, activation: Activation, name: str, backend: str = "numpy"
) -> str:
    """Generated source of a function, from the cache on disk where it has been made before."""

    def write() -> str:
        from theory.flow import derive, symbolic
        from theory.generation.writing import generate

        return generate(derive(symbolic(rule), structure), activation, name, backend)

    return _kept(source_path(rule, structure, activation, name, backend), write)


def page_of(
    rule: Rule, structure: Structure, activation: Activation, style: str, write: Callable[[], str]
) -> str:
    """A printed page of a flow, from the cache on disk where it has been written before.

    ``style`` names how it is printed; the page holds no numbers, so that rates do not matter.
    """
    key = _key(named(rule), structure, activation)[:32]
    return _kept(cache_folder() / f"page_{style}_{key}.txt", write)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The text in a file, which is made where there is none."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    text = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    return text


@lru_cache(maxsize=128)
def load(source: str, activation: Activation) -> dict[str, Any]:
    """The functions of a generated source."""
    namespace: dict[str, Any] = {}
    if "sign_moment(" in source:
        from theory.gaussian.plackett import sign_moment

        namespace["sign_moment"] = sign_moment
    if "average(" in source:
        if activation.has_kinks:
            from theory.gaussian.kinks import average
        else:
            from theory.quadrature import average

        namespace["average"] = lambda signature, *entries: average(signature, activation, *entries)
    exec(compile(source, "<macrodyn generated source>", "exec"), namespace)
    return namespace
