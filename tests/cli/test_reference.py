"""The command against numbers that were computed independently (tests/golden/reference.json)."""

import json
from pathlib import Path

import numpy as np
import pytest

from solvers import toml
from solvers.cli import execute
from solvers.experiment import Experiment

REFERENCE = json.loads((Path(__file__).parents[1] / "golden" / "reference.json").read_text())
EXPERIMENTS = {name: entry for name, entry in REFERENCE.items() if "experiment" in entry}
FINAL = {name: entry for name, entry in EXPERIMENTS.items() if "final" in entry}
TOLERANCE = 1e-6
"""Integration at rtol = 1e-8 is good to some 10² × rtol; the references were integrated finer."""


def ran(tables: dict, capsys: pytest.CaptureFixture[str], *overrides: str) -> dict:
    """The JSON object of ``macrodyn run``, from a file."""
    Path("experiment.toml").write_text(toml.write(tables))
    settings = [word for override in overrides for word in ("--set", override)]
    status = execute(["run", "experiment.toml", "--json", *settings])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("entry", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_reference_is_an_experiment(entry):
    experiment = Experiment.from_dict(entry["experiment"])
    assert Experiment.from_toml(experiment.to_toml()) == experiment


@pytest.mark.parametrize("entry", FINAL.values(), ids=FINAL)
def test_run_ends_where_the_reference_ends(entry, capsys):
    result = ran(entry["experiment"], capsys, "integrate.rtol=1e-10", "integrate.points=2")
    for name, expected in entry["final"].items():
        np.testing.assert_allclose(result["final"][name], expected, atol=TOLERANCE, err_msg=name)
    assert not list(Path.cwd().glob("results*"))


@pytest.mark.parametrize("entry", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_rates_at_the_start(entry):
    experiment = Experiment.from_dict(entry["experiment"])
    if "initial_rate" not in entry:
        experiment = experiment.replace(**{"rule.regime": "gradient-flow"})
    rate = experiment.compiled.rhs(experiment.initial_state(), experiment.parameters)
    found = dict(zip("QRw", experiment.layout.unpack(rate), strict=True))
    expected = entry.get("initial_rate") or entry.get("drift_at_unit_rates") or {}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-10, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("row", REFERENCE["plateau length"]["rows"], ids=str)
def test_plateau_length(row, capsys):
    common = REFERENCE["plateau length"]["common"]
    scale = row["scale_of_R"]
    R = (scale * np.array([[1.2, 0.8], [0.7, 1.1]])).tolist()
    tables = {
        **common,
        "model": {"hidden": 2, "teacher_hidden": 2},
        "initial": {**common["initial"], "R": R},
        "integrate": {"time": 800.0, "points": 17, "rtol": 1e-10, "atol": 1e-14},
    }
    assert ran(tables, capsys)["escape_time"] == pytest.approx(row["escape_time"], rel=1e-6)
    Path("experiment.toml").write_text(toml.write(tables))
    from solvers import integrate

    error = integrate(Experiment.load("experiment.toml")).error
    np.testing.assert_allclose(error, row["error_at_every_50"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("row", REFERENCE["diversity"]["rows"], ids=str)
def test_diversity(row, capsys):
    common = REFERENCE["diversity"]["common"]
    tables = {
        **common,
        "tasks": {**common["tasks"], "head_covariance": row["head_covariance"]},
        "rule": {**common["rule"], "inner_rate": row["inner_rate"]},
    }
    result = ran(tables, capsys, "integrate.rtol=1e-10", "integrate.points=2")
    assert result["escape_time"] == pytest.approx(row["escape_time"], rel=1e-6)
    assert result["final"]["error"] == pytest.approx(row["error_at_1500"], rel=1e-5, abs=1e-12)
