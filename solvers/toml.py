"""Experiment files as text: reading TOML, writing it, and values given on a command line."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solvers.errors import ExperimentError

LARGEST_FILE = 64 * 2**20
"""Bytes; an experiment file beyond this is taken for something else."""


def read(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        ExperimentError: absent, a folder, unreadable, too large or not TOML.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ExperimentError(f"{path} is a folder; give the experiment file in it")
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ExperimentError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ExperimentError(f"cannot read {str(path)[:200]}: {reason}") from None
    if len(content) > LARGEST_FILE:
        raise ExperimentError(f"{path} is too large for an experiment file")
    return parse(content, str(path))


def parse(content: bytes | str, where: str = "the experiment") -> dict[str, Any]:
    """The table in TOML text; ``where`` names its origin in the error."""
    try:
        return tomllib.loads(content.decode() if isinstance(content, bytes) else content)
    except UnicodeDecodeError:
        raise ExperimentError(f"{where} is not a text file; give an experiment in TOML") from None
    except (ValueError, RecursionError) as error:
        raise ExperimentError(f"{where} is not valid TOML: {error}") from None


def assignment(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``, the value in TOML (a bare word is a string).

    >>> assignment("rule.inner_rate=2"), assignment("rule.order=exact")
    (('rule.inner_rate', 2), ('rule.order', 'exact'))
    """
    key, separator, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not separator or not key or not value:
        raise ExperimentError(f"--set {text}: write it as key=value, like --set rule.outer_rate=2")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        parsed = {}
    if parsed.keys() == {"value"}:
        return key, parsed["value"]
    if re.fullmatch(r"[A-Za-z][\w-]*", value):
        return key, value
    raise ExperimentError(f"--set {key}: {value[:80]} is not a TOML value")


def write(table: Mapping[str, Any]) -> str:
    """TOML text of a table of scalars and of tables; what is nested deeper is written inline.

    >>> print(write({"title": "t", "model": {"hidden": 2, "inputs": [{"variance": 0.5}]}}))
    title = "t"
    <BLANKLINE>
    [model]
    hidden = 2
    inputs = [{variance = 0.5}]
    <BLANKLINE>
    """
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping)]
    for name, section in table.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{_key(name)}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in section.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
