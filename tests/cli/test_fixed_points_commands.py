"""``macrodyn fixed-points`` and ``macrodyn continue`` as users call them."""

import json

import numpy as np
import pytest

from solvers import Experiment, critical_rate, fixed_point_near, store
from solvers.cli import execute
from solvers.stability.branch import Diagram
from solvers.stability.fixed_point import FixedPoints

FILES = {".nc", ".png", ".svg"}
LINEAR = """
model = {activation = "linear", hidden = 2, teacher_hidden = 2}
tasks = {head_mean = 0.0, head_covariance = 1.0}
rule = {name = "anil", inner_rate = 0.3, outer_rate = 0.1, regime = "population"}
initial = {w = 0.0, random = {norm = 0.5, dimension = 100, seed = 0}}
integrate = {time = 300}
"""
RANGE = ("--parameter", "rule.outer_rate", "--from", "0.5", "--to", "1")


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def called(*arguments):
        status = execute(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return called


def test_fixed_points_as_json_and_as_files(call, tmp_path):
    status, out, err = call("fixed-points", "saad-solla", "--json", "--out", "found")
    assert (status, err) == (0, "")
    points = json.loads(out)["fixed_points"]
    assert [p["label"] for p in points] == ["specialized", "symmetric"]
    assert [p["stable"] for p in points] == [True, False]
    assert [p["unstable"] for p in points] == [0, 1]
    for point in points:
        assert point["residual"] < 1e-10
        assert np.shape(point["Q"]) == np.shape(point["R"]) == (2, 2)
        assert np.shape(point["eigenvalues"]) == (7, 2)
        assert point["eigenvalues"][0][0] == max(value for value, _ in point["eigenvalues"])
    assert points[0]["critical_rate"] == pytest.approx(2.306827696, abs=1e-8)
    assert 0 < points[0]["optimal_rate"] < points[0]["critical_rate"]
    assert points[1]["critical_rate"] is None
    assert {file.suffix for file in (tmp_path / "found").iterdir()} == FILES
    data = store.load(tmp_path / "found" / "fixed-points.nc")
    again = FixedPoints.from_dataset(data, store.experiment_of(data))
    assert [p.error for p in again] == [p["error"] for p in points]
    assert [p.symmetry for p in again] == [p["symmetry"] for p in points]
    assert call("plot", "found/fixed-points.nc", "--out", "redrawn")[0] == 0


def test_a_branch_as_json_and_as_files(call, tmp_path):
    status, out, err = call(
        "continue", "saad-solla", "--parameter", "rule.outer_rate", "--from", "0.4", "--to", "2.4",
        "--json", "--out", "found",
    )  # fmt: skip
    assert (status, err) == (0, "")
    branches = json.loads(out)["branches"]
    assert len(branches) == 3
    specials = [s for b in branches for s in b["special_points"]]
    kinds = [s["kind"] for s in specials]
    assert kinds.count("branch-point") == 2
    assert set(kinds) <= {"branch-point", "unphysical"}
    for special in specials:
        assert special["parameter"] == pytest.approx(2.306827696, abs=1e-6)
        assert special["critical"] == (special["kind"] == "branch-point")
    for point in branches[0]["points"]:
        assert set(point) == {"parameter", "error", "unstable", "Q", "R", "w"}
        assert 0.4 <= point["parameter"] <= 2.4
    assert {file.suffix for file in (tmp_path / "found").iterdir()} == FILES
    data = store.load(tmp_path / "found" / "continuation.nc")
    again = Diagram.from_dataset(data, store.experiment_of(data))
    assert [len(b) for b in again] == [len(b["points"]) for b in branches]
    assert [s.kind for b in again for s in b.special_points] == kinds
    assert call("plot", "found/continuation.nc", "--out", "redrawn")[0] == 0


def test_where_stability_is_lost_along_a_second_parameter(call, tmp_path):
    """The critical rate of the perfect solution, for teachers of several norms."""
    arguments = ("--parameter", "rule.outer_rate", "--from", "1.5", "--to", "2.4", "--json")
    status, out, err = call(
        "continue", "saad-solla", *arguments, "--curve", "model.teacher_overlap=0.95:1.05",
        "--out", "found",
    )  # fmt: skip
    assert (status, err) == (0, "")
    (curve,) = json.loads(out)["curves"]
    assert curve["parameters"] == ["rule.outer_rate", "model.teacher_overlap"]
    for rate, overlap in list(zip(curve["first"], curve["second"], strict=True))[::5]:
        eye = np.eye(2)
        experiment = Experiment.load("saad-solla").replace(
            **{"model.teacher_overlap": overlap, "rule.outer_rate": 1.0}
        )
        point = fixed_point_near(experiment, overlap * eye, overlap * eye, np.ones(2))
        assert critical_rate(point) == pytest.approx(rate, abs=1e-7)
    assert (tmp_path / "found" / "curves.svg").exists()
    assert call("plot", "found/curves.nc", "--out", "redrawn")[0] == 0


def test_a_run_names_the_fixed_point_that_its_plateau_lingers_at(call):
    status, out, _ = call("run", "saad-solla", "--json")
    assert status == 0
    (plateau,) = json.loads(out)["plateaus"]
    assert plateau["fixed_point"]["label"] == "symmetric"
    assert plateau["fixed_point"]["unstable"] == 1
    escape = plateau["escape"]
    assert escape["measured"] == json.loads(out)["escape_time"]
    assert abs(escape["linearised_error"]) < 0.1
    assert escape["linearised"] == pytest.approx(
        escape["measured"] * (1 + escape["linearised_error"])
    )
    status, out, _ = call("run", "saad-solla", "--out", "found")
    assert "lingers at a symmetric fixed point (unstable in 1 direction" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--parameter", "rule.outer_rat", "--from", "0", "--to", "1"), "outer_rate"),
        (("--parameter", "rule.outer_rate", "--from", "-1", "--to", "1"), "limited to"),
        (("--parameter", "rule.outer_rate", "--from", "1", "--to", "1"), "two different"),
        (("--parameter", "rule.outer_rate", "--from", "0", "--to", "inf"), "finite"),
        (("--parameter", "rule.regime", "--from", "0", "--to", "1"), "not a number"),
        (("--from", "0", "--to", "1"), "--parameter"),
        (("--parameter", "model.hidden", "--from", "1", "--to", "4"), "no continuous parameter"),
        ((*RANGE, "--curve", "rule.head_rate"), "KEY=A:B"),
        ((*RANGE, "--curve", "model.teacher_overlap=2:3"), "must contain"),
        ((*RANGE, "--curve", "model.teacher_overlap=-1:3"), "limited to"),
        ((*RANGE, "--curve", "model.teacher_overlap=1:1"), "two different"),
        ((*RANGE, "--curve", "tasks.label_nois=0:1"), "label_noise"),
    ],
)
def test_a_users_error_is_one_line_and_writes_nothing(call, tmp_path, arguments, words):
    status, out, err = call("continue", "saad-solla", *arguments, "--out", "found")
    assert status == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "found").exists()


