"""Branches of fixed points in a parameter of the experiment, as arrays, tables and xarray."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import Arrays, Tabular, Told
from solvers.results import Status
from solvers.stability.steady import Steady
from solvers.stability.symmetry import describe
from solvers.stability.track import SpecialPoint, Track

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from solvers.experiment import Experiment

Array = NDArray[np.float64]

WORDS = {
    "fold": "fold: two fixed points meet",
    "branch-point": "branch point",
    "hopf": "Hopf point: an oscillation sets in",
    "period-doubling": "period doubling: the map alternates",
    "neimark-sacker": "Neimark-Sacker point: an oscillation of the map sets in",
    "unphysical": "end of physicality: C is no longer a covariance beyond",
}
"""The kinds of special points in words."""


@dataclass(frozen=True)
class Special:
    """One row of the table of special points of a branch."""

    kind: str
    parameter: float
    error: float
    multiplicity: int
    unstable: tuple[int, int]
    critical: bool
    sentence: str
    position: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text."""
        return {
            "kind": self.kind, "parameter": self.parameter, "error": self.error,
            "multiplicity": self.multiplicity, "unstable": list(self.unstable),
            "critical": self.critical, "sentence": self.sentence,
            "position": self.position,
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class Branch(Told):
    """One branch: ``parameter`` (n,), Q (n, K, K), R (n, K, M), w (n, K), error (n,) along it.

    ``eigenvalues`` (n, d) and ``unstable`` (n,) give the stability at each point; ``ends`` says why
    the branch ends on either side, ``origin`` where it was started. ``family`` is the dimension of
    the continuous family each point belongs to; its neutral modes neither count as unstable nor
    cross. ``varies`` tells whether members differ in stability: then this is the branch of one.
    """

    experiment: Experiment
    name: str
    parameter: Array
    Q: Array
    R: Array
    w: Array
    error: Array
    eigenvalues: NDArray[np.complex128]
    unstable: NDArray[np.intp]
    special_points: tuple[Special, ...]
    ends: tuple[str, str]
    origin: str
    symmetry: str
    family: int = 0
    varies: bool = False
    track: Track | None = None

    def __len__(self) -> int:
        return len(self.parameter)

    @property
    def sentence(self) -> str:
        """Where it runs, in one line."""
        low, high = self.parameter.min(), self.parameter.max()
        start = "" if self.origin == "start" else f", from the {self.origin}"
        return (
            f"{self.name} from {low:.6g} to {high:.6g}, {len(self)} points, "
            f"symmetry: {self.symmetry}{start}"
        )

    def table(self) -> str:
        """The special points, one a line."""
        return "\n".join(s.sentence for s in self.special_points) or "no special points"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn continue --json`` prints them."""
        columns = zip(
            self.parameter, self.error, self.unstable, self.Q, self.R, self.w, strict=True
        )
        return {
            "points": [
                {
                    "parameter": float(value), "error": float(error), "unstable": int(count),
                    "Q": Q.tolist(), "R": R.tolist(), "w": w.tolist(),
                }
                for value, error, count, Q, R, w in columns
            ],
            "special_points": [special.to_dict() for special in self.special_points],
            "ends": list(self.ends), "origin": self.origin, "symmetry": self.symmetry,
            "family": self.family, "spectrum_varies": self.varies,
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class Diagram(Tabular, Sequence[Branch]):
    """The branches of a bifurcation diagram, with a sentence on how they were found."""

    experiment: Experiment
    name: str
    branches: tuple[Branch, ...]
    status: Status = Status.success
    message: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.branches)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches)

    def __getitem__(self, index: Any) -> Any:
        return self.branches[index]

    @property
    def sentence(self) -> str:
        """How many branches there are, in one sentence."""
        return self.message

    @property
    def arrays(self) -> Arrays:
        """All points of all branches along ``point``, with the number of their branch.

        Special points stand along ``special``.
        """
        layout = self.experiment.layout
        block = ("block",) if layout.blocks else ()
        dims = {
            "Q": (*block, "learner", "learner_other"),
            "R": (*block, "learner", "teacher"),
            "w": ("learner",),
            "error": (),
            "unstable": (),
        }
        data: dict[str, Any] = (
            {
                name: (("point", *rest), np.concatenate([getattr(b, name) for b in self]))
                for name, rest in dims.items()
            }
            if len(self)
            else {}
        )
        if len(self):
            eigenvalues = np.concatenate([b.eigenvalues for b in self])
            data["eigenvalue_real"] = (("point", "mode"), eigenvalues.real)
            data["eigenvalue_imaginary"] = (("point", "mode"), eigenvalues.imag)
            data["parameter"] = ("point", np.concatenate([b.parameter for b in self]))
            data["branch"] = ("point", np.repeat(np.arange(len(self)), [len(b) for b in self]))
        specials = [(i, s) for i, b in enumerate(self) for s in b.special_points]
        data["special_branch"] = ("special", np.array([i for i, _ in specials], int))
        data["special_parameter"] = ("special", np.array([s.parameter for _, s in specials], float))
        data["special_error"] = ("special", np.array([s.error for _, s in specials], float))
        attributes = {
            "kind": "continuation", "parameter": self.name, "status": str(self.status),
            "message": self.message, "warnings": json.dumps(self.warnings),
            "branches": json.dumps(
                [
                    {"ends": b.ends, "origin": b.origin, "symmetry": b.symmetry,
                     "family": b.family, "varies": b.varies} for b in self
                ]
            ),
            "special_points": json.dumps([s.to_dict() for _, s in specials]),
        }  # fmt: skip
        return Arrays.of(data, attrs=attributes)

    @classmethod
    def from_dataset(cls, dataset: xarray.Dataset, experiment: Experiment) -> Diagram:
        """The diagram that ``dataset`` was made of, for reading and drawing."""
        attributes, branches = dataset.attrs, []
        rows = json.loads(attributes["special_points"])
        specials = [Special(**{**row, "unstable": tuple(row["unstable"])}) for row in rows]
        owners = dataset["special_branch"].values
        for number, about in enumerate(json.loads(attributes["branches"])):
            part = dataset.isel(point=np.flatnonzero(dataset["branch"].values == number))
            values = {name: part[name].values for name in ("Q", "R", "w", "error", "unstable")}
            eigenvalues = part["eigenvalue_real"].values + 1j * part["eigenvalue_imaginary"].values
            own = tuple(s for s, owner in zip(specials, owners, strict=True) if owner == number)
            ends = tuple(about.pop("ends"))
            branches.append(
                Branch(
                    experiment, attributes["parameter"], part["parameter"].values,
                    eigenvalues=eigenvalues, special_points=own, ends=ends, **values, **about,
                )
            )  # fmt: skip
        return cls(
            experiment, attributes["parameter"], tuple(branches), Status(attributes["status"]),
            attributes["message"], tuple(json.loads(attributes["warnings"])),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, as ``macrodyn continue --json`` prints them."""
        return {
            "status": str(self.status), "message": self.message, "warnings": list(self.warnings),
            "parameter": self.name, "branches": [branch.to_dict() for branch in self],
        }  # fmt: skip

    def plot(self) -> Figure:
        """The bifurcation diagram: stable parts full, unstable parts dashed."""
        from solvers.plotting.branch import diagram_figure

        return diagram_figure(self)


def branch_of(steady: Steady, track: Track) -> Branch:
    """The branch as arrays."""
    points, layout, name = track.points, steady.experiment.layout, steady.parameter or ""
    states = np.array([steady.state(p.x, p.parameter) for p in points])
    Q, R, w = layout.unpack(states)
    middle = points[len(points) // 2]
    return Branch(
        steady.experiment, name, np.array([p.parameter for p in points]), Q, R, w,
        np.array([steady.error(p.x, p.parameter) for p in points]),
        np.array([p.eigenvalues for p in points]), np.array([p.unstable for p in points]),
        tuple(_row(steady, s) for s in track.special_points), track.ends, track.origin,
        describe(steady.units(middle.parameter), steady.state(middle.x, middle.parameter)),
        *track.family, track,
    )  # fmt: skip


def _row(steady: Steady, special: SpecialPoint) -> Special:
    words = WORDS[special.kind]
    if special.kind == "branch-point" and special.multiplicity > 1:
        words += f" of {special.multiplicity} modes that symmetry makes cross together"
    if special.critical and special.kind != "unphysical":
        rate = steady.parameter == "rule.outer_rate"
        words += "; the critical learning rate" if rate else "; stability changes here"
    before, after = special.unstable
    if special.kind == "branch-point" and before == after:
        words += " where the branch turns back into its own image"
    text = f"{steady.parameter} = {special.parameter:.10g}: {words} ({before} → {after} unstable)"
    error = steady.error(special.x, special.parameter)
    return Special(
        special.kind, special.parameter, error, special.multiplicity, special.unstable,
        special.critical, text, special.position,
    )  # fmt: skip
