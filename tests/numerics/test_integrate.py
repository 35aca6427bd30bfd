"""Trajectories against an independent integration of the published equations, and every status."""

from copy import copy

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from solvers import Experiment, ExperimentError, NumericalFailure, integrate
from solvers.results import Status, Trajectory, stored_times
from solvers.states import specialization
from solvers.trajectories import paths
from theory.errors import DomainError
from theory.overlaps import Layout

LAYOUT = Layout(2, 2)
ASYMMETRIC = [[1.1e-3, 0.9e-3], [0.8e-3, 1.2e-3]]


def saad_solla(y, eta):
    """dy/dα of the K = M = 2 soft committee with T = I, w = u = 1: PHYSICS of Saad & Solla (1995).

    I3 and I4 in their published forms.
    """
    Q, R, _ = LAYOUT.unpack(y)
    C, s = np.block([[Q, R], [R.T, np.eye(2)]]), np.array([-1.0, -1.0, 1.0, 1.0])
    d = 1 + np.diag(C)
    L3 = d[:2, None] * d - C[:2] ** 2
    numerator = C * d[:2, None, None] - C[:2, :, None] * C[:2, None, :]
    drift = 2 / np.pi * (numerator / np.sqrt(L3)[:, None] / d[:2, None, None]) @ s
    S = np.zeros((2, 2))
    for k, l in np.ndindex(2, 2):
        c, L4 = C[k, l], d[k] * d[l] - C[k, l] ** 2
        rows = d[k] * np.outer(C[l], C[l]) + d[l] * np.outer(C[k], C[k])
        L0 = L4 * C - rows + c * (np.outer(C[k], C[l]) + np.outer(C[l], C[k]))
        L1 = np.diag(L0) + L4
        I4 = 4 / np.pi**2 / np.sqrt(L4) * np.arcsin(L0 / np.sqrt(np.outer(L1, L1)))
        S[k, l] = s @ I4 @ s
    dQ = eta * (drift[:, :2] + drift[:, :2].T) + eta**2 * S
    return LAYOUT.pack(dQ, eta * drift[:, 2:], np.zeros(2))


def independent(experiment, time, **options):
    """The same experiment by DOP853 on ``saad_solla``."""
    eta, start = experiment.rule.outer_rate, experiment.initial_state()
    rate = lambda t, y: saad_solla(y, eta)  # noqa: E731
    return solve_ivp(rate, (0, time), start, method="DOP853", dense_output=True, **options).sol


def committee(**changes):
    start = {"initial.Q": [[0.25, 0.0], [0.0, 0.3]], "initial.R": ASYMMETRIC}
    return Experiment.load("saad-solla").replace(**{**start, **changes})


@pytest.fixture(scope="module")
def finer():
    return independent(committee(), 300.0, rtol=1e-13, atol=1e-15)


def test_accuracy_to_time_300_at_rtol_1e_10(finer):
    t = integrate(committee(**{"integrate.rtol": 1e-10, "integrate.time": 300.0}))
    Q, R, _ = LAYOUT.unpack(finer(t.time).T)
    assert (t.time[0], t.time[-1], len(t.time)) == (0.0, 300.0, 400)
    np.testing.assert_allclose(t.Q, Q, rtol=0, atol=1e-8)
    np.testing.assert_allclose(t.R, R, rtol=0, atol=1e-8)
    assert t.escape_time == pytest.approx(escape_of(finer, 300.0), rel=1e-7)


def escape_of(solution, time):
    def excess(t):
        return (specialization(*LAYOUT.unpack(solution(t))[:2], np.eye(2)) or 0.0) - 0.3

    mesh = np.linspace(0, time, 600)
    after = int(np.argmax([excess(t) > 0 for t in mesh]))
    return brentq(excess, mesh[after - 1], mesh[after])


@pytest.mark.parametrize("method", list(paths.METHODS))
def test_every_method_follows_the_same_path(method, finer):
    t = integrate(committee(**{"integrate.method": method, "integrate.points": 5}))
    Q, R, _ = LAYOUT.unpack(finer(t.time).T)
    np.testing.assert_allclose(t.Q, Q, atol=2e-5)
    np.testing.assert_allclose(t.R, R, atol=2e-5)
    assert t.escape_time == pytest.approx(escape_of(finer, 300.0), rel=1e-5)
    assert t.evaluations["rhs"] > t.evaluations["steps"] > 10


