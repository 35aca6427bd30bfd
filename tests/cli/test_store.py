"""Result files: complete or absent, with their provenance; foreign files are refused."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from solvers import (
    continue_all,
    fixed_points,
    integrate,
    integrate_reduction,
    load,
    phase_diagram,
    save,
    simulate,
    store,
)
from solvers.errors import ExperimentError
from solvers.experiment import Experiment
from solvers.store import ResultFileError
from theory import compile_reduction
from theory.rules import Sgd

EXPERIMENT = Experiment.load("saad-solla").replace(**{"simulate.dimension": 50, "simulate.seed": 7})


def dataset() -> xarray.Dataset:
    values = np.array([0.1, np.nan, np.inf, 1 / 3])
    return xarray.Dataset(
        {"error": ("time", values, {"long_name": "ε"})},
        {"time": ("time", np.arange(4.0), {"units": "outer updates / N"})},
        {"kind": "trajectory", "status": "success"},
    )


def test_a_file_gives_back_what_was_written(tmp_path):
    given = dataset()
    path = store.save(given, tmp_path / "new" / "folder" / "a.nc", EXPERIMENT)
    found = store.load(path)
    np.testing.assert_array_equal(found["error"], given["error"])
    assert found["error"].attrs == {"long_name": "ε", "units": "1"}
    assert found["time"].attrs["units"] == "outer updates / N"
    assert found.attrs["kind"] == "trajectory"
    assert given["error"].attrs == {"long_name": "ε"}


def test_a_file_says_where_it_comes_from(tmp_path):
    attributes = store.load(store.save(dataset(), tmp_path / "a.nc", EXPERIMENT)).attrs
    assert attributes["macrodyn_schema"] == store.SCHEMA
    assert attributes["experiment_digest"] == EXPERIMENT.digest
    assert json.loads(attributes["seed"]) == 7
    assert set(json.loads(attributes["versions"])) == {"python", *store.PACKAGES}
    again = store.experiment_of(store.load(tmp_path / "a.nc"))
    assert (again, again.name) == (EXPERIMENT, "saad-solla")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = store.save(dataset(), tmp_path / "a.nc", EXPERIMENT)
    before = path.read_bytes()

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResultFileError, match=r"cannot write .*a\.nc: No space left"):
        store.save(dataset(), path, EXPERIMENT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("limit", [100, 5_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    """The real thing: a process whose files may not grow beyond ``limit`` bytes."""
    code = (
        "import resource, runpy, signal, sys\n"
        f"here = runpy.run_path({__file__!r})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n    here['store'].save(here['dataset'](), sys.argv[1], here['EXPERIMENT'])\n"
        "except here['ResultFileError'] as error:\n    print(error)\n"
    )
    target = tmp_path / "results" / "a.nc"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"cannot write {target}")
    assert list(target.parent.iterdir()) == []


def test_files_are_readable_as_the_user_wants(tmp_path):
    old = os.umask(0o027)
    try:
        path = store.save(dataset(), tmp_path / "a.nc", EXPERIMENT)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["run", "runs", "points", "branches", "diagram", "reduction"])
def test_a_result_is_saved_and_loaded_as_itself(kind, tmp_path):
    made = RESULTS[kind](EXPERIMENT.replace(**{"integrate.time": 2.0}), tmp_path)
    again = load(save(made, tmp_path / "result.nc"))
    assert (type(again), repr(again)) == (type(made), repr(made))
    xarray.testing.assert_equal(again.dataset, made.dataset)
    assert len(repr(made)) < 250


def reduced(experiment, folder):
    flow = compile_reduction(experiment.rule, "site-symmetric", backend="numpy")
    start = {"Q": 0.2, "C": 0.0, "R": 0.02, "S": 0.0, "w": 1.0}
    return integrate_reduction(flow, start, flow.parameters(K=7, head_mean=1.0), 2.0)


RESULTS = {
    "run": lambda e, folder: integrate(e),
    "runs": lambda e, folder: simulate(e, [0.0, 2.0]),
    "points": lambda e, folder: fixed_points(e),
    "branches": lambda e, folder: continue_all(e, "rule.outer_rate", 0.5, 0.6),
    "diagram": lambda e, folder: phase_diagram(e, ["rule.outer_rate=1,2"], folder),
    "reduction": reduced,
}  # fmt: skip


def test_the_file_of_a_reduction_says_of_what(tmp_path):
    found = load(save(reduced(EXPERIMENT, tmp_path), tmp_path / "reduced.nc"))
    assert (found.made["rule"]["name"], found.made["ansatz"]) == ("sgd", "site-symmetric")
    assert found.made["parameters"]["K"] == 7


def test_what_is_no_result_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="int is no result"):
        save(3, tmp_path / "three.nc")
    assert not any(tmp_path.iterdir())


def test_foreign_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.nc").write_text("text")
    (tmp_path / "empty.nc").touch()
    dataset().to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    dataset().assign_attrs(macrodyn_schema=99).to_netcdf(tmp_path / "new.nc", engine="h5netcdf")
    whole = store.save(dataset(), tmp_path / "whole.nc", EXPERIMENT).read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    cases = {
        "text.nc": "is not a result file",
        "empty.nc": "is not a result file",
        "cut.nc": "is not a result file",
        "foreign.nc": "was not written by macrodyn",
        "new.nc": "schema version 99",
        "absent.nc": "does not exist",
        ".": "is a folder",
    }
    for name, sentence in cases.items():
        with pytest.raises(ResultFileError, match=sentence) as caught:
            store.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_result_of_an_own_rule_is_loaded_with_its_experiment(tmp_path):
    class Own(Sgd):
        name = "own-rule"

    experiment = EXPERIMENT.replace(rule=Own(outer_rate=0.5), **{"integrate.time": 1.0})
    made = integrate(experiment)
    path = save(made, tmp_path / "own.nc")
    with pytest.raises(ExperimentError, match=r"load\(path, experiment\)"):
        load(path)
    assert repr(load(path, experiment)) == repr(made)
