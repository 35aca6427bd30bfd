"""From an experiment to its trajectory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers import notes, states
from solvers.errors import ExperimentError
from solvers.results import NumericalFailure, Status, Trajectory, stored_times
from solvers.trajectories import plateau, task_average
from solvers.trajectories.evaluation import evaluation_error
from solvers.trajectories.paths import WITH_JACOBIAN, Path, compiled_path, iterate, solve
from solvers.trajectories.starts import smallest_asymmetry, symmetric_start
from theory.overlaps import Layout, field_covariance, is_physical

if TYPE_CHECKING:
    from solvers.experiment import Experiment
    from theory.codegen import CompiledFlow

Array = NDArray[np.float64]
Observable = Callable[[Array, Array, Array, Array], Any]

FINER = 1e-3
"""The tolerances are at most this share of the smallest asymmetry of the start."""
FINEST = 1e-13
"""A relative tolerance below this is lost in rounding."""


def integrate(
    experiment: Experiment,
    *,
    observables: Mapping[str, Observable] | None = None,
    throw: bool = True,
) -> Trajectory:
    """The trajectory of the order parameters, stored at the times of ``integrate.points``.

    ``observables`` are functions of (Q, R, w, T), stored by name beside the built-in ones; T is
    the bare teacher overlap, of the same form as Q. The error of Q and R is some 10² × rtol; both
    tolerances are lowered to 1e-3 of the smallest asymmetry of the start, without which LSODA
    leaves a plateau too early. In the population regime the map is iterated exactly.

    Raises:
        NumericalFailure: the status is not success; ``.result`` holds what was computed. With
            ``throw=False`` that is returned instead.

    >>> from solvers import Experiment
    >>> e = Experiment.load("saad-solla")
    >>> t = integrate(e, observables={"norm": lambda Q, R, w, T: Q[0, 0]})
    >>> str(t.status), t.observables["norm"].shape
    ('success', (400,))
    """
    clock = perf_counter()
    compiled = experiment.compiled
    derived = perf_counter()
    start = experiment.initial_state()
    compiled.error(start, experiment.parameters)
    loaded = perf_counter()
    warnings = [*_on_start(experiment, start), *notes.on_rule(experiment.rule)]
    parameters, path, doubts = _solved(experiment, start)
    warnings += doubts
    result = _assemble(experiment, compiled, parameters, path, observables or {}, warnings)
    seconds = {
        "derive": derived - clock,
        "compile": loaded - derived,
        "integrate": perf_counter() - loaded,
    }
    result = dataclasses.replace(result, seconds=seconds)
    if throw and result.status is not Status.success:
        raise NumericalFailure(result.message, result)
    return result


def _solved(
    experiment: Experiment, start: Array
) -> tuple[Mapping[str, Any], Path, list[str]]:
    """Parameters, solution and warnings, with as many task nodes as the run turns out to need."""
    for chosen, last in task_average.choices(experiment):
        warnings: list[str] = []
        path = path_from(experiment, start, experiment.integrate.time, chosen.parameters, warnings)
        error = task_average.estimate(chosen, path.at(np.array([0.0, path.end / 2, path.end])))
        if last or error <= task_average.TOLERANCE:
            return chosen.parameters, path, warnings + task_average.warning(chosen, error)
    raise ValueError("there is no choice of nodes to integrate with")


def path_from(
    experiment: Experiment,
    start: Array,
    time: float,
    parameters: Mapping[str, Any],
    warnings: list[str],
) -> Path:
    """The solution from a state; tolerances too coarse for it are lowered, and warned of."""
    settings, layout, compiled = experiment.integrate, experiment.layout, experiment.compiled
    stored_pairs = layout.size - layout.hidden - layout.unpack(start)[1].size

    def bounded(y: Array) -> bool:
        return not states.diverged(y[:stored_pairs])

    if compiled.discrete:
        return iterate(compiled.bound("flow", parameters), start, round(time), bounded)
    rtol, atol = _tolerances(settings, layout.unpack(start), warnings)
    if settings.named_method is None and compiled.tier == "numba":
        bound = states.DIVERGENCE
        path = compiled_path(compiled, parameters, start, time, bound, stored_pairs, rtol, atol)
        if path is not None:
            return path
    rate, jacobian = (compiled.bound(name, parameters) for name in ("flow", "jacobian"))
    return solve(rate, jacobian, start, time, bounded, settings.method, rtol, atol)


def _tolerances(
    settings: Any, start: tuple[Array, Array, Array], warnings: list[str]
) -> tuple[float, float]:
    """rtol and atol, lowered where they would not resolve the smallest asymmetry of the start.

    On a plateau nothing but the asymmetry moves. LSODA and BDF then take long steps of low order,
    in which it grows too fast as long as it is below their tolerance (the escape comes up to 10 %
    too early), and so do compiled loops; the steps of scipy's explicit methods are bounded by the
    spectrum, and need a finer atol only.
    """
    asymmetry = smallest_asymmetry(*start)
    if asymmetry is None:
        return settings.rtol, settings.atol
    share = FINER * asymmetry / max(float(np.abs(x).max()) for x in start)
    rtol, atol = settings.rtol, min(settings.atol, FINER * asymmetry)
    if settings.method in WITH_JACOBIAN:
        rtol = min(rtol, max(share, FINEST))
    lowered = [
        f"integrate.{name} = {given:g} is too coarse for the smallest asymmetry of the start, "
        f"{asymmetry:.2g}: the escape from a plateau would come too early. {used:.1g} was used."
        for name, given, used, ordinary in (
            ("rtol", settings.rtol, rtol, 1e-8),
            ("atol", settings.atol, atol, 1e-12),
        )
        if used < given and given > ordinary
    ]
    warnings += lowered
    return rtol, atol


def _assemble(
    experiment: Experiment,
    compiled: CompiledFlow,
    parameters: Mapping[str, Any],
    path: Path,
    custom: Mapping[str, Observable],
    warnings: list[str],
) -> Trajectory:
    """The trajectory at the stored times, with what is found on the path between them."""
    settings, layout = experiment.integrate, experiment.layout
    end = min(path.end, settings.time)
    times = stored_times(end, settings.points, settings.spacing, path.discrete)
    with np.errstate(all="ignore"):
        y = path.at(times)
        errors_at = compiled.along("error", parameters)
        series = {"error": errors_at(y)}
        if experiment.evaluation is not None:
            series["evaluation_error"], doubts = evaluation_error(experiment, y)
            warnings += doubts
        warnings += notes.on_noise(compiled, parameters, (y[0], y[len(y) // 2], y[-1]))
        found = _events(compiled, parameters, path, errors_at, settings.rtol)
    Q, R, w = layout.unpack(y)
    status, message = path.status, path.message
    if status is Status.success:
        status, message = _physicality(Q, R, times, parameters)
    error = series.pop("error")
    return Trajectory(
        experiment=experiment,
        layout=layout,
        time=times,
        Q=Q,
        R=R,
        w=w,
        error=error,
        observables={**series, **_custom(custom, Q, R, w, parameters, layout, series)},
        status=status,
        message=message,
        warnings=tuple(warnings),
        evaluations=path.evaluations,
        **found,
    )


def _events(
    compiled: CompiledFlow,
    parameters: Mapping[str, Any],
    path: Path,
    errors_at: Callable[[Array], Array],
    rtol: float,
) -> dict[str, Any]:
    """Plateaus, escape time and final speed, from the dense solution."""
    layout = compiled.layout
    gradient, flow = (compiled.along(name, parameters) for name in ("error_gradient", "flow"))

    def specialization(y: Array) -> Array:
        Q, R, _ = layout.unpack(y)
        return states.specializations(*states.fields(Q, R, parameters, layout))

    def speed(times: Array) -> Array:
        y = path.at(times)
        return np.abs((gradient(y) * flow(y)).sum(-1)) / errors_at(y)

    mesh = path.mesh
    y = path.at(mesh)
    errors, specialized = errors_at(y), specialization(y)
    count = plateau.resolved(errors, 0.0 if path.discrete else rtol)
    if path.discrete:
        plateaus = plateau.of_steps(mesh[:count], errors[:count])
        escape = plateau.escape_time(mesh, specialized, None)
        steps = np.diff(np.log(errors[:count][-2:])) / np.diff(mesh[:count][-2:])
        final = float(np.abs(steps).sum())
    else:
        speeds = plateau.estimated_speeds(mesh[:count], errors[:count])
        level = lambda t: errors_at(path.at(t))  # noqa: E731
        plateaus = plateau.find_plateaus(mesh[:count], speeds, speed, level)
        escape = plateau.escape_time(mesh, specialized, lambda t: specialization(path.at(t)))
        final = float(speed(mesh[-1:])[0])
    final = final if count == len(mesh) else 0.0
    return {"plateaus": plateaus, "escape_time": escape, "speed": final}


def _physicality(
    Q: Array, R: Array, times: Array, parameters: Mapping[str, Any]
) -> tuple[Status, str]:
    """Whether C stayed positive semidefinite at all stored times."""
    T = np.asarray(parameters["T"]) if Q.ndim == 4 else parameters["T"][0]
    if is_physical(Q, R, T):
        return Status.success, ""
    first = next(i for i in range(len(times)) if not is_physical(Q[i], R[i], T))
    smallest = np.linalg.eigvalsh(field_covariance(Q[first], R[first], T)).min()
    return Status.unphysical, (
        f"The overlaps stopped being physical at time {times[first]:.6g}: the smallest eigenvalue "
        f"of C is {smallest:.2g}. Lower integrate.rtol or rule.outer_rate."
    )


def _custom(
    functions: Mapping[str, Observable],
    Q: Array,
    R: Array,
    w: Array,
    parameters: Mapping[str, Any],
    layout: Layout,
    taken: Mapping[str, Array],
) -> dict[str, Array]:
    """The user's observables along time."""
    reserved = {"time", "Q", "R", "w", "error", "specialization", *taken}
    if clash := sorted(reserved & set(functions)):
        raise ExperimentError(f"an observable cannot be called {clash[0]}: that name is taken")
    T = parameters["T"] if layout.blocks else parameters["T"][0]
    return {
        name: np.array([f(q, r, v, T) for q, r, v in zip(Q, R, w, strict=True)], dtype=float)
        for name, f in functions.items()
    }


def _on_start(experiment: Experiment, start: Array) -> list[str]:
    """Warnings about the start itself."""
    Q, R, w = experiment.layout.unpack(start)
    tasks, g = experiment.tasks, experiment.activation
    parity = -1 if g.odd else 1 if g.even else 0
    sentence = symmetric_start(
        Q,
        R,
        w,
        experiment.parameters["T"],
        tasks.mean,
        tasks.covariance,
        parity,
        tasks.heads,
    )
    return [] if sentence is None else [sentence]