def test_a_flow_that_stands_still_is_a_sentence(call):
    status, out, err = call("fixed-points", "saad-solla", "--set", "rule.outer_rate=0")
    assert (status, err) == (0, "")
    assert out.startswith("Every state is a fixed point")
    assert out.count("\n") == 1


def test_no_fixed_point_is_a_sentence(call):
    noisy = ("--set", "tasks.label_noise=3", "--set", "rule.outer_rate=5")
    status, out, err = call("fixed-points", "saad-solla", *noisy)
    assert (status, err) == (0, "")
    assert out.startswith("No physical fixed point was found from ")
    assert out.count("\n") == 1


def test_continua_of_a_linear_network_are_told_in_one_line(call, tmp_path):
    (tmp_path / "linear.toml").write_text(LINEAR)
    status, out, err = call("fixed-points", "linear.toml")
    assert status == 0
    assert err.count("\n") == err.count("warning: ") == 1
    assert "continuous families (of up to 3 dimensions)" in err
    assert "1. specialized, stable, error 0" in out
    assert "one of a 1-dimensional family" in out
    status, out, err = call("continue", "linear.toml", *RANGE)
    assert (status, err) == (0, "")
    assert out.startswith("3 branches of fixed points")


def test_structured_inputs_have_the_same_perfect_state_and_critical_rate(call):
    """Σ f λ = 1: the rate at which noise and drift balance is that of white inputs."""
    inputs = "model.inputs=[{variance=0.4, fraction=0.5}, {variance=1.6, fraction=0.5}]"
    start = "initial={w=1.0, random={norm=0.5, dimension=1000, seed=0}}"
    status, out, err = call("fixed-points", "saad-solla", "--set", start, "--set", inputs, "--json")
    assert (status, err) == (0, "")
    best, plateau = json.loads(out)["fixed_points"]
    np.testing.assert_allclose(best["Q"], 0.5 * np.eye(2)[None].repeat(2, 0), atol=1e-9)
    assert best["critical_rate"] == pytest.approx(2.306827696, abs=1e-8)
    assert (plateau["label"], plateau["unstable"]) == ("symmetric", 1)
