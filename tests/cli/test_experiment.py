"""Experiment: what a file means, and that it is immutable, reproducible and portable."""

import json
import math
import pickle
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from solvers import draws, toml
from solvers.experiment import Experiment, ExperimentError, presets
from theory.overlaps import field_covariance
from theory.rules import Anil, MetaRule

TABLES = {
    "title": 'quotes " and \\ and ü',
    "model": {"hidden": 3, "teacher_hidden": 2, "teacher_overlap": [[1.0, 0.2], [0.2, 1.1]]},
    "tasks": {"head_mean": [1.0, 2.0], "head_covariance": [0.5, 0.25], "label_noise": 0.1},
    "rule": {"name": "anil", "inner_rate": 1, "outer_rate": 0.5, "support": "inf"},
    "initial": {"w": 0.5, "random": {"norm": 0.5, "dimension": 400, "seed": 3}},
    "integrate": {"time": 10},
}


@dataclass(frozen=True, kw_only=True)
class Own(MetaRule):
    """A rule that nobody registered."""

    name: ClassVar[str] = "own"
    pull: float = field(metadata={"minimum": 0.5})


def experiment(**changes):
    return Experiment.from_dict(TABLES).replace(**changes)


def test_scalars_lists_and_matrices_say_the_same():
    scalar = experiment(**{"tasks.head_mean": 2.0, "tasks.head_covariance": 0.5})
    matrix = experiment(
        **{"tasks.head_mean": [2, 2], "tasks.head_covariance": [[0.5, 0.0], [0.0, 0.5]]}
    )
    listed = experiment(**{"tasks.head_mean": 2, "tasks.head_covariance": [0.5, 0.5]})
    for other in (matrix, listed):
        np.testing.assert_array_equal(other.tasks.second_moment, scalar.tasks.second_moment)
    np.testing.assert_array_equal(
        experiment(**{"model.teacher_overlap": 1.5}).parameters["T"], [1.5 * np.eye(2)]
    )


def test_defaults_are_those_of_the_definitions():
    e = Experiment.from_dict(
        {**TABLES, "rule": {"name": "anil", "inner_rate": 1.0, "outer_rate": 0.5}, "title": ""}
    )
    rule, settings = e.rule, e.integrate
    assert (rule.order, rule.regime, rule.inner_steps) == ("first", "streaming", 1)
    assert (rule.support, rule.query, rule.tasks_per_step) == (math.inf, 1, 1)
    assert (rule.head_rate, rule.weight_decay) == (0.0, 0.0)
    assert (settings.method, settings.rtol, settings.atol) == ("LSODA", 1e-8, 1e-12)
    assert (settings.points, settings.spacing, settings.backend) == (400, "linear", "auto")
    assert e.model.activation == "erf"
    assert e.simulate is None
    simulated = e.replace(simulate={"dimension": 100}).simulate
    assert simulated is not None
    assert (simulated.runs, simulated.seed) == (5, 0)


def test_a_file_says_what_the_experiment_is():
    e = experiment()
    again = Experiment.from_toml(e.to_toml())
    assert again == e
    assert again.to_toml() == e.to_toml()
    assert again.title == TABLES["title"]
    np.testing.assert_array_equal(again.initial_state(), e.initial_state())


def test_digest_changes_with_the_content_alone():
    e = experiment()
    assert e.digest == experiment(**{"title": "another", "rule.support": math.inf}).digest
    assert e.digest == experiment(**{"rule.order": "first"}).digest
    changes = {
        "rule.inner_rate": 1.5, "rule.order": "exact", "tasks.label_noise": 0.2, "initial.w": 0.4,
        "initial.random.seed": 4, "integrate.rtol": 1e-9, "model.hidden": 4,
        "evaluate.support": 3, "simulate.dimension": 100,
    }  # fmt: skip
    digests = {experiment(**{key: value}).digest for key, value in changes.items()}
    assert len(digests - {e.digest}) == len(changes)


def test_replace_leaves_the_original_alone():
    e = experiment()
    before = json.dumps(e.to_dict())
    other = e.replace(**{"rule.inner_rate": 2.0, "initial.random.seed": 9})
    assert (e.rule.inner_rate, other.rule.inner_rate) == (1.0, 2.0)
    assert json.dumps(e.to_dict()) == before
    with pytest.raises(AttributeError, match=r"immutable; use \.replace"):
        e.rule = other.rule
    state = e.initial_state()
    state[:] = 0.0
    assert e.initial_state().any()


def test_a_key_that_stands_instead_of_others_replaces_them():
    e = experiment(**{"tasks.heads": [[1.0, 0.0], [0.0, 1.0]]})
    np.testing.assert_array_equal(e.tasks.mean, [0.5, 0.5])
    np.testing.assert_allclose(e.tasks.covariance, [[0.25, -0.25], [-0.25, 0.25]])
    np.testing.assert_array_equal(e.parameters["weight"], [0.5, 0.5])
    given = e.replace(**{"initial.Q": np.eye(3), "initial.R": np.zeros((3, 2))})
    assert given.initial.random is None
    assert given.replace(**{"initial.random": TABLES["initial"]["random"]}).initial.Q is None


