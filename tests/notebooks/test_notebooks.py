"""Every notebook runs from the top, and what it keeps is what a reader needs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK = ("01", "02", "03")
"""Notebooks below a minute; the others are slow."""
MINUTES = 30


def marked(path):
    marks = () if path.stem[:2] in QUICK else (pytest.mark.slow,)
    return pytest.param(path, id=path.stem, marks=marks)


def pictures(notebook):
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    return sum("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("path", [marked(path) for path in NOTEBOOKS])
def test_it_runs_from_the_top(path):
    """As many figures as are kept, no warning, no error."""
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=60 * MINUTES, resources={"metadata": {"path": str(FOLDER)}}
    )
    expected = pictures(kept)
    client.execute()
    assert pictures(notebook) == expected
    for cell in notebook.cells:
        assert not [o for o in cell.get("outputs", ()) if o.get("name") == "stderr"], cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_keeps(path):
    """Figures among the outputs, text beside the code, and no path of any machine."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "executed from the top"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(notebook) >= 2
    assert len(notebook.cells) - len(code) >= len(code) / 3
    shown = str([cell.get("outputs") for cell in code])
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/|site-packages", shown)


def test_the_main_stories_are_told():
    assert {path.stem[:2] for path in NOTEBOOKS} >= set(QUICK)
