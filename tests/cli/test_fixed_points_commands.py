"""``macrodyn fixed-points`` and ``macrodyn continue`` as users call them."""

import json

import numpy as np
import pytest

from solvers import store
from solvers.branch import Diagram
from solvers.cli import execute
from solvers.fixed_point import FixedPoints

FILES = {".nc", ".png", ".svg"}


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--parameter", "rule.outer_rat", "--from", "0", "--to", "1"), "outer_rate"),
        (("--parameter", "rule.outer_rate", "--from", "-1", "--to", "1"), "limited to"),
        (("--parameter", "rule.outer_rate", "--from", "1", "--to", "1"), "two different"),
        (("--parameter", "rule.outer_rate", "--from", "0", "--to", "inf"), "finite"),
        (("--parameter", "rule.regime", "--from", "0", "--to", "1"), "not a number"),
        (("--from", "0", "--to", "1"), "--parameter"),
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
