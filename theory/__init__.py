"""Theory: from the statement of a learning rule to its averages, its flow and fast callables.

>>> import sympy, theory
>>> x, q = sympy.symbols("x q")
>>> theory.gaussian_average(sympy.erf(x / sympy.sqrt(2)) ** 2, [x], [[q]])
2*asin(q/(q + 1))/pi

A name is fetched when it is first asked for: what runs from a cache need not wait for sympy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.activations import Activation as Activation
    from theory.activations import erf as erf
    from theory.activations import linear as linear
    from theory.activations import polynomial as polynomial
    from theory.activations import relu as relu
    from theory.ansatz import reduce as reduce
    from theory.averages import gaussian_average as gaussian_average
    from theory.codegen import compile_flow as compile_flow
    from theory.errors import DomainError as DomainError
    from theory.errors import NoClosedFormError as NoClosedFormError
    from theory.errors import NoTheoryError as NoTheoryError
    from theory.flow import derive as derive
    from theory.plateaus import symmetric_plateau as symmetric_plateau
    from theory.quadrature import gauss_hermite_average as gauss_hermite_average
    from theory.reduced import compile_reduction as compile_reduction

_HOMES = {
    "Activation": "activations",
    "DomainError": "errors",
    "NoClosedFormError": "errors",
    "NoTheoryError": "errors",
    "compile_flow": "codegen",
    "compile_reduction": "reduced",
    "derive": "flow",
    "erf": "activations",
    "gauss_hermite_average": "quadrature",
    "gaussian_average": "averages",
    "linear": "activations",
    "polynomial": "activations",
    "reduce": "ansatz",
    "relu": "activations",
    "symmetric_plateau": "plateaus",
}
"""The module that each public name lives in."""

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    return getattr(import_module(f"theory.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
