"""What a search for fixed points hands back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import Arrays, Tabular, Told
from solvers.results import Status
from solvers.stability.families import Family
from solvers.stability.modes import Mode, modes
from solvers.stability.problem import Spectrum
from solvers.stability.steady import Steady
from solvers.stability.symmetry import describe

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from solvers.experiment import Experiment

Array = NDArray[np.float64]


ROUNDING = 1e-13
"""An error below this is that of a perfect state."""


@dataclass(frozen=True, repr=False)
class FixedPoint(Told):
    """One fixed point: Q (K, K), R (K, M) (a block axis first if structured), w (K,), ε.

    ``eigenvalues`` (n,) are those of the flow where Q is stored once per pair (and w only if it
    learns), fastest growing first; ``unstable`` counts those that grow. ``family`` is the dimension
    of the continuous family the point belongs to: 0 if it is isolated. Its neutral modes do not
    count as unstable. ``varies`` tells whether the spectrum depends on the member.
    """

    experiment: Experiment
    x: Array
    Q: Array
    R: Array
    w: Array
    error: float
    residual: float
    eigenvalues: Spectrum
    unstable: int
    label: str
    family: int = 0
    varies: bool = False

    @property
    def manifold(self) -> Family:
        """The family's dimension, and whether its members differ in stability."""
        return Family(self.family, self.varies)

    @cached_property
    def copies(self) -> int:
        """How many states, different by more than names of learner units, it stands for.

        They differ by relabellings of teacher units that leave the tasks unchanged.
        """
        return Steady(self.experiment).units(0.0).copies(self.y)

    @property
    def stable(self) -> bool:
        """Whether no mode grows."""
        return self.unstable == 0

    @cached_property
    def symmetry(self) -> str:
        """The group of relabellings of units that leaves the point unchanged, in words."""
        return describe(Steady(self.experiment).units(0.0), self.y)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """The multiplets of eigenvalues with their names, fastest growing first."""
        steady = Steady(self.experiment)
        return modes(
            steady.problem, steady.units(0.0), self.y, steady.problem.jacobian(self.x, 0.0)
        )

    @property
    def y(self) -> Array:
        """The full state vector."""
        return self.experiment.layout.pack(self.Q, self.R, self.w)

    @property
    def sentence(self) -> str:
        """What the point is, in one sentence."""
        many = "direction" if self.unstable == 1 else "directions"
        kind = "stable" if self.stable else f"unstable in {self.unstable} {many}"
        error = self.error if abs(self.error) > ROUNDING else 0.0
        text = f"{self.label}, {kind}, error {error:.6g}, symmetry: {self.symmetry}"
        if self.family:
            text += f"; one of a {self.family}-dimensional family of fixed points"
            text += ", which differ in stability" if self.varies else " of the same spectrum"
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn fixed-points --json`` prints them."""
        return {
            "Q": self.Q.tolist(), "R": self.R.tolist(), "w": self.w.tolist(),
            "error": self.error, "residual": self.residual,
            "eigenvalues": [[float(v.real), float(v.imag)] for v in self.eigenvalues],
            "unstable": self.unstable, "stable": self.stable, "label": self.label,
            "symmetry": self.symmetry, "copies": self.copies,
            "family": self.family, "spectrum_varies": self.varies,
            "modes": [
                {
                    "eigenvalue": [m.eigenvalue.real, m.eigenvalue.imag],
                    "multiplicity": m.multiplicity, "name": m.name,
                }
                for m in self.modes
            ],
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class FixedPoints(Tabular, Sequence[FixedPoint]):
    """The fixed points that a search found, lowest error first, with a sentence on the search."""

    experiment: Experiment
    points: tuple[FixedPoint, ...]
    status: Status = Status.success
    message: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FixedPoint]:
        return iter(self.points)

    def __getitem__(self, index: Any) -> Any:
        return self.points[index]

    @property
    def sentence(self) -> str:
        """How many there are, in one sentence."""
        return self.message

    @property
    def arrays(self) -> Arrays:
        """All points along the dimension ``point``."""
        layout, n = self.experiment.layout, len(self)
        K, M = layout.hidden, layout.teacher_hidden
        lead = (layout.blocks,) if layout.blocks else ()
        block = ("block",) if layout.blocks else ()
        shapes = {"Q": (*lead, K, K), "R": (*lead, K, M), "w": (K,)}
        dims = {
            "Q": (*block, "learner", "learner_other"),
            "R": (*block, "learner", "teacher"),
            "w": ("learner",),
        }
        data: dict[str, Any] = {
            name: (("point", *dims[name]), _stack([getattr(p, name) for p in self], shapes[name]))
            for name in shapes
        }
        size = len(self[0].eigenvalues) if n else 0
        eigenvalues = _stack([p.eigenvalues for p in self], (size,), complex)
        data |= {
            "error": ("point", _stack([p.error for p in self], ())),
            "residual": ("point", _stack([p.residual for p in self], ())),
            "unstable": ("point", _stack([p.unstable for p in self], (), int)),
            "family": ("point", _stack([p.family for p in self], (), int)),
            "spectrum_varies": ("point", _stack([p.varies for p in self], (), int)),
            "label": ("point", _stack([p.label for p in self], (), str)),
            "symmetry": ("point", _stack([p.symmetry for p in self], (), str)),
            "eigenvalue_real": (("point", "mode"), np.real(eigenvalues)),
            "eigenvalue_imaginary": (("point", "mode"), np.imag(eigenvalues)),
        }
        attributes = {
            "kind": "fixed-points", "status": str(self.status), "message": self.message,
            "warnings": json.dumps(self.warnings),
        }  # fmt: skip
        return Arrays.of(data, attrs=attributes)

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> FixedPoints:
        """The fixed points that ``dataset`` was made of."""
        free, points = Steady(experiment).free, []
        for i in range(dataset.sizes["point"]):
            row = dataset.isel(point=i)
            Q, R, w = (row[name].values for name in ("Q", "R", "w"))
            eigenvalues = row["eigenvalue_real"].values + 1j * row["eigenvalue_imaginary"].values
            numbers = float(row["error"]), float(row["residual"])
            x = experiment.layout.pack(Q, R, w)[free]
            family = int(row["family"]), bool(row["spectrum_varies"])
            counts = int(row["unstable"]), str(row["label"].values), *family
            points.append(FixedPoint(experiment, x, Q, R, w, *numbers, eigenvalues, *counts))
        attributes = dataset.attrs
        return cls(
            experiment, tuple(points), Status(attributes["status"]), attributes["message"],
            tuple(json.loads(attributes["warnings"])),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn fixed-points --json`` prints them."""
        return {
            "status": str(self.status), "message": self.message, "warnings": list(self.warnings),
            "fixed_points": [point.to_dict() for point in self],
        }  # fmt: skip

    def plot(self) -> Figure:
        """The spectra of all points, stable and unstable modes apart."""
        from solvers.plotting.fixed_points import fixed_points_figure

        return fixed_points_figure(self)


def _stack(rows: Sequence[Any], shape: tuple[int, ...], kind: type = float) -> NDArray[Any]:
    return np.array(list(rows), dtype=None if kind is str else kind).reshape(len(rows), *shape)
