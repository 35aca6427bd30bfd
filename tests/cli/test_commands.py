"""The commands as users call them: what they print, what they write, how they end."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from solvers import Experiment, integrate, store
from solvers.cli import common, execute
from solvers.experiment import presets

SHORT = ("--set", "integrate.time=4", "--set", "integrate.points=9")
SIMULATED = (*SHORT, "--set", "simulate.dimension=40", "--set", "simulate.runs=3")
OVERLAPS = ("Q", "R", "w", "error")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Runs a command line: (status, stdout, stderr)."""

    def called(*arguments: str) -> tuple[int, str, str]:
        status = execute(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return called


def written() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("steps", "words"),
    [(1, "error after anil, order first"), (2, "is measured on 5000 tasks: several inner steps")],
)
def test_derive_prints_the_error_at_test_time(call, steps, words):
    given = ("--set", "evaluate.support=5", "--set", f"evaluate.inner_steps={steps}")
    status, page, _ = call("derive", "meta-specialization", "--no-averages", *given)
    assert status == 0
    assert words in page.split("dw_k/dalpha")[1]


def test_run_writes_its_files_and_says_where(call):
    status, out, err = call("run", "saad-solla", *SHORT)
    assert status == 0
    assert out.splitlines()[-1].split()[-1] == "results/saad-solla"
    assert written() == [f"results/saad-solla/trajectory{end}" for end in (".nc", ".png", ".svg")]
    assert "Traceback" not in err
    found = store.load("results/saad-solla/trajectory.nc")
    assert found.attrs["source_digest"] == Experiment.load("saad-solla").compiled.digest
    np.testing.assert_array_equal(found["time"], np.linspace(0, 4, 9))


def test_run_prints_one_json_object_and_writes_nothing(call):
    status, out, _ = call("run", "saad-solla", "--json", *SHORT)
    assert (status, out.count("\n"), written()) == (0, 1, [])
    result = json.loads(out)
    assert {"status", "time", "final", "specialization", "plateaus", "evaluations"} < set(result)
    assert (result["status"], result["time"]) == ("success", 4.0)
    assert {*OVERLAPS} <= set(result["final"])
    assert set(result["seconds"]) == {"derive", "compile", "integrate"}
    assert result["evaluations"] > 0
    expected = integrate(
        Experiment.load("saad-solla").replace(**{"integrate.time": 4, "integrate.points": 9})
    ).final
    for name in OVERLAPS:
        np.testing.assert_array_equal(result["final"][name], getattr(expected, name))


def test_run_with_a_simulation_compares_and_overlays_it(call):
    status, out, _ = call("run", "saad-solla", "--json", "--out", "here", *SIMULATED)
    result = json.loads(out)
    assert status == 0
    assert result["comparison"]["dimension"] == 40
    assert {"Q", "R", "error"} <= set(result["comparison"])
    assert written() == sorted(
        f"here/{name}" for name in
        (common.SIMULATION, common.TRAJECTORY, "trajectory.png", "trajectory.svg")
    )  # fmt: skip


def test_simulate_gives_standard_errors_beside_the_values(call):
    status, out, _ = call("simulate", "saad-solla", "--json", *SIMULATED)
    final = json.loads(out)["final"]
    assert (status, written()) == (0, [])
    for name in OVERLAPS:
        assert np.shape(final[name]) == np.shape(final["standard_error"][name])
    assert final["standard_error"]["error"] > 0


