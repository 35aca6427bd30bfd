"""What the README shows a newcomer works as it stands there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from solvers import Experiment

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
TOML = [text for language, text in BLOCKS if language == "toml"]


def test_opens_with_the_two_commands():
    first, second = README.splitlines()[:2]
    assert first.split()[:2] == ["make", "run"]
    assert second.split()[:2] == ["make", "test"]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs(code, tmp_path):
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_experiment_is_one():
    e = Experiment.from_dict(tomllib.loads(TOML[0]))
    assert e.compiled.rhs(e.initial_state(), e.parameters).shape == (e.layout.size,)


def test_every_command_is_listed():
    command = Path(sys.executable).with_name("macrodyn")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^│ ([a-z][a-z-]*) {2,}\S", shown, flags=re.MULTILINE))
    section = README.split("## The command\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([a-z-]+)", section, flags=re.MULTILINE))
    assert commands
    assert commands == listed
