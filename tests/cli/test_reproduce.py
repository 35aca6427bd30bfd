"""``macrodyn reproduce``: rows, verdicts, exit status."""

import json
from pathlib import Path

import pytest

from solvers import reproduce as package
from solvers.cli import execute
from solvers.reproduce import PAPERS, Relation, Row, reproduce

GOOD = Row("collins", "a number", 2.0, 2.01, 0.01)
BAD = Row("collins", "another | number", 1.0, float("nan"), 0.5)


@pytest.fixture
def papers(monkeypatch):
    def install(*rows):
        monkeypatch.setattr(package, "statements", lambda name: (lambda: list(rows),))

    return install


@pytest.mark.parametrize(
    ("relation", "found", "passed"),
    [
        (Relation.equal, 2.02, True), (Relation.equal, 2.021, False),
        (Relation.equal, float("nan"), False), (Relation.below, 1.0, True),
        (Relation.below, 2.02, False), (Relation.above, 3.0, True), (Relation.above, 1.9, False),
    ],
)  # fmt: skip
def test_relations(relation, found, passed):
    assert Row("p", "s", 2.0, found, 0.0100001, relation).passed is passed


def test_an_absolute_tolerance_about_zero():
    assert Row("p", "s", 0.0, 1e-11, 1e-10).passed
    assert not Row("p", "s", 0.0, 1e-9, 1e-10).passed


def test_rows_that_pass(papers, capsys):
    papers(GOOD)
    assert execute(["reproduce", "collins"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pass  collins")
    assert out.endswith("1 of 1 rows pass\n")


def test_a_failure_has_status_3(papers, capsys):
    papers(GOOD, BAD)
    assert execute(["reproduce", "collins"]) == 3
    captured = capsys.readouterr()
    assert "FAIL  collins" in captured.out
    assert captured.err == "macrodyn: 1 of 2 rows fail\n"


def test_json_is_one_object(papers, capsys):
    papers(GOOD, BAD)
    assert execute(["reproduce", "collins", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["failed"] == 1
    assert report["rows"][0]["found"] == 2.01
    assert report["rows"][1]["found"] is None


def test_markdown_is_a_table(papers, capsys):
    papers(GOOD, BAD)
    execute(["reproduce", "collins", "--markdown"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "another \\| number" in lines[3]


@pytest.mark.parametrize(
    "arguments", [[], ["nobody"], ["collins", "--all"], ["collins", "--json", "--markdown"]]
)
def test_users_errors(arguments, capsys):
    assert execute(["reproduce", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_every_row_passes(name):
    """And the README shows them as they are expected."""
    rows = list(reproduce(name))
    assert rows
    assert [row.statement for row in rows if not row.passed] == []
    shown = (Path(__file__).parents[2] / "README.md").read_text().replace("\\|", "|")
    for row in rows:
        assert f"| {row.statement} |" in shown
        assert f"{row.expected:.6g} |" in shown
