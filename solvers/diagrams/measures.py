"""What is kept of each trajectory of a diagram, and how it is laid out as a dataset."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.results import Plateau, Status, Trajectory
from solvers.stability.problem import STABILITY_TOLERANCE
from solvers.stability.steady import Steady
from solvers.states import ALL_LABELS, FAILED

if TYPE_CHECKING:
    import xarray

    from solvers.diagrams.axes import Axis
    from solvers.diagrams.journal import Record, Task
    from solvers.diagrams.refine import Place

Array = NDArray[np.float64]

TEXTS = {
    "label": "what the final state is",
    "status": "how the computation ended",
    "message": "what to do about it, if it did not end well",
}
NUMBERS = {
    "error": ("final ½E[(f − y)²], after the rule's adaptation", "1"),
    "specialization": ("alignment of units with own teachers at the end", "1"),
    "plateau_length": ("time on the longest plateau that was left", "time"),
    "plateau_error": ("error on that plateau", "1"),
    "escape_rate": ("fastest growth of a deviation on that plateau", "1/time"),
    "escape_time": ("first time with specialization above 0.3", "time"),
    "growth_rate": ("fastest growth of a deviation at the end; negative where stable", "1/time"),
    "unstable": ("number of unstable directions at the end", "1"),
}
"""Meaning and unit of each number, by name; missing ones are NaN."""

SMALLEST_ERROR = 1e-8
"""Errors below this count as equal where points are placed by their values."""


def measure(trajectory: Trajectory) -> Record:
    """What a trajectory shows, as text and numbers; None for what is missing.

    A trajectory that diverged has no final error or specialization.
    """
    final = trajectory.layout.pack(trajectory.Q[-1], trajectory.R[-1], trajectory.w[-1])
    plateau = max(trajectory.plateaus, key=lambda p: p.length, default=None)
    growth, unstable = _growth(trajectory, final)
    diverged = trajectory.status is Status.diverged
    numbers = {
        "error": None if diverged else trajectory.final.error,
        "specialization": None if diverged else trajectory.specialization,
        "plateau_length": plateau.length if plateau else None,
        "plateau_error": plateau.error if plateau else None,
        "escape_rate": _growth(trajectory, _slowest(trajectory, plateau))[0] if plateau else None,
        "escape_time": trajectory.escape_time,
        "growth_rate": growth,
        "unstable": unstable,
    }
    ended = trajectory.status in (Status.success, Status.diverged)
    return {
        "label": trajectory.label if ended else FAILED,
        "status": str(trajectory.status),
        "message": trajectory.message,
        **{name: _finite(value) for name, value in numbers.items()},
    }


def value_of(record: Record) -> float:
    """log₁₀ ε of a record, NaN if there is none: the value by which points are placed."""
    error = record.get("error")
    return math.nan if error is None else math.log10(max(error, SMALLEST_ERROR))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _slowest(trajectory: Trajectory, plateau: Plateau) -> Array:
    """The stored state on a plateau at which ε moves least."""
    time, level = trajectory.time, np.log(np.maximum(trajectory.error, np.finfo(float).tiny))
    on_it = np.flatnonzero((time >= plateau.start) & (time <= plateau.end))
    if not on_it.size:
        on_it = np.array([np.abs(time - (plateau.start + plateau.end) / 2).argmin()])
    i = on_it[np.abs(np.gradient(level, time))[on_it].argmin()]
    return trajectory.layout.pack(trajectory.Q[i], trajectory.R[i], trajectory.w[i])


def _growth(trajectory: Trajectory, state: Array) -> tuple[float | None, int | None]:
    """Growth rate of the leading mode of the flow linearised at a state, and how many grow."""
    if trajectory.status is Status.diverged or not np.isfinite(state).all():
        return None, None
    steady = Steady(trajectory.experiment)
    problem = steady.problem
    jacobian = problem.jacobian(state[steady.free], 0.0)
    if not np.isfinite(jacobian).all():
        return None, None
    values = problem.spectrum(jacobian)
    growth = problem.growth(values)
    scale = float(np.abs(values).max(initial=0.0))
    return float(growth[0]), int((growth > STABILITY_TOLERANCE * scale).sum())


def assemble(
    axes: Sequence[Axis],
    places: Sequence[tuple[Place, tuple[float, ...]]] | None,
    runs: int | None,
    time_unit: str,
    records: Iterable[tuple[Task, Record]],
) -> xarray.Dataset:
    """Records as a dataset over the axes, or over ``places`` (with their values) where given.

    With ``runs`` each quantity has the axis "run" as well, under its name and "_of_run"; its mean
    over the runs, with standard error, has the plain name; ``label`` is the commonest one and
    ``share_specialized`` the share of runs that end specialized.
    """
    import xarray

    if places is None:
        dimensions: tuple[str, ...] = tuple(axis.key for axis in axes)
        lengths = tuple(len(axis.values) for axis in axes)
        coordinates = {axis.key: (axis.key, np.array(axis.values)) for axis in axes}
        row = None
    else:
        dimensions, lengths = ("point",), (len(places),)
        row = {place: i for i, (place, _) in enumerate(places)}
        columns = np.array([values for _, values in places]).T
        coordinates = {a.key: ("point", c) for a, c in zip(axes, columns, strict=True)}
    count = runs or 1
    tables: dict[str, Any] = {name: np.full((*lengths, count), np.nan) for name in NUMBERS}
    tables |= {name: np.full((*lengths, count), "", dtype=object) for name in TEXTS}
    for (*place, run), record in records:
        at = (*place, run) if row is None else (row[tuple(place)], run)
        for name, value in record.items():
            if value is not None:
                tables[name][at] = value
    for name in ("label", "status"):  # but not messages, which would be padded to the longest
        tables[name] = tables[name].astype(str)
    shown = _over_runs(tables) if runs else {name: t[..., 0] for name, t in tables.items()}
    variables = {
        name: _described(name, values, dimensions, time_unit) for name, values in shown.items()
    }
    return xarray.Dataset(variables, coordinates)


def _over_runs(tables: dict[str, Any]) -> dict[str, Any]:
    """Means with standard errors, the commonest label, the share that specialises, and each run."""
    shown: dict[str, Any] = {f"{name}_of_run": table for name, table in tables.items()}
    for name in NUMBERS:
        table = tables[name]
        number = np.isfinite(table).sum(-1)
        total = np.where(np.isfinite(table), table, 0.0).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(number > 0, total / number, np.nan)
            spread = np.where(np.isfinite(table), (table - mean[..., None]) ** 2, 0.0).sum(-1)
            error = np.where(number > 1, np.sqrt(spread / (number - 1) / number), np.nan)
        shown[name], shown[f"{name}_standard_error"] = mean, error
    labels = tables["label"]
    ended = (labels != FAILED).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(ended > 0, (labels == "specialized").sum(-1) / ended, np.nan)
        shown["share_specialized"] = share
        shown["share_specialized_standard_error"] = np.sqrt(share * (1 - share) / ended)
    flat = labels.reshape(-1, labels.shape[-1])
    shown["label"] = np.array([commonest(row) for row in flat]).reshape(labels.shape[:-1])
    return shown


def commonest(labels: Iterable[str]) -> str:
    """The label that stands most often; of equal ones the first in the order of LABELS."""
    counts = Counter(labels)
    known = {label: i for i, label in enumerate(ALL_LABELS)}
    return min(counts, key=lambda label: (-counts[label], known.get(label, len(known))))


def _described(name: str, values: Any, dimensions: tuple[str, ...], time_unit: str) -> Any:
    stem = name.removesuffix("_of_run").removesuffix("_standard_error")
    if stem in TEXTS:
        attributes = {"long_name": TEXTS[stem]}
    elif stem == "share_specialized":
        attributes = {"long_name": "share of the runs that end specialized", "units": "1"}
    else:
        text, unit = NUMBERS[stem]
        attributes = {"long_name": text, "units": unit.replace("time", time_unit)}
    if name.endswith("_standard_error"):
        attributes["long_name"] += " (standard error)"
    return ((*dimensions, "run") if name.endswith("_of_run") else dimensions, values, attributes)
