"""Results as arrays on named axes: what goes into a file, and into an xarray Dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray


class Variable(NamedTuple):
    """One array, the names of its axes and what is said about it."""

    dims: tuple[str, ...]
    values: NDArray[Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Arrays:
    """Arrays on named axes, under the names that an xarray Dataset gives its parts.

    ``coords`` are the names of those variables that say where the others are taken. Files are
    written from it, so that a run does not wait for xarray, which takes long to import.
    """

    variables: Mapping[str, Variable]
    coords: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: Mapping[str, tuple[Any, ...]],
        coords: Mapping[str, tuple[Any, ...]] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> Arrays:
        """From (axes, values) or (axes, values, attributes) by name; a single axis is its name."""
        coords = coords or {}
        variables = {name: _variable(*parts) for name, parts in {**data, **coords}.items()}
        return cls(variables, tuple(coords), attrs or {})

    @property
    def dataset(self) -> xarray.Dataset:
        """The same as an xarray Dataset."""
        import xarray

        coords = {name: self.variables[name] for name in self.coords}
        data = {name: v for name, v in self.variables.items() if name not in coords}
        return xarray.Dataset(data, coords, self.attrs)


def _variable(
    dims: str | tuple[str, ...], values: Any, attrs: Mapping[str, Any] | None = None
) -> Variable:
    return Variable((dims,) if isinstance(dims, str) else dims, np.asarray(values), attrs or {})


class Told(ABC):
    """A result that shows itself by a sentence, not by its arrays."""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What was found, in one line."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.sentence.rstrip('.')}>"


class Tabular(Told):
    """A result that is arrays on named axes."""

    @property
    @abstractmethod
    def arrays(self) -> Arrays:
        """Everything, as it is written to a file."""

    @property
    def dataset(self) -> xarray.Dataset:
        """Everything as an xarray Dataset; ``from_dataset`` is the inverse."""
        return self.arrays.dataset