def test_processes_can_exchange_experiments():
    e = experiment()
    again = pickle.loads(pickle.dumps(e))
    assert (again, again.name) == (e, e.name)


def test_rules_of_ones_own_enter_as_objects():
    tables = {key: TABLES[key] for key in ("model", "tasks", "initial", "integrate")}
    e = Experiment(rule=Own(pull=1.0, outer_rate=0.5), **tables)
    assert e.replace(**{"rule.pull": 2.0}).rule == Own(pull=2.0, outer_rate=0.5)
    assert e.parameters["rate_pull"] == 1.0
    assert pickle.loads(pickle.dumps(e)) == e
    with pytest.raises(ExperimentError, match=r"rule\.pull must be at least 0\.5"):
        e.replace(**{"rule.pull": 0.25})
    with pytest.raises(ExperimentError, match=r"rule\.name must be one of"):
        Experiment.from_toml(e.to_toml())
    anil = Anil(inner_rate=1.0, outer_rate=0.5)
    assert Experiment(rule=anil, **tables).rule == experiment(**{"tasks.label_noise": 0.1}).rule
    assert e.replace(rule=anil).rule == anil


def test_numbers_of_numpy_are_numbers():
    e = experiment(**{"rule.inner_rate": np.float64(2.0), "model.hidden": np.int64(4)})
    assert (e.rule.inner_rate, e.layout.hidden) == (2.0, 4)


def test_parameters_of_structured_inputs():
    inputs = [{"variance": 0.3, "fraction": 0.25}, {"variance": 2.0, "fraction": 0.75}]
    e = experiment(
        **{"model.inputs": inputs, "model.teacher_overlap": 2.0, "tasks.representation_spread": 0.5}
    )
    p = e.parameters
    np.testing.assert_array_equal(p["variance"], [0.3, 2.0])
    np.testing.assert_array_equal(p["fraction"], [0.25, 0.75])
    np.testing.assert_allclose(p["T"], [0.5 * np.eye(2), 1.5 * np.eye(2)])
    np.testing.assert_allclose(p["TT"] - p["T"], [0.0625 * np.eye(2), 0.1875 * np.eye(2)])
    assert e.layout.blocks == 2
    assert e.initial_state().shape == (e.layout.size,)


def test_second_moment_of_the_task_vector():
    U = experiment().parameters["U"]
    np.testing.assert_allclose(U, [[1, 1, 2], [1, 1.5, 2], [2, 2, 4.25]])


def test_a_random_start_is_that_of_finite_vectors():
    """Means and variances over seeds of JJᵀ/N and JBᵀ/N with J_ki iid N(0, norm²), BBᵀ/N = T.

    Var R_kn = norm² T_nn/N, Var Q_kk = 2 norm⁴/N, Var Q_kl = norm⁴/N; 5 standard errors.
    """
    T, norm, N, draws_made = np.array([[[1.0, 0.3], [0.3, 2.0]]]), 0.7, 50, 2000
    samples = [draws.random_overlaps(2, T, [N], norm, seed) for seed in range(draws_made)]
    Q, R = (np.array(x)[:, 0] for x in zip(*samples, strict=True))
    expected = {
        "Q_kk": (Q[:, 0, 0], norm**2, 2 * norm**4 / N),
        "Q_kl": (Q[:, 0, 1], 0.0, norm**4 / N),
        "R_k1": (R[:, 0, 0], 0.0, norm**2 * 1.0 / N),
        "R_k2": (R[:, 1, 1], 0.0, norm**2 * 2.0 / N),
    }
    for name, (values, mean, variance) in expected.items():
        assert abs(values.mean() - mean) < 5 * np.sqrt(variance / draws_made), name
        assert abs(values.var() / variance - 1) < 5 * np.sqrt(3 / draws_made), name
    product = (R[:, 0, 0] * R[:, 0, 1]).mean()
    assert abs(product - norm**2 * 0.3 / N) < 5 * norm**2 * np.sqrt(3 / draws_made) / N
    assert all(
        np.linalg.eigvalsh(field_covariance(q, r, T[0]))[0] > -1e-12
        for q, r in zip(Q, R, strict=True)
    )


def test_coordinates_are_split_by_fraction():
    assert draws.block_sizes(np.array([0.3, 0.7]), 10) == [3, 7]
    assert sum(draws.block_sizes(np.full(7, 1 / 7), 100)) == 100


def test_every_preset_has_a_title_and_survives_its_own_file():
    assert {"saad-solla", "meta-specialization", "task-diversity", "over-parameterised"} <= set(
        presets()
    )
    for name in presets():
        e = Experiment.load(name)
        assert e.title
        assert e.name == name
        assert Experiment.from_toml(e.to_toml()) == e


@pytest.mark.parametrize("text", ["2", "2.0", "[1.0, 2]", '"inf"', "inf", "true", "{a = 1}"])
def test_values_on_the_command_line_are_toml(text):
    assert toml.assignment(f" a.b = {text} ") == ("a.b", toml.parse(f"v = {text}")["v"])


def test_what_is_written_is_read_again():
    tables = {"a": 1, "b": [1e-8, math.inf, -0.0], "s": {"t": 'é\x7f\n"', "u": {"v": [True]}}}
    assert toml.parse(toml.write(tables)) == tables
