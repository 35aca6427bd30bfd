"""``macrodyn simulate``: the algorithm itself at finite N."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solvers import store
from solvers.cli import common
from solvers.errors import ExperimentError
from solvers.results import State

if TYPE_CHECKING:
    from solvers.simulation.ensemble import Ensemble


def simulate(
    source: common.Source,
    set: common.Set = None,
    out: common.Out = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Run the algorithm itself at finite N: mean and standard error over runs."""
    experiment = common.experiment(source, set)
    if experiment.simulate is None:
        raise ExperimentError("simulate.dimension is missing; add --set simulate.dimension=500")
    folder = common.destination(out) if out else None
    from solvers.simulation.simulate import simulate as simulated

    with common.progress("simulate", quiet) as report:
        ensemble = simulated(experiment, progress=report)
    if folder:
        store.save(ensemble.arrays, folder / common.SIMULATION, experiment)
        common.save_figure(ensemble.plot(), folder / "simulation")
    common.warn(ensemble.warnings, quiet)
    common.tell(lambda: _report(ensemble), lambda: _summarise(ensemble), folder, json, quiet)
    common.finish(ensemble)


def _report(ensemble: Ensemble) -> dict[str, Any]:
    final, error = ensemble.final, ensemble.final_standard_error
    return {
        "status": ensemble.status,
        "message": ensemble.message,
        "warnings": ensemble.warnings,
        "time": ensemble.time[-1],
        "dimension": ensemble.dimension,
        "runs": ensemble.count,
        "seed": ensemble.seed,
        "final": {**_values(final), "standard_error": _values(error)},
        "seconds": {"simulate": ensemble.seconds},
    }


def _values(state: State) -> dict[str, Any]:
    return {"Q": state.Q, "R": state.R, "w": state.w, "error": state.error}


def _summarise(ensemble: Ensemble) -> None:
    final, error = ensemble.final, ensemble.final_standard_error
    common.echo(f"status     {ensemble.status} at time {ensemble.time[-1]:g}")
    common.echo(f"error      {final.error:.6g} ± {error.error:.2g}")
    common.echo(f"runs       {ensemble.count} at N = {ensemble.dimension}, seed {ensemble.seed}")
