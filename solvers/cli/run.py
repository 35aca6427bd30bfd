"""``macrodyn run``: integrate, find plateaus, compare with simulation, draw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers import store
from solvers.checks import integration_fits
from solvers.cli import common
from solvers.results import Plateau, Status, Trajectory

if TYPE_CHECKING:
    from solvers.simulation.compare import Comparison
    from solvers.simulation.ensemble import Ensemble
    from solvers.stability.lingering import Lingering


def run(
    source: common.Source,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Integrate the flow, find its plateaus, compare with a simulation if asked for, and draw."""
    experiment = common.experiment(source, set)
    wanted = out if out or json else Path("results") / experiment.name
    folder = common.destination(wanted) if wanted else None
    integration_fits(experiment.layout)
    from solvers.trajectories.integrate import integrate

    with common.progress("integrate", quiet):
        trajectory = integrate(experiment, throw=False)
    found = _lingering(trajectory)
    ensemble, comparison = _simulated(trajectory, quiet)
    if folder:
        _write(trajectory, ensemble, folder)
    notes = (*trajectory.warnings, *(ensemble.warnings if ensemble else ()))
    common.warn(tuple(dict.fromkeys(notes)), quiet)
    common.tell(
        lambda: _report(trajectory, found, ensemble, comparison),
        lambda: _summarise(trajectory, found, comparison), folder, json, quiet,
    )  # fmt: skip
    common.finish(trajectory, ensemble)


def _lingering(trajectory: Trajectory) -> dict[Plateau, Lingering]:
    """The state that each plateau lingers at, and the escape from it."""
    if not trajectory.plateaus:
        return {}
    from solvers.stability.lingering import lingering

    return {found.plateau: found for found in lingering(trajectory)}


def _simulated(trajectory: Trajectory, quiet: bool) -> tuple[Ensemble | None, Comparison | None]:
    """The finite-N runs that a trajectory asks for, and how they compare."""
    if trajectory.experiment.simulate is None or trajectory.status is not Status.success:
        return None, None
    from solvers.simulation.compare import compare
    from solvers.simulation.simulate import simulate

    with common.progress("simulate", quiet) as report:
        ensemble = simulate(trajectory.experiment, progress=report)
    return ensemble, compare(trajectory, ensemble)


def _write(trajectory: Trajectory, ensemble: Ensemble | None, folder: Path) -> None:
    experiment = trajectory.experiment
    store.save(trajectory.arrays, folder / common.TRAJECTORY, experiment)
    if ensemble is not None:
        store.save(ensemble.arrays, folder / common.SIMULATION, experiment)
    common.save_figure(trajectory.plot(ensemble), folder / "trajectory")


def _report(
    trajectory: Trajectory,
    found: Mapping[Plateau, Lingering],
    ensemble: Ensemble | None,
    comparison: Comparison | None,
) -> dict[str, Any]:
    final = trajectory.final
    values = {"Q": final.Q, "R": final.R, "w": final.w, "error": final.error}
    extra = {name: series[-1] for name, series in trajectory.observables.items()}
    nothing = {"fixed_point": None, "slow_point": None, "escape": None}
    plateaus = [
        {"start": p.start, "end": p.end, "error": p.error}
        | (found[p].to_dict() if p in found else nothing)
        for p in trajectory.plateaus
    ]
    failed = [run for run in (trajectory, ensemble) if run and run.status is not Status.success]
    outcome = failed[0] if failed else trajectory
    report = {
        "status": outcome.status,
        "message": outcome.message,
        "warnings": trajectory.warnings,
        "time": trajectory.time[-1],
        "final": values | extra,
        "specialization": trajectory.specialization,
        "label": trajectory.label,
        "escape_time": trajectory.escape_time,
        "plateaus": plateaus,
        "evaluations": trajectory.evaluations.get("rhs", 0),
        "jacobian_evaluations": trajectory.evaluations.get("jacobian", 0),
        "steps": trajectory.evaluations.get("steps", 0),
        "seconds": trajectory.seconds,
    }
    if comparison is not None:
        report["comparison"] = comparison.report
    return report


def _summarise(
    trajectory: Trajectory, found: Mapping[Plateau, Lingering], comparison: Comparison | None
) -> None:
    common.echo(f"status     {trajectory.status} at time {trajectory.time[-1]:g}")
    common.echo(f"error      {trajectory.final.error:.8g}   ({trajectory.label})")
    for plateau in trajectory.plateaus:
        common.echo(
            f"plateau    {plateau.start:.4g} … {plateau.end:.4g} at error {plateau.error:.6g}"
        )
        if plateau in found:
            common.echo(f"           {found[plateau].sentence}")
    if trajectory.escape_time is not None:
        common.echo(f"escape     {trajectory.escape_time:.6g}")
    if comparison is not None:
        common.echo(f"simulation {comparison.sentence}")
