"""The package as a stranger gets it: the wheel, a clean installation, a quick import."""

import json
import resource
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import solvers
import theory
from solvers import Experiment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, check=True)
    (built,) = folder.glob("macrodyn-*.whl")
    return built


def test_wheel_holds_both_packages_and_every_preset(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        str(path.relative_to(ROOT))
        for package in ("theory", "solvers")
        for pattern in ("*.py", "*.toml")
        for path in (ROOT / package).rglob(pattern)
    }
    assert "solvers/presets/meta-specialization.toml" in shipped
    assert shipped <= held
    assert {entry.split("/")[0] for entry in held if ".dist-info/" not in entry} == {
        "theory",
        "solvers",
    }


def test_wheel_declares_the_command_and_its_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    about = [entry for entry in archive.namelist() if ".dist-info/" in entry]
    texts = {entry: archive.read(entry).decode() for entry in about}
    (commands,) = [text for entry, text in texts.items() if entry.endswith("entry_points.txt")]
    assert "macrodyn = solvers.cli:main" in commands
    assert any(entry.endswith("LICENSE") for entry in texts)


PROBE = """
import json, sys, time
import_before, start = set(sys.modules), time.process_time()
import solvers
print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - import_before)]))
"""


def test_importing_solvers_is_quick_and_brings_nothing_heavy():
    def probe() -> tuple[float, set[str]]:
        out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True)
        seconds, modules = json.loads(out.stdout)
        return seconds, set(modules)

    runs = [probe() for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 1.0
    heavy = {"matplotlib", "dask", "distributed", "numba", "IPython", "sympy", "xarray"}
    assert runs[0][1].isdisjoint(heavy | {"scipy.integrate", "scipy.linalg", "scipy.optimize"})


@pytest.mark.alone
def test_a_run_from_the_cache_takes_less_than_two_seconds(tmp_path):
    """The shipped experiment without its simulation, result file and figures included.

    On a busy machine, what it imports of others alone tells how long a second is: 0.57 s of a
    quiet one, where the run takes 1.5 s.
    """
    tables = Experiment.load("meta-specialization").to_dict()
    del tables["simulate"]
    (tmp_path / "meta.toml").write_text(Experiment.from_dict(tables).to_toml())
    command = [Path(sys.executable).with_name("macrodyn"), "run", "meta.toml", "--quiet"]
    imports = [sys.executable, "-c", "import matplotlib.figure, scipy.linalg, pydantic"]

    def seconds(command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=tmp_path, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds(command)
    pairs = [(seconds(command), seconds(imports)) for _ in range(3)]
    fastest, yardstick = (min(times) for times in zip(*pairs, strict=True))
    assert fastest < 2.0 * max(1.0, yardstick / 0.57)


@pytest.mark.slow
def test_a_clean_installation_runs_from_any_folder(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, wheel], check=True)
    command = [python.with_name("macrodyn"), "presets"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "meta-specialization" in shown.stdout
    assert not shown.stderr


@pytest.mark.parametrize(
    ("package", "public"),
    [
        (theory, {"gaussian_average", "derive", "compile_flow", "reduce", "erf"}),
        (solvers, {"Experiment", "integrate", "simulate", "fixed_points", "phase_diagram"}),
    ],
)
def test_public_names_are_there_and_are_fetched_when_used(package, public):
    code = f"import sys, {package.__name__} as p; print('numpy' in sys.modules, *dir(p))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded, *names = out.stdout.split()
    assert loaded == "False"
    assert public <= set(names)
    assert all(getattr(package, name) is not None for name in names if not name.startswith("__"))
    with pytest.raises(AttributeError, match="no attribute 'average_of'"):
        getattr(package, "average_of")  # noqa: B009
