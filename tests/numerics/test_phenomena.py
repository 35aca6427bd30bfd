"""What is known of the trajectories of meta-learning, as reconstructed: each statement a test."""

import numpy as np
import pytest

from solvers import Experiment, integrate

START = {
    "Q": [[0.25, 0.0], [0.0, 0.25]],
    "R": [[0.0012, 0.0008], [0.0007, 0.0011]],
    "w": [0.5, 0.5],
}


def study(time=700.0, head_mean=1.0, spread=0.0, initial=None, hidden=2, **rule):
    rule = {"name": "anil", "inner_rate": 1.0, "outer_rate": 0.5, "head_rate": 0.3, **rule}
    if rule["inner_rate"] == 0:
        rule = {"name": "average-risk", "outer_rate": 0.5, "head_rate": 0.3}
    return Experiment.from_dict({
        "model": {"hidden": hidden, "teacher_hidden": 2},
        "tasks": {"head_mean": head_mean, "head_covariance": spread},
        "rule": rule,
        "initial": initial or START,
        "integrate": {"time": time, "points": 200},
    })  # fmt: skip


def escape(experiment):
    time = integrate(experiment).escape_time
    assert time is not None
    return time


def test_diversity_lengthens_the_plateau_without_adaptation_and_shortens_it_with():
    escapes = {
        rate: [escape(study(inner_rate=rate, spread=s)) for s in (0.0, 0.5, 1.0)]
        for rate in (0.0, 1.0)
    }
    assert (np.diff(escapes[0.0]) > 100).all()
    assert (np.diff(escapes[1.0]) < -40).all()


def test_faster_adaptation_shortens_the_plateau_of_diverse_tasks():
    escapes = [escape(study(inner_rate=rate, spread=1.0)) for rate in (0.5, 1.0, 2.0)]
    assert (np.diff(escapes) < -50).all()


def test_nothing_is_learned_from_centred_tasks_without_adaptation():
    """u0 = 0, w = 0: ε = Tr Σ_u / 6 for ever."""
    initial = {**START, "w": 0.0}
    t = integrate(study(inner_rate=0.0, head_mean=0.0, spread=0.5, initial=initial, time=200.0))
    np.testing.assert_allclose(t.error, 1.0 / 6, rtol=1e-9)
    np.testing.assert_allclose(t.R, np.broadcast_to(START["R"], t.R.shape), rtol=1e-12)


def test_the_growth_of_small_overlaps():
    """u0 = 0, w = 0, R ≈ 0, Q = qI: Ṙ = η_J η_in σ_u² 2/(π²(1+q)) R."""
    initial = {"Q": START["Q"], "R": 1e-7 * np.array([[1.2, 0.8], [0.7, -1.1]]), "w": 0.0}
    initial["R"] = initial["R"].tolist()
    t = integrate(study(head_mean=0.0, spread=0.5, initial=initial, time=4.0, head_rate=0.0))
    rate = 0.5 * 1.0 * 0.5 * 2 / (np.pi**2 * 1.25)
    grown = np.log(t.R / t.R[0])
    np.testing.assert_allclose(grown[20], rate * t.time[20], rtol=1e-3)


def test_specialized_heads_adapt_by_one_third_of_the_inner_rate():
    """Q = R = T = I, w = u0: ε = (Tr Σ_u/6)(1 − η_in/3)² after one step."""
    initial = {"Q": np.eye(2).tolist(), "R": np.eye(2).tolist(), "w": 1.0}
    for rate, steps in ((0.0, 1), (1.0, 1), (2.0, 1), (1.0, 3)):
        e = study(inner_rate=rate, spread=0.3, initial=initial, time=1.0)
        e = e.replace(**{"rule.inner_steps": steps}) if rate else e
        expected = 0.6 / 6 * (1 - rate / 3) ** (2 * steps)
        assert integrate(e).error[0] == pytest.approx(expected, rel=1e-12)


def test_too_large_an_outer_rate_never_specializes():
    slow, fast = (integrate(study(outer_rate=rate, spread=0.25)) for rate in (0.5, 20.0))
    assert slow.label == "specialized"
    assert fast.escape_time is None
    assert fast.final.error > 3 * slow.final.error


def test_wider_learners_end_at_a_lower_error():
    random = {"random": {"norm": 0.5, "dimension": 200, "seed": 3}, "w": 0.5}
    errors = [
        integrate(study(hidden=K, initial=random, spread=0.5, time=600.0)).final.error
        for K in (2, 3, 4)
    ]
    assert errors[0] > 1.1 * errors[1] > 1.1**2 * errors[2]


def test_small_supports_raise_the_final_error():
    errors = [
        integrate(study(support=P, spread=0.25, regime="gradient-flow", time=400.0)).final.error
        for P in (2, 10, float("inf"))
    ]
    assert errors[0] > errors[1] > errors[2]