def test_a_method_is_used_if_it_is_named(finer):
    """Without one, compiled loops predict and correct, at no more than 10 x rtol."""
    left, named = committee(), committee(**{"integrate.method": "LSODA"})
    assert left.digest != named.digest
    free, lsoda = integrate(left), integrate(named)
    assert 2 * free.evaluations["steps"] <= free.evaluations["rhs"] < 3 * free.evaluations["steps"]
    assert lsoda.evaluations["rhs"] < 3 * lsoda.evaluations["steps"]
    np.testing.assert_allclose(LAYOUT.pack(free.Q, free.R, free.w), finer(free.time).T, atol=1e-7)


def test_a_stiff_flow_is_left_to_lsoda():
    t = integrate(committee(**{"integrate.time": 1e5}))
    assert t.status is Status.success
    assert t.evaluations["steps"] < paths.MOST_COMPILED / 10
    assert t.escape_time == pytest.approx(integrate(committee()).escape_time, rel=1e-5)


def test_the_end_of_a_long_run_is_the_fixed_point():
    """Steps stay within what stability allows: what has decayed does not stay at the tolerance."""
    t = integrate(committee(**{"integrate.time": 1500.0}))
    assert t.evaluations["jacobian"] == 0
    assert abs(t.error[-1]) < 1e-15
    assert t.label == "specialized"


@pytest.mark.parametrize("atol", [1e-12, 1e-6])
def test_escape_from_an_asymmetry_of_1e_9(atol):
    R = np.full((2, 2), 0.01)
    R[0, 0] += 1e-9
    start = {"initial.Q": [[0.25, 0.0], [0.0, 0.25]], "initial.R": R.tolist()}
    e = committee(**start, **{"integrate.time": 800.0, "integrate.atol": atol})
    t = integrate(e)
    expected = escape_of(independent(e, 800.0, rtol=1e-11, atol=1e-16), 800.0)
    assert t.escape_time == pytest.approx(expected, rel=1e-4)
    assert any("integrate.atol = 1e-06 is too coarse" in w for w in t.warnings) == (atol == 1e-6)


@pytest.mark.parametrize("method", list(paths.METHODS))
def test_escape_from_the_plateau_itself(method):
    """Nothing moves but the asymmetry: implicit methods are tempted to steps that are too long.

    The time was computed by DOP853 at rtol 1e-13.
    """
    t = integrate(near_the_plateau(1e-9).replace(**{"integrate.method": method}))
    assert t.escape_time == pytest.approx(558.11029, rel=1e-4)


def test_tolerances_too_coarse_for_the_start_are_named():
    e = committee(**{"integrate.rtol": 1e-5, "integrate.points": 2})
    (warning,) = integrate(e).warnings
    assert warning.startswith("integrate.rtol = 1e-05 is too coarse")
    assert integrate(committee(**{"integrate.points": 2})).warnings == ()


def test_events_do_not_depend_on_the_stored_times():
    fine, coarse = (integrate(committee(**{"integrate.points": n})) for n in (400, 2))
    assert coarse.time.tolist() == [0.0, 300.0]
    assert coarse.escape_time == fine.escape_time
    assert coarse.plateaus == fine.plateaus
    np.testing.assert_array_equal(coarse.Q[-1], fine.Q[-1])


def near_the_plateau(size):
    """The symmetric fixed point at η → 0, but for ``size`` in R and 1e-6 in Q."""
    r, q = 1 / np.sqrt(6), 1 / 3
    start = {
        "initial.Q": [[q + 1e-6, q], [q, q + 1e-6]],
        "initial.R": [[r + size, r - size], [r - size, r + size]],
    }
    return committee(**start, **{"rule.regime": "gradient-flow", "integrate.time": 1200.0})


def test_the_plateau_of_the_soft_committee():
    """η → 0, K = 2: ε = (K/π)(π/6 − K asin(1/(2K))) = 0.0116108."""
    t = integrate(near_the_plateau(1e-8))
    (plateau,) = t.plateaus
    assert plateau.start == 0.0
    assert plateau.error == pytest.approx(2 / np.pi * (np.pi / 6 - 2 * np.arcsin(1 / 4)), rel=1e-5)
    assert plateau.end == pytest.approx(t.escape_time, rel=0.05)


def test_plateau_length_is_linear_in_the_logarithm_of_the_asymmetry():
    """The slope is 1/λ, λ = η (2/π) K/(√(2K−1) (2K+1)^{3/2})."""
    times = [integrate(near_the_plateau(size)).escape_time or 0 for size in (1e-5, 1e-7, 1e-9)]
    rate = 0.5 * 2 / np.pi * 2 / (np.sqrt(3) * 5**1.5)
    np.testing.assert_allclose(np.diff(times) / np.log(100), 1 / rate, rtol=1e-4)


