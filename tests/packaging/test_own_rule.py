"""A rule that another distribution brings: one file, one entry point, and the command knows it."""

import inspect
import json
import os
import subprocess
import sys

import pytest

from tests.flows.test_own_rule import RidgeReptile

RULE = """
from dataclasses import dataclass
from typing import Any, ClassVar

from theory.rules import MetaRule
from theory.rules.base import rate


""" + inspect.getsource(RidgeReptile)
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "ridge-reptile"
version = "1.0"
[project.entry-points."macrodyn.rules"]
ridge-reptile = "ridge_reptile:RidgeReptile"
[tool.hatch.build.targets.wheel]
include = ["ridge_reptile.py"]
"""
STUDY = """
[model]
hidden = 2
teacher_hidden = 2
[tasks]
head_mean = 1.0
head_covariance = 0.25
[rule]
name = "ridge-reptile"
outer_rate = 1.0
head_rate = 0.3
ridge = 0.1
[initial]
w = 0.5
Q = [[0.25, 0.0], [0.0, 0.25]]
R = [[0.06, 0.04], [0.035, 0.055]]
[integrate]
time = 5.0
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs ``macrodyn`` with the distribution installed in a folder of its own."""
    folder = tmp_path_factory.mktemp("ridge-reptile")
    (folder / "ridge_reptile.py").write_text(RULE, encoding="utf-8")
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", folder / "site"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, folder], check=True)

    def macrodyn(*arguments, with_rule=True):
        code = "from solvers.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False,
            env=os.environ | {"PYTHONPATH": str(folder / "site") if with_rule else ""},
        )  # fmt: skip

    return macrodyn


def test_the_command_derives_and_integrates_it(installed):
    page = installed("derive", "study.toml", "--unicode")
    assert page.returncode == 0, page.stderr
    assert "ridge-reptile" in page.stdout
    assert "λ: ridge of the fitted head" in page.stdout
    run = installed("run", "study.toml", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["status"] == "success"
    assert 0 < found["final"]["error"] < 0.2


def test_its_fields_are_checked_as_those_of_a_shipped_rule(installed):
    refused = installed("run", "study.toml", "--json", "--set", "rule.ridge=-1")
    assert refused.returncode == 2
    assert "rule.ridge" in refused.stderr


def test_without_the_distribution_the_name_is_unknown(installed):
    refused = installed("run", "study.toml", "--json", with_rule=False)
    assert refused.returncode == 2
    assert "ridge-reptile" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
