"""``macrodyn phase`` and ``macrodyn phase --plot``: JSON, files, exit status."""

import json

import pytest

from solvers import store
from solvers.cli import execute

QUICK = ["--set", "integrate.time=3", "--set", "integrate.points=5", "--workers", "1"]
AXIS = ["--axis", "rule.outer_rate=0.5:1:3"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def phase(*words):
    return execute(["phase", *words])


def test_json_and_files(tmp_path, capsys):
    assert phase("saad-solla", *AXIS, *QUICK, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"points", "done", "labels", "file"}
    assert (found["points"], found["done"], sum(found["labels"].values())) == (3, 3, 3)
    assert found["file"] == "results/saad-solla/phase.nc"
    assert store.load(found["file"])["label"].shape == (3,)
    written = {path.name for path in (tmp_path / "results" / "saad-solla").iterdir()}
    assert written == {"phase.nc", "phase.png", "phase.svg"}


def test_words_on_stdout_and_nothing_when_quiet(capsys):
    assert phase("saad-solla", *AXIS, *QUICK, "--out", "a") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("points     3\n")
    assert "unresolved" in shown.out
    assert phase("saad-solla", *AXIS, *QUICK, "--out", "a", "--resume", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_redraw(tmp_path, capsys):
    assert phase("saad-solla", *AXIS, *QUICK, "--out", "a", "--quiet") == 0
    assert phase("--plot", "a/phase.nc", "--out", "b", "--json") == 0
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"phase.png", "phase.svg"}
    assert execute(["plot", "a/phase.nc", "--out", "c", "--quiet"]) == 0
    assert (
        (tmp_path / "c" / "phase.png").read_bytes()
        == (tmp_path / "b" / "phase.png").read_bytes()
        == (tmp_path / "a" / "phase.png").read_bytes()
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["saad-solla"], "one to three axes"),
        (AXIS, "name an experiment"),
        (["saad-solla", "--axis", "rule.outer_rate=1:2"], "start:stop:count"),
        (["saad-solla", "--axis", "rule.outer_rat=1:2:3"], "did you mean rule.outer_rate"),
        (["saad-solla", "--axis", "model.hidden=1,2"], "initial.random"),
        (["saad-solla", *AXIS, "--runs", "0"], "at least 1"),
        (["saad-solla", *AXIS, "--runs", "2"], "initial.random"),
        (["saad-solla", *AXIS, "--adaptive", "2"], "too few"),
        (["saad-solla", *AXIS, "--workers", "0"], "--workers"),
        (["saad-solla", *AXIS, "--cluster", "nonsense"], "Dask scheduler"),
        (["nowhere.toml", *AXIS], "nowhere.toml"),
        (["--plot", "nowhere.nc"], "nowhere.nc"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, capsys, words, sentence):
    assert phase(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert sentence in shown.err
    assert not list(tmp_path.iterdir())
