"""``macrodyn fixed-points``: where learning can settle or linger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solvers import store
from solvers.cli import common

if TYPE_CHECKING:
    from solvers.stability.fixed_point import FixedPoints
    from solvers.stability.rates import Rates

NAMED_MODES = 3
"""Modes that are named for each point."""


def fixed_points(
    source: common.Source,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Find all physical fixed points, with spectra, symmetry and the leading modes."""
    experiment = common.experiment(source, set)
    folder = common.destination(out) if out else None
    from solvers.stability.fixed_points import fixed_points as search

    with common.progress("search", quiet) as report:
        found = search(experiment, progress=report)
        rates = _rates(found)
    if folder:
        store.save(found.arrays, folder / "fixed-points.nc", experiment)
        if found:
            common.save_figure(found.plot(), folder / "fixed-points")
    common.warn(found.warnings, quiet)
    common.tell(
        lambda: _report(found, rates), lambda: _summarise(found, rates), folder, json, quiet
    )


def _rates(found: FixedPoints) -> list[Rates | None]:
    """Critical and optimal outer rates of the stable points; none where a cubature is costly."""
    from solvers.stability.rates import rates_of
    from solvers.stability.steady import Steady

    wanted = not Steady(found.experiment).costly
    return [rates_of(p) if p.stable and wanted else None for p in found]


def _report(found: FixedPoints, rates: list[Rates | None]) -> dict[str, Any]:
    report = found.to_dict()
    for point, rate in zip(report["fixed_points"], rates, strict=True):
        point |= rate.to_dict() if rate else {"critical_rate": None, "optimal_rate": None}
    return report


def _summarise(found: FixedPoints, rates: list[Rates | None]) -> None:
    common.echo(found.message)
    for number, (point, rate) in enumerate(zip(found, rates, strict=True), 1):
        common.echo(f"\n{number}. {point.sentence}")
        if rate:
            common.echo(f"   {rate.sentence}")
        common.echo(f"   Q {_rows(point.Q.tolist())}\n   R {_rows(point.R.tolist())}")
        for mode in point.modes[:NAMED_MODES]:
            common.echo(f"   {mode}")


def _rows(value: object) -> str:
    """Nested lists of numbers; what is rounding beside an overlap of order 1 is 0."""
    if isinstance(value, list):
        return "[" + ", ".join(_rows(item) for item in value) + "]"
    return f"{value if abs(float(str(value))) > 1e-12 else 0:.5g}"