def test_plot_redraws_the_same_figures(call):
    call("run", "saad-solla", "--out", "here", *SIMULATED)
    before = {path: Path(path).read_bytes() for path in written()}
    for path in Path("here").glob("*.[ps]*g"):
        path.unlink()
    status, out, _ = call("plot", "here/trajectory.nc")
    assert (status, out.split()) == (0, ["here/trajectory.png", "here/trajectory.svg"])
    assert {path: Path(path).read_bytes() for path in written()} == before
    status, out, _ = call("plot", "here/simulation.nc", "--out", "there", "--json")
    assert json.loads(out) == {"figures": ["there/simulation.png", "there/simulation.svg"]}
    assert Path("there/simulation.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_lacks_a_variable_is_refused(call):
    call("run", "saad-solla", "--out", "here", *SHORT)
    given = store.load("here/trajectory.nc").drop_vars("error")
    store.save(given, "here/less.nc", Experiment.load("saad-solla"))
    status, out, err = call("plot", "here/less.nc")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "'error'" in err


def test_points_of_another_experiment_are_not_drawn(call):
    call("run", "saad-solla", "--out", "here", *SIMULATED)
    alone = call("run", "saad-solla", "--out", "alone", *SHORT)
    Path("here/simulation.nc").rename("alone/simulation.nc")
    before = Path("alone/trajectory.svg").read_bytes()
    assert alone[0] == call("plot", "alone/trajectory.nc")[0] == 0
    assert Path("alone/trajectory.svg").read_bytes() == before


def test_quiet_says_nothing(call):
    assert call("run", "saad-solla", "--quiet", *SHORT) == (0, "", "")
    assert written() != []


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("style", ["latex", "unicode", "text"])
def test_derive_prints_every_preset(call, name, style):
    status, out, err = call("derive", name, f"--{style}")
    assert (status, err, written()) == (0, "", [])
    assert out.isascii() == (style != "unicode")
    heads = [out.index(word) for word in ("Definitions", "Flow", "Averages")]
    assert heads == sorted(heads)
    assert "Averages" not in call("derive", name, f"--{style}", "--no-averages")[1]


def test_derive_reduces_to_symmetric_states(call):
    status, out, _ = call("derive", "saad-solla", "--ansatz", "site-symmetric", "--json")
    page = json.loads(out)
    assert (status, page["ansatz"], page["format"]) == (0, "site-symmetric", "text")
    rates = [line.split("=")[0].strip() for line in page["equations"].splitlines() if "/d" in line]
    assert {"dQ/dalpha", "dC/dalpha", "dR/dalpha", "dS/dalpha"} <= set(rates)
    status, _, err = call("derive", "over-parameterised", "--ansatz", "site-symmetric")
    assert (status, err.count("\n")) == (2, 1)


def test_derive_writes_its_page(call):
    _, out, _ = call("derive", "saad-solla", "--latex", "--out", "here")
    assert written() == ["here/equations.tex"]
    assert out == Path("here/equations.tex").read_text() + "\n"


def test_presets_are_listed(call):
    _, out, _ = call("presets")
    assert [line.split()[0] for line in out.splitlines()] == list(presets())
    listed = json.loads(call("presets", "--json")[1])["presets"]
    assert {entry["name"] for entry in listed} == set(presets())
    assert all(entry["title"] for entry in listed)


def test_help_and_version(call):
    assert call()[0] == 0
    for command in ("run", "derive", "simulate", "presets", "plot", "phase"):
        status, out, _ = call(command, "--help")
        assert (status, "--json" in out) == (0, True)
    assert call("--version")[1].startswith("macrodyn ")


def test_a_divergence_is_written_and_ends_with_3(call):
    """A linear network far above its critical rate: the result is written, with its status."""
    wild = ("--set", "model.activation=linear", "--set", "rule.outer_rate=20")
    status, out, err = call("run", "saad-solla", "--json", "--out", "here", *wild)
    result = json.loads(out)
    assert (status, result["status"], result["label"]) == (3, "diverged", "diverged")
    assert err.splitlines()[-1].startswith("macrodyn: diverged: ")
    assert result["message"]
    assert result["time"] < 300
    assert store.load("here/trajectory.nc").attrs["status"] == "diverged"
    assert Path("here/trajectory.png").exists()
    assert "NaN" not in out
    assert "Infinity" not in out


def test_what_is_not_a_number_is_null():
    value = {"a": np.array([1.0, np.nan]), "b": -np.inf, "c": np.float64(0.1), "d": np.int64(3)}
    assert common.jsonable(value) == {"a": [1.0, None], "b": None, "c": 0.1, "d": 3}
    assert common.jsonable([1 + 2j, None, "x", True]) == [[1.0, 2.0], None, "x", True]


MAML = ("rule.name=maml", "rule.support_ratio=2.0")
FROZEN = 'rule={name="frozen-representation", outer_rate=0.5, support=3}'
REFUSED = {
    "several steps on a finite support": ("rule.support=3", "rule.inner_steps=2"),
    "several steps at a finite ratio": (*MAML, "rule.inner_steps=2"),
    "population at a finite ratio": (*MAML, "rule.regime=population"),
    "a head fitted on a finite support": (FROZEN,),
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", ["run", "derive"])
def test_combinations_without_a_theory_are_refused_in_one_line(call, command, changes):
    settings = [word for change in changes for word in ("--set", change)]
    status, out, err = call(command, "meta-specialization", *settings)
    assert (status, out, err.count("\n"), written()) == (2, "", 1, [])
    assert "support" in err


def test_a_flow_beyond_memory_is_refused(call):
    random = "initial={w=1.0, random={norm=0.5, dimension=2000}}"
    many = ("--set", "model.hidden=900", "--set", "model.teacher_hidden=900", "--set", random)
    status, out, err = call("run", "saad-solla", *many)
    assert (status, out, err.count("\n"), written()) == (2, "", 1, [])
    assert "do not fit" in err


@contextmanager
def interrupted_after(seconds: float):
    """Ctrl-C once this process has worked for that long."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


STEPS = ("--set", "rule.regime=population", "--set", "integrate.time=100000000")
RUNS = ("--set", "integrate.time=1e6", "--set", "simulate.dimension=30")


TRAJECTORY, SIMULATION = common.TRAJECTORY, common.SIMULATION


@pytest.mark.parametrize(
    ("command", "long", "file"),
    [("run", STEPS, TRAJECTORY), ("run", RUNS, SIMULATION), ("simulate", RUNS, SIMULATION)],
)
def test_ctrl_c_writes_what_was_computed(call, command, long, file):
    call(command, "saad-solla", "--out", "warm", *SIMULATED)
    with interrupted_after(2.0):
        status, out, err = call(command, "saad-solla", *long, "--json", "--out", "here")
    assert (status, json.loads(out)["status"]) == (3, "interrupted")
    assert err.splitlines()[-1].startswith("macrodyn: interrupted: ")
    assert store.load(f"here/{file}").attrs["status"] == "interrupted"


def test_ctrl_c_before_there_is_a_result(call, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "load", interrupt)
    status, out, err = call("run", "saad-solla")
    assert (status, out, err.count("\n"), written()) == (3, "", 1, [])


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-c", "from solvers.cli import main; main()", "derive", "saad-solla"]
    end, begin = os.pipe()
    os.close(end)
    done = subprocess.run(command, stdout=begin, stderr=subprocess.PIPE, check=False)
    os.close(begin)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["presets"], {"sympy", "matplotlib", "xarray", "pandas", "dask", "scipy.integrate"}),
        (["run", "saad-solla"], {"sympy", "xarray", "pandas", "dask"}),
        (["derive", "saad-solla"], {"sympy", "matplotlib", "xarray", "scipy.integrate"}),
    ],
    ids=["presets", "run", "derive"],
)
def test_a_command_waits_for_nothing_that_it_does_not_use(call, arguments, unused):
    call(*arguments)  # what is kept on disk needs no sympy
    code = (
        f"import sys; from solvers.cli import execute; execute({arguments}); "
        f"print(sorted({unused} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
