"""Every mistake of a user: one line that names the key, exit status 2, nothing written."""

import errno
import re
from copy import deepcopy
from pathlib import Path

import pytest

from solvers import toml
from solvers.cli import execute
from solvers.experiment import Experiment, ExperimentError

BASE = {
    "title": "two units",
    "model": {"hidden": 2, "teacher_hidden": 3},
    "tasks": {"head_mean": 1.0, "head_covariance": 0.5},
    "rule": {"name": "anil", "inner_rate": 1.0, "outer_rate": 0.5},
    "initial": {
        "w": 0.0,
        "Q": [[0.2, 0.0], [0.0, 0.25]],
        "R": [[0.01, 0.0, 0.0], [0.0, 0.02, 0.0]],
    },
    "integrate": {"time": 10.0},
}
ABSENT = object()
SGD = {"rule": {"name": "sgd", "outer_rate": 0.5}, "tasks": {"head_mean": 1.0}}
MAML = {"name": "maml", "inner_rate": 1.0, "outer_rate": 0.5, "support_ratio": 2.0}
BLOCKS = [{"variance": 0.3, "fraction": 0.5}, {"variance": 1.0, "fraction": 0.4}]
NAN, INF = float("nan"), float("inf")

# (changes, what the line must name)
CASES = {
    "unknown table": ({"modell": {}}, "did you mean model?"),
    "unknown key": ({"model.hiden": 2}, "unknown key model.hiden; did you mean model.hidden?"),
    "key of another table": ({"model.time": 2}, "did you mean integrate.time?"),
    "unknown key of the rule": ({"rule.inner_rat": 1.0}, "did you mean rule.inner_rate?"),
    "first half of a key": ({"rule.outer": 1.0}, "did you mean rule.outer_rate?"),
    "unknown key in a nested table": (
        {"initial.random": {"norm": 1.0, "dimension": 9, "sead": 1}},
        "did you mean initial.random.seed?",
    ),
    "unknown key in inputs": (
        {"model.inputs": [{"varianz": 1.0}]},
        "did you mean model.inputs.variance?",
    ),
    "line break in a key": ({"model.a\nb": 2}, "unknown key model.a b"),
    "key the rule does not use": (
        {**SGD, "rule.inner_rate": 1.0},
        "rule.inner_rate is not used by rule 'sgd'",
    ),
    "penalty for anil": ({"rule.representation_rate": 1.0}, "rule.representation_rate is not used"),
    "coefficients of erf": ({"model.coefficients": [1.0]}, "model.coefficients"),
    "missing table": ({"model": ABSENT}, "model is missing"),
    "missing hidden": ({"model.hidden": ABSENT}, "model.hidden is missing"),
    "missing tasks": ({"tasks": ABSENT}, "tasks is missing"),
    "missing head mean": ({"tasks.head_mean": ABSENT}, "tasks.head_mean is missing"),
    "missing rule name": ({"rule.name": ABSENT}, "rule.name is missing"),
    "missing outer rate": ({"rule.outer_rate": ABSENT}, "rule.outer_rate is missing"),
    "missing inner rate": ({"rule.inner_rate": ABSENT}, "rule.inner_rate is missing"),
    "missing w": ({"initial.w": ABSENT}, "initial.w is missing"),
    "missing Q": ({"initial.Q": ABSENT}, "initial.Q is missing"),
    "missing R": ({"initial.R": ABSENT}, "initial.R is missing"),
    "missing time": ({"integrate.time": ABSENT}, "integrate.time is missing"),
    "missing coefficients": ({"model.activation": "polynomial"}, "model.coefficients is missing"),
    "missing dimension": ({"simulate": {"runs": 3}}, "simulate.dimension is missing"),
    "table that is a number": ({"model": 3}, "model must be a table"),
    "table that is a list": ({"tasks": [1.0]}, "tasks must be a table"),
    "title that is a number": ({"title": 3}, "title must be text"),
    "unknown rule": ({"rule.name": "anill"}, "did you mean anil?"),
    "rule in capitals": ({"rule.name": "ANIL"}, "did you mean anil?"),
    "rule name that is a list": ({"rule.name": ["anil"]}, "rule.name"),
    "unknown activation": ({"model.activation": "erff"}, "did you mean 'erf'?"),
    "activation that is a number": ({"model.activation": 3}, "model.activation"),
    "unknown order": ({"rule.order": "second"}, "rule.order must be one of first, exact"),
    "unknown regime": ({"rule.regime": "offline"}, "rule.regime must be one of streaming"),
    "unknown method": ({"integrate.method": "Euler"}, "integrate.method must be one of LSODA"),
    "unknown spacing": ({"integrate.spacing": "lin"}, "integrate.spacing"),
    "unknown backend": ({"integrate.backend": "cuda"}, "integrate.backend"),
    "hidden 0": ({"model.hidden": 0}, "model.hidden must be at least 1"),
    "hidden fractional": ({"model.hidden": 2.5}, "model.hidden must be a whole number"),
    "hidden true": ({"model.hidden": True}, "model.hidden must be a number"),
    "hidden text": ({"model.hidden": "2"}, "model.hidden must be a number"),
    "rate nan": ({"rule.outer_rate": NAN}, "rule.outer_rate must be a finite number"),
    "rate inf": ({"rule.outer_rate": INF}, "rule.outer_rate must be a finite number"),
    "rate negative": ({"rule.outer_rate": -1.0}, "rule.outer_rate must be at least 0"),
    "rate true": ({"rule.inner_rate": True}, "rule.inner_rate must be a number"),
    "rate list": ({"rule.inner_rate": [1.0]}, "rule.inner_rate must be a number, not a list"),
    "rate text inf": ({"rule.inner_rate": "inf"}, "rule.inner_rate must be a number"),
    "support 0": ({"rule.support": 0}, "rule.support must be at least 1"),
    "support fractional": ({"rule.support": 1.5}, "rule.support must be a whole number"),
    "support -inf": ({"rule.support": -INF}, "rule.support must be a finite number or inf"),
    "steps negative": ({"rule.inner_steps": -1}, "rule.inner_steps must be at least 0"),
    "query 0": ({"rule.query": 0}, "rule.query must be at least 1"),
    "maml with both supports": ({"rule": {**MAML, "support": 5}}, "support_ratio"),
    "maml without support": ({"rule": {**MAML, "support_ratio": ABSENT}}, "support_ratio"),
    "maml ratio 0": (
        {"rule": {**MAML, "support_ratio": 0.0}},
        "rule.support_ratio must be above 0",
    ),
    "time 0": ({"integrate.time": 0}, "integrate.time must be above 0"),
    "time inf": ({"integrate.time": INF}, "integrate.time must be a finite number"),
    "time too large": ({"integrate.time": 10**400}, "integrate.time is too large"),
    "population with fractional time": (
        {"rule.regime": "population", "integrate.time": 1.5},
        "integrate.time counts steps",
    ),
    "rtol 0": ({"integrate.rtol": 0.0}, "integrate.rtol must be above 0"),
    "points 1": ({"integrate.points": 1}, "integrate.points must be at least 2"),
    "noise negative": ({"tasks.label_noise": -0.1}, "tasks.label_noise must be at least 0"),
    "noise nan": ({"tasks.label_noise": NAN}, "tasks.label_noise must be a finite number"),
    "T of wrong shape": (
        {"model.teacher_overlap": [[1.0]]},
        "model.teacher_overlap must be a number",
    ),
    "T ragged": ({"model.teacher_overlap": [[1.0], [1.0, 2.0]]}, "rows of unequal length"),
    "T too deep": ({"model.teacher_overlap": [[[[1.0]]]]}, "nested more than three deep"),
    "T not symmetric": (
        {"model.teacher_overlap": [[1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]},
        "model.teacher_overlap is not symmetric",
    ),
    "T not positive": ({"model.teacher_overlap": -1.0}, "model.teacher_overlap is no covariance"),
    "T with text": ({"model.teacher_overlap": [["a"] * 3] * 3}, "model.teacher_overlap must be"),
    "T with nan": ({"model.teacher_overlap": NAN}, "model.teacher_overlap must be a finite"),
    "u0 of wrong length": ({"tasks.head_mean": [1.0, 2.0]}, "tasks.head_mean must be a number"),
    "covariance negative": (
        {"tasks.head_covariance": -1.0},
        "tasks.head_covariance is no covariance",
    ),
    "covariance indefinite": (
        {"tasks.head_covariance": [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]},
        "tasks.head_covariance is no covariance",
    ),
    "heads beside a mean": ({"tasks.heads": [[1.0, 0.0, 0.0]]}, "tasks.heads"),
    "heads of wrong length": ({"tasks": {"heads": [[1.0, 0.0]]}}, "tasks.heads must be"),
    "heads empty": ({"tasks": {"heads": []}}, "tasks.heads"),
    "diverse tasks for sgd": ({**SGD, "tasks.head_covariance": 0.5}, "tasks.head_covariance"),
    "several heads for sgd": (
        {**SGD, "tasks": {"heads": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}},
        "tasks.heads",
    ),
    "fractions": ({"model.inputs": BLOCKS}, "model.inputs: fractions must sum to 1"),
    "variance 0": (
        {"model.inputs": [{"variance": 0.0, "fraction": 1.0}]},
        "model.inputs[0].variance must be above 0",
    ),
    "inputs empty": ({"model.inputs": []}, "model.inputs"),
    "inputs that are numbers": ({"model.inputs": [1.0]}, "model.inputs[0] must be a table"),
    "overlaps without the block axis": (
        {"model.inputs": [{"variance": 0.3, "fraction": 1.0}]},
        "initial.Q must be 1 matrices of 2 × 2",
    ),
    "w of wrong length": ({"initial.w": [1.0, 2.0, 3.0]}, "initial.w must be"),
    "Q of wrong shape": ({"initial.Q": [[0.2]]}, "initial.Q must be a 2 × 2 matrix"),
    "Q not symmetric": ({"initial.Q": [[0.2, 0.1], [0.0, 0.2]]}, "initial.Q is not symmetric"),
    "Q no covariance": ({"initial.Q": [[0.2, 0.3], [0.3, 0.2]]}, "initial.Q is no covariance"),
    "R of wrong shape": (
        {"initial.R": [[0.1, 0.1], [0.1, 0.1]]},
        "initial.R must be a 2 × 3 matrix",
    ),
    "not physical": (
        {"initial.R": [[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]]},
        "initial.Q and initial.R are not physical",
    ),
    "random beside Q": ({"initial.random": {"norm": 1.0, "dimension": 50}}, "initial.random"),
    "dimension below the units": ({"simulate": {"dimension": 4}}, "simulate.dimension"),
    "runs 0": ({"simulate": {"dimension": 50, "runs": 0}}, "simulate.runs must be at least 1"),
    "seed negative": ({"simulate": {"dimension": 50, "seed": -1}}, "simulate.seed must be"),
    "hidden beyond memory": ({"model.hidden": 10**9}, "model.hidden"),
    "hidden beyond any memory": ({"model.hidden": 10**300}, "model.hidden"),
    "points beyond memory": ({"integrate.points": 10**14}, "integrate.points"),
    "simulation beyond memory": (
        {"simulate": {"dimension": 10**9, "runs": 10**4}},
        "simulate.dimension × simulate.runs",
    ),
    "test rate of a rule without inner loop": (
        {**SGD, "evaluate": {}},
        "evaluate.inner_rate is missing",
    ),
    "test support 0": ({"evaluate": {"support": 0}}, "evaluate.support must be at least 1"),
}


def changed(changes: dict) -> dict:
    tables = deepcopy(BASE)
    for key, value in changes.items():
        *path, name = key.split(".", 1)
        place = tables[path[0]] if path else tables
        if value is ABSENT:
            del place[name]
        else:
            place[name] = (
                {k: v for k, v in value.items() if v is not ABSENT}
                if isinstance(value, dict)
                else value
            )
    return tables


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error; asserts that there is nothing else."""
    before = sorted(Path.cwd().rglob("*"))
    status = execute(arguments)
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1), (status, out, err)
    assert "Traceback" not in err
    assert sorted(Path.cwd().rglob("*")) == before
    return err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_base_of_the_cases_is_accepted():
    assert Experiment.from_dict(BASE).layout.size == 11


@pytest.mark.parametrize(("changes", "named"), CASES.values(), ids=CASES)
def test_a_wrong_file_is_refused_in_one_line(changes, named, capsys):
    tables = changed(changes)
    Path("wrong.toml").write_text(toml.write(tables))
    assert named in refused(["run", "wrong.toml"], capsys)


@pytest.mark.parametrize(("changes", "named"), CASES.values(), ids=CASES)
def test_python_refuses_with_the_same_sentence(changes, named):
    with pytest.raises(ExperimentError, match=re.escape(named)) as caught:
        Experiment.from_dict(changed(changes))
    assert "\n" not in str(caught.value)


FILES = {
    "not TOML": b"model = [",
    "binary": bytes(range(256)),
    "zeros": bytes(1000),
    "another encoding": "title = 'Müller'".encode("latin-1"),
    "deeply nested": b"a = " + b"[" * 10_000,
    "a number of 5000 digits": b"a = " + b"1" * 5000,
    "the same key twice": b"title = 'a'\ntitle = 'b'",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_experiment(content, capsys):
    Path("wrong.toml").write_bytes(content)
    assert "wrong.toml" in refused(["run", "wrong.toml"], capsys)


def test_an_empty_file_lacks_its_first_table(capsys):
    Path("empty.toml").touch()
    assert "model is missing" in refused(["run", "empty.toml"], capsys)


def test_absent_files_and_folders(capsys):
    Path("folder.toml").mkdir()
    assert "folder" in refused(["run", "folder.toml"], capsys)
    assert "No such file" in refused(["run", "absent.toml"], capsys)
    assert "did you mean saad-solla?" in refused(["run", "saad-sola"], capsys)
    assert "wrong" in refused(["run", "wrong\nname"], capsys)
    assert refused(["run", "name\0with zero.toml"], capsys)


def test_an_unreadable_file(capsys, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    Path("closed.toml").write_text(toml.write(BASE))
    monkeypatch.setattr(toml, "open", denied, raising=False)
    assert "closed.toml: Permission denied" in refused(["run", "closed.toml"], capsys)


OVERRIDES = {
    "rule.inner_rat=1": "did you mean rule.inner_rate?",
    "inner_rate=1": "did you mean rule.inner_rate?",
    "rule.inner_rate": "key=value",
    "=1": "key=value",
    "rule.inner_rate=": "key=value",
    "rule.inner_rate=1e": "not a TOML value",
    "rule.inner_rate=[1,": "not a TOML value",
    "rule.inner_rate=abc": "rule.inner_rate must be a number",
    "rule.inner_rate=1\nother=2": "not a TOML value",
    "rule..inner_rate=1": "is not a key",
    "title.x=1": "title",
    "rule.name=sgd": "is not used by rule 'sgd'",
    "nothing=1": "unknown key nothing",
}


@pytest.mark.parametrize(("override", "named"), OVERRIDES.items())
def test_a_wrong_override(override, named, capsys):
    Path("right.toml").write_text(toml.write(BASE))
    assert named in refused(["run", "right.toml", "--set", override], capsys)


COMMANDS = {
    "an unknown command": ["runn", "saad-solla"],
    "an unknown option": ["run", "saad-solla", "--fast"],
    "no file": ["run"],
    "too many files": ["run", "saad-solla", "saad-solla"],
    "an option without its value": ["run", "saad-solla", "--out"],
    "a file as folder": ["run", "saad-solla", "--out", "file/inside"],
    "an absent result": ["plot", "absent.nc"],
    "a folder as result": ["plot", "."],
    "no result": ["plot", "file"],
    "simulate without a dimension": ["simulate", "saad-solla"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_command_line(arguments, capsys):
    Path("file").write_text("text")
    assert refused(arguments, capsys).startswith("macrodyn: ")