def test_an_exactly_symmetric_start_is_explained_and_stays():
    R = [[0.01, 0.01], [0.01, 0.01]]
    t = integrate(committee(**{"initial.Q": [[0.25, 0.0], [0.0, 0.25]], "initial.R": R}))
    assert "The start is exactly symmetric: learner units 1 and 2" in t.warnings[0]
    assert t.escape_time is None
    assert t.label == "symmetric"
    np.testing.assert_allclose(t.R[:, 0], t.R[:, 1], atol=1e-11)


def test_stored_times():
    np.testing.assert_array_equal(stored_times(3.0, 4, "linear"), [0, 1, 2, 3])
    log = stored_times(300.0, 8, "log")
    assert (log[0], log[1], log[-1], len(log)) == (0.0, pytest.approx(3e-4), 300.0, 8)
    np.testing.assert_allclose(np.diff(np.log(log[1:])), np.log(10), rtol=1e-12)
    np.testing.assert_array_equal(stored_times(5.0, 400, "linear", whole=True), np.arange(6))
    assert stored_times(1000.0, 7, "log", whole=True).tolist() == [0, 1, 4, 16, 63, 251, 1000]
    assert stored_times(7.0, 2, "log").tolist() == [0.0, 7.0]


def test_custom_observables_see_what_is_stored():
    seen = {"norm": lambda Q, R, w, T: Q[0, 0] + w[1], "ratio": lambda Q, R, w, T: R @ T}
    t = integrate(committee(**{"integrate.points": 3}), observables=seen)
    np.testing.assert_array_equal(t.observables["norm"], t.Q[:, 0, 0] + t.w[:, 1])
    np.testing.assert_array_equal(t.observables["ratio"], t.R)
    with pytest.raises(ExperimentError, match="cannot be called error"):
        integrate(committee(), observables={"error": lambda Q, R, w, T: 0.0})


def test_the_error_at_test_time():
    """Specialized, η_in < 3: adapting again to a task lowers its error by (1 − η_in/3)² a step."""
    settings = {"rule.inner_steps": 1, "rule.inner_rate": 1.0, "tasks.head_covariance": 0.25}
    short = {"integrate.time": 400.0, "integrate.points": 20}
    e = Experiment.load("meta-specialization").replace(**settings, **short)
    t = integrate(e.replace(evaluate={"inner_rate": 1.0, "inner_steps": 0}))
    again = integrate(e.replace(evaluate={"inner_rate": 1.0, "inner_steps": 1}))
    np.testing.assert_allclose(again.observables["evaluation_error"], again.error, rtol=1e-12)
    assert (t.observables["evaluation_error"] > t.error).all()
    plain = integrate(committee(evaluate={"inner_rate": 0.5, "inner_steps": 2}))
    assert plain.observables["evaluation_error"][-1] < plain.error[-1]


