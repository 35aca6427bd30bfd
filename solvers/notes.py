"""Sentences on what is approximate in a flow, for the warnings of every result made with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from theory.codegen import CompiledFlow
    from theory.rules import Rule

Array = NDArray[np.float64]

NOISE_TOLERANCE = 1e-4
"""The relative error of the noise's cubature above which a warning is given."""


def on_rule(rule: Rule) -> list[str]:
    """What is approximate or reconstructed in the flow of a rule."""
    from theory.statement import notes

    return [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in notes(rule)]


def on_noise(
    compiled: CompiledFlow, parameters: Mapping[str, Any], states: Iterable[Array]
) -> list[str]:
    """A warning if the cubature of the noise is less accurate than 1e-4 at one of the states."""
    estimate = max((compiled.noise_estimate(y, parameters) for y in states), default=0.0)
    if estimate <= NOISE_TOLERANCE:
        return []
    return [f"The cubature of the noise at finite support is good to {estimate:.1g} only."]
