"""Where the end states of a diagram lose stability, by continuation instead of by the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solvers.diagrams.engine import Pool, compute
from solvers.diagrams.journal import Record, Task
from solvers.diagrams.sweep import Study
from solvers.stability.fixed_points import fixed_point_near
from solvers.stability.rates import critical_rate
from solvers.trajectories.integrate import integrate

if TYPE_CHECKING:
    import xarray

COLUMNS = 16
"""The boundary is located at so many values of the other axis, at most."""
ENDED = ("unlearned", "symmetric", "partially-specialized", "specialized")
"""Labels of end states that may be fixed points."""
NAME = "stability_boundary"


@dataclass(frozen=True)
class CriticalValue:
    """From a place whose trajectory ends at a stable state to where that state loses stability.

    The end state is refined to a fixed point and followed upwards in ``key`` to ``largest``.
    """

    study: Study
    key: str
    largest: float

    def __call__(self, task: Task) -> Record:
        """The critical value; an exception if the state stays stable or is no fixed point."""
        end = integrate(self.study.at(task)).final
        point = fixed_point_near(self.study.at(task), end.Q, end.R, end.w)
        return {"value": critical_rate(point, self.key, largest=self.largest)}


def stability_boundary(study: Study, table: xarray.Dataset, pool: Pool) -> xarray.DataArray | None:
    """The critical value of one axis over the other, NaN where the end state does not lose
    stability within the diagram; None if there is none, or the diagram is no map on a grid.
    """
    rising = _continued(study)
    if rising is None:
        return None
    across = 1 - rising
    key, other = study.axes[rising], study.axes[across]
    largest = max(key.values)
    starts = _starts(table, key.key, other.key)
    tasks = [(*((i, j) if rising else (j, i)), 0) for i, j in starts]
    values = np.full(len(other.values), np.nan)
    for outcomes in compute(CriticalValue(study, key.key, largest), tasks, pool, len(tasks)):
        for outcome in outcomes:
            values[outcome.task[across]] = outcome.record.get("value", np.nan)
    if not np.isfinite(values).any():
        return None
    text = f"{key.key} at which the end state loses stability, by continuation"
    about = {"long_name": text, "key": key.key}
    import xarray

    return xarray.DataArray(values, dims=other.key, attrs=about, name=NAME)


def _continued(study: Study) -> int | None:
    """Which of two axes is followed: an outer rate if there is one, else the last continuous."""
    if len(study.axes) != 2 or study.adaptive is not None or study.runs:
        return None
    possible = [i for i, axis in enumerate(study.axes) if axis.continuous]
    rates = [i for i in possible if study.axes[i].key == "rule.outer_rate"]
    chosen: Sequence[int] = rates or possible
    return chosen[-1] if chosen else None


def _starts(table: xarray.Dataset, key: str, other: str) -> list[tuple[int, int]]:
    """For some values i of the other axis, the place j of the smallest value that ends stable."""
    table = table.transpose(other, key)
    stable = (table["growth_rate"].values < 0) & np.isin(table["label"].values, ENDED)
    order = np.argsort(table[key].values)
    count = stable.shape[0]
    picked = np.unique(np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int))
    lowest = order[:-1]
    return [
        (int(i), int(lowest[stable[i, lowest].argmax()])) for i in picked if stable[i, lowest].any()
    ]