def test_the_population_map_is_iterated_exactly():
    changes = {"rule.regime": "population", "integrate.time": 50, "rule.outer_rate": 0.1}
    e = committee(**changes, **{"integrate.points": 6})
    t = integrate(e)
    y = e.initial_state()
    for step in range(51):
        if step % 10 == 0:
            Q, R, _ = e.layout.unpack(y)
            np.testing.assert_array_equal(t.R[step // 10], R)
            np.testing.assert_array_equal(t.Q[step // 10], Q)
        y = y + e.compiled.rhs(y, e.parameters)
    assert t.time.tolist() == [0, 10, 20, 30, 40, 50]
    assert t.evaluations["steps"] == 50


def linear(rate, **rule):
    return Experiment.from_dict({
        "model": {"activation": "linear", "hidden": 2, "teacher_hidden": 2},
        "tasks": {"head_mean": 1.0},
        "rule": {"name": "sgd", "outer_rate": rate, **rule},
        "initial": {"w": 1.0, "Q": [[0.2, 0], [0, 0.3]], "R": [[0.01, 0.02], [0.03, 0.01]]},
        "integrate": {"time": 100},
    })  # fmt: skip


@pytest.mark.parametrize("regime", ["streaming", "population"])
@pytest.mark.parametrize("rate", [5.0, 1e200])
def test_divergence(regime, rate):
    e = linear(rate, regime=regime)
    with pytest.raises(NumericalFailure, match=r"Lower rule\.outer_rate") as failure:
        integrate(e)
    t = integrate(e, throw=False)
    assert failure.value.result.status is t.status is Status.diverged
    assert t.label == "diverged"
    assert np.isfinite(t.Q).all()
    assert t.time[-1] < 10
    if rate < 10:
        assert t.Q.max() > 1e6
        assert t.Q[:-1].max() < 1e6
    early = regime == "streaming" and rate < 10
    assert len(t.time) == (e.integrate.points if early else t.time[-1] + 1)


def test_loss_of_physicality():
    """A flow that lets R grow without Q: R_11² > Q_11 T_11 from time 0.5 on."""
    arrays = {"integrate.backend": "numpy"}
    e = committee(**arrays, **{"integrate.points": 301, "integrate.time": 3.0})
    compiled = copy(e.compiled)
    outward = LAYOUT.pack(np.zeros((2, 2)), np.diag([1.0, 0.0]), np.zeros(2))
    made = {"flow": lambda y: outward, "jacobian": lambda y: np.zeros((9, 9))}
    bound = e.compiled.bound
    object.__setattr__(compiled, "bound", lambda name, p: made.get(name) or bound(name, p))
    e.__dict__["compiled"] = compiled
    t = integrate(e, throw=False)
    assert t.status is Status.unphysical
    assert "stopped being physical at time 0.5:" in t.message
    with pytest.raises(NumericalFailure, match="Lower integrate"):
        integrate(e)


def always(y):
    return True


@pytest.mark.parametrize("method", list(paths.METHODS))
def test_a_flow_that_breaks_off_is_not_converged(method):
    """y' = y up to y = 2, where the flow ends: ln 2."""

    def rate(y):
        if y[0] > 2:
            raise FloatingPointError("no flow here")
        return y

    path = paths.solve(rate, lambda y: np.eye(1), np.ones(1), 5.0, always, method)
    assert path.status is Status.not_converged
    assert "Try integrate.method" in path.message
    assert 0.5 < path.end <= np.log(2) + 1e-6
    assert path.at(path.end)[0] == pytest.approx(np.exp(path.end), rel=1e-5)


@pytest.mark.parametrize("method", list(paths.METHODS))
def test_a_start_without_a_flow_is_not_converged(method):
    def rate(y):
        raise DomainError("a correlation beyond ±1")

    path = paths.solve(rate, lambda y: np.eye(1), np.ones(1), 5.0, always, method)
    assert path.status is Status.not_converged
    assert "beyond time 0 (a correlation beyond ±1)" in path.message
    assert path.at([0.0]).tolist() == [[1.0]]


@pytest.mark.parametrize("method", list(paths.METHODS))
def test_a_state_that_runs_to_infinity_has_diverged(method):
    """y' = y³, y = (1 − 2α)^(−1/2)."""
    path = paths.solve(lambda y: y**3, lambda y: 3 * y[None] ** 2, np.ones(1), 2.0, always, method)
    assert path.status is Status.diverged
    assert path.end == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_an_interruption_keeps_what_was_computed(discrete):
    calls = []

    def rate(y):
        calls.append(1)
        if len(calls) > 40:
            raise KeyboardInterrupt
        return -0.1 * y

    if discrete:
        path = paths.iterate(rate, np.ones(1), 1000, always)
        assert path.at(path.end)[0] == pytest.approx(0.9**path.end)
    else:
        path = paths.solve(rate, lambda y: -np.eye(1), np.ones(1), 1e3, always)
        assert path.at(path.end)[0] == pytest.approx(np.exp(-0.1 * path.end), rel=1e-5)
    assert path.status is Status.interrupted
    assert path.end > 0
    assert "what was computed is kept" in path.message


def test_states_between_those_kept_are_computed_again(monkeypatch):
    monkeypatch.setattr(paths, "MOST_NUMBERS", 10)
    path = paths.iterate(lambda y: 0.01 * y, np.ones(1), 5000, always)
    assert len(path.mesh) < 1100
    np.testing.assert_allclose(path.at([0, 1, 7, 4999, 5000])[:, 0], 1.01 ** np.array(
        [0, 1, 7, 4999, 5000]), rtol=1e-11)  # fmt: skip


def test_dataset_and_back():
    seen = {"norm": lambda Q, R, w, T: Q[0, 0], "all": lambda Q, R, w, T: R}
    t = integrate(committee(**{"integrate.points": 5}), observables=seen)
    data = t.dataset
    assert data["Q"].dims == ("time", "learner", "learner_other")
    assert data["time"].attrs["units"] == "outer updates / N"
    assert all("units" in data[name].attrs for name in data.variables)
    back = Trajectory.from_dataset(data, t.experiment)
    for name in ("time", "Q", "R", "w", "error"):
        np.testing.assert_array_equal(getattr(back, name), getattr(t, name))
    for name in ("status", "plateaus", "warnings", "escape_time", "speed", "seconds", "label"):
        assert getattr(back, name) == getattr(t, name)
    np.testing.assert_array_equal(back.observables["all"], t.R)
    assert t.final.error == t.error[-1]
    assert t.specialization == pytest.approx(t.specializations[-1])
