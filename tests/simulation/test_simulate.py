"""The simulation: its vectors, its step, its randomness, and what it refuses."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from solvers import Experiment, ExperimentError, Status
from solvers.simulation.ensemble import Ensemble
from solvers.simulation.runs import Runs, Setup
from solvers.simulation.simulate import simulate

STUDY = Path(__file__).parent
BASE = Experiment.load(STUDY / "three-units.toml").replace(
    rule={"name": "average-risk", "outer_rate": 0.5, "head_rate": 0.2},
    simulate={"dimension": 40, "runs": 3, "seed": 4},
    **{"tasks.label_noise": 0.3, "integrate.time": 1.0},
)
BLOCKS = tomllib.loads((STUDY / "two-blocks.toml").read_text())


def anil(**more):
    rule = {"name": "anil", "outer_rate": 0.5, "head_rate": 0.2, "inner_rate": 0.7, **more}
    return BASE.replace(rule=rule)


def started(experiment, N=30, count=2, seed=0):
    return Runs(Setup(experiment, N, count), np.random.SeedSequence(seed).spawn(count))


@pytest.mark.parametrize("experiment", [BASE, BASE.replace(**BLOCKS)], ids=["plain", "blocks"])
@pytest.mark.parametrize("N", [20, 301])
def test_the_vectors_start_with_the_given_overlaps(experiment, N):
    if N == 20 and experiment.layout.blocks:
        N = 17  # the smaller block keeps just K + M = 5 of the coordinates
    runs = started(experiment, N)
    Q, R, w = experiment.layout.unpack(experiment.initial_state())
    found = runs.overlaps()
    for value, expected in zip(found, (Q, R, w), strict=True):
        np.testing.assert_allclose(value, np.broadcast_to(expected, value.shape), atol=1e-13)
    blocks = [runs.B[..., b] @ runs.B[..., b].mT / N for b in runs.setup.blocks]
    T = experiment.parameters["T"]
    np.testing.assert_allclose(
        np.stack(blocks, axis=1), np.broadcast_to(T, (2, *T.shape)), atol=1e-13
    )


def one_step(runs, experiment, N, P):
    """The outer step of the first run written out with loops, from the same random numbers."""
    rule, sigma = experiment.rule, np.sqrt(2)
    J, w, B = runs.J[0].copy(), runs.w[0].copy(), runs.B[0]
    runs.advance(1)
    X, u, y = runs.X[0, 0] * np.sqrt(N), runs.u[0, 0], runs.y[0, 0]
    move_J, move_w = np.zeros_like(J), np.zeros_like(w)
    T, V = rule.tasks_per_step, rule.query
    for t in range(T):
        adapted, step = w.copy(), np.zeros_like(w)
        for p in range(P):
            h = J @ X[t, p] / np.sqrt(N)
            step += (y[t, p] - w @ erf(h / sigma)) * erf(h / sigma) / P
        adapted = w + (rule.inner_rate * step if P else 0)
        for q in range(P, P + V):
            h = J @ X[t, q] / np.sqrt(N)
            delta = y[t, q] - adapted @ erf(h / sigma)
            c = delta * adapted * np.sqrt(2 / np.pi) * np.exp(-h * h / 2)
            move_J += np.outer(c, X[t, q]) / (T * V)
            move_w += delta * erf(h / sigma) / (T * V)
    J = (1 - rule.outer_rate * rule.weight_decay / N) * J + rule.outer_rate / np.sqrt(N) * move_J
    assert u.shape == (T, 2)
    assert B.shape == (2, N)
    return J, w + rule.head_rate / N * move_w


@pytest.mark.parametrize(
    ("experiment", "P"),
    [
        (BASE.replace(**{"rule.weight_decay": 0.4, "rule.query": 3}), 0),
        (anil(support=4, query=2, tasks_per_step=3), 4),
    ],
    ids=["average-risk", "anil"],
)
def test_an_outer_step_is_the_algorithm_written_out(experiment, P):
    N = 30
    runs = started(experiment, N)
    J, w = one_step(runs, experiment, N, P)
    np.testing.assert_allclose(runs.J[0], J, atol=1e-13)
    np.testing.assert_allclose(runs.w[0], w, atol=1e-13)


def test_labels_follow_the_teacher_of_the_task():
    """y − u·g((B + δZ)ξ/√N) is the label noise; δ² adds to the variance of the fields."""
    plain = BASE.replace(**{"tasks.label_noise": 0.0, "rule.query": 200, "rule.tasks_per_step": 50})
    runs = started(plain, 30)
    runs.advance(1)
    fields = np.einsum("tei,mi->tem", runs.X[0, 0], runs.B[0])
    labels = np.einsum("tem,tm->te", erf(fields / np.sqrt(2)), runs.u[0, 0])
    np.testing.assert_allclose(runs.y[0, 0], labels, atol=1e-12)
    spread = started(plain.replace(**{"tasks.representation_spread": 0.8}), 30)
    spread.advance(1)
    extra = spread.b[0, 0, :, 0] - np.einsum("tei,mi->tem", spread.X[0, 0], spread.B[0])
    assert extra.var() == pytest.approx(0.64, rel=0.1)
    assert np.corrcoef(extra[..., 0].ravel(), extra[..., 1].ravel())[0, 1] == pytest.approx(
        0, abs=0.1
    )
    noisy = started(plain.replace(**{"tasks.label_noise": 0.5}), 30)
    noisy.advance(1)
    np.testing.assert_array_equal(noisy.X, runs.X)
    assert (noisy.y - runs.y)[0, 0].std() == pytest.approx(0.5, rel=0.03)


def test_inputs_have_the_variance_of_their_block():
    runs = started(BASE.replace(**BLOCKS, **{"rule.query": 500}), 200)
    runs.advance(1)
    X = runs.X[0, 0, 0] * np.sqrt(200)
    assert X[:, :60].var() == pytest.approx(0.4, rel=0.03)
    assert X[:, 60:].var() == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize("P", [3, 20], ids=["several steps in a block", "one"])
def test_vectors_keep_up_with_a_block_of_steps(P):
    """The overlaps within a block are those of the vectors, and of the steps taken one by one."""
    runs = started(anil(support=P, order="exact").replace(**BLOCKS, **{"rule.weight_decay": 0.4}))
    for step in range(1, 12):
        runs.advance(step)
        J = np.split(runs.J, [runs.setup.sizes[0]], axis=-1)
        B = np.split(runs.B, [runs.setup.sizes[0]], axis=-1)
        Q, R, _ = runs.overlaps()
        np.testing.assert_allclose(Q, np.stack([j @ j.mT for j in J], 1) / 30, atol=1e-12)
        pairs = zip(J, B, strict=True)
        np.testing.assert_allclose(R, np.stack([j @ b.mT for j, b in pairs], 1) / 30, atol=1e-12)


def test_a_run_does_not_depend_on_the_others():
    three, five = simulate(BASE), simulate(BASE, runs=5)
    np.testing.assert_allclose(three.runs["Q"], five.runs["Q"][:3], rtol=0, atol=1e-12)
    again = simulate(BASE)
    np.testing.assert_array_equal(three.runs["R"], again.runs["R"])
    other = simulate(BASE, seed=5)
    assert np.abs(other.runs["R"] - three.runs["R"]).max() > 1e-4
    assert np.abs(three.runs["Q"][0] - three.runs["Q"][1]).max() > 1e-4


def test_a_run_does_not_depend_on_when_it_is_recorded():
    often = simulate(BASE, np.linspace(0, 1, 41))
    once = simulate(BASE, [1.0])
    np.testing.assert_array_equal(once.runs["Q"][:, 0], often.runs["Q"][:, -1])
    assert often.time.tolist() == pytest.approx(np.linspace(0, 1, 41).tolist())
    assert once.steps == often.steps == 40


def test_mean_and_standard_error():
    ensemble = simulate(BASE, [0.0, 0.5, 1.0])
    values = ensemble.runs["R"]
    np.testing.assert_allclose(ensemble.R, values.mean(0))
    np.testing.assert_allclose(ensemble.standard_error["R"], values.std(0, ddof=1) / np.sqrt(3))
    assert ensemble.final_standard_error.error > 0
    assert np.all(simulate(BASE, runs=1).standard_error["Q"] == 0)


def test_the_error_is_that_of_the_flow_at_the_overlaps_of_each_run():
    ensemble = simulate(BASE, [0.0, 1.0])
    y = BASE.layout.pack(*(ensemble.runs[name][1, 1] for name in ("Q", "R", "w")))
    assert ensemble.runs["error"][1, 1] == pytest.approx(BASE.compiled.error(y, BASE.parameters))


@pytest.mark.parametrize("experiment", [BASE, BASE.replace(**BLOCKS)], ids=["plain", "blocks"])
def test_the_dataset_gives_the_ensemble_back(experiment):
    ensemble = simulate(experiment, [0.0, 1.0])
    back = Ensemble.from_dataset(ensemble.dataset, experiment)
    assert back.runs.keys() == ensemble.runs.keys()
    for name, values in ensemble.runs.items():
        np.testing.assert_array_equal(back.runs[name], values)
    assert (back.status, back.warnings, back.time.tolist(), back.seed) == (
        ensemble.status, ensemble.warnings, ensemble.time.tolist(), ensemble.seed,
    )  # fmt: skip


def test_infinite_support_says_what_the_inner_loop_is():
    assert any("closed averages" in line for line in simulate(anil(), [0.1]).warnings)
    assert not simulate(anil(support=3), [0.1]).warnings


def test_progress_is_reported():
    seen = []
    simulate(BASE, [0.0, 0.5, 1.0], lambda done, total: seen.append((done, total)))
    assert seen == [(0, 40), (20, 40), (40, 40)]


def test_a_divergence_is_a_status():
    linear = BASE.replace(
        **{"model.activation": "linear", "rule.outer_rate": 30.0, "integrate.time": 20.0}
    )
    ensemble = simulate(linear)
    assert ensemble.status is Status.diverged
    assert "lower the rates" in ensemble.message
    assert np.isfinite(ensemble.Q).all()
    assert ensemble.time[-1] < 20


def test_an_interruption_keeps_what_there_is():
    def stop(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    ensemble = simulate(BASE, [0.0, 0.5, 1.0], stop)
    assert ensemble.status is Status.interrupted
    assert ensemble.time.tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("experiment", "options", "words"),
    [
        (BASE.replace(**{"rule.regime": "gradient-flow"}), {}, "gradient-flow"),
        (BASE, {"times": [0.0, np.nan]}, "finite"),
        (BASE, {"times": [-1.0]}, "negative"),
        (BASE, {"dimension": 4}, "coordinates"),
        (BASE, {"dimension": 10**12}, "GB"),
        (anil(support=10**9), {}, "GB"),
    ],
    ids=["regime", "nan", "negative", "too small", "too large", "support"],
)
def test_what_cannot_be_simulated_is_refused(experiment, options, words):
    with pytest.raises(ExperimentError, match=words):
        simulate(experiment, **options)


def test_a_step_of_the_population_regime_moves_by_the_full_rate():
    """J' = J + η√N mean c ξ: N times the displacement of a streaming step, on the same examples."""
    population = BASE.replace(**{"rule.regime": "population", "rule.weight_decay": 0.3})
    streaming = BASE.replace(**{"rule.weight_decay": 0.3})
    moves = []
    for experiment in (population, streaming):
        runs = started(experiment)
        J, w = runs.J.copy(), runs.w.copy()
        runs.advance(1)
        moves.append((runs.J - J, runs.w - w))
    np.testing.assert_allclose(moves[0][0], 30 * moves[1][0], atol=1e-11)
    np.testing.assert_allclose(moves[0][1], 30 * moves[1][1], atol=1e-12)
