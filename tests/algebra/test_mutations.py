"""That the fast tests notice a wrong constant or index in any derivation."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def mutations():
    path = Path(__file__).with_name("mutations.py")
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mutation_changes_a_text_that_is_there(mutations):
    assert len(mutations.MUTATIONS) >= 20
    sources = {name: (mutations.ROOT / name).read_text("utf-8") for name, *_ in mutations.MUTATIONS}
    assert not [text for name, text, *_ in mutations.MUTATIONS if text not in sources[name]]


@pytest.mark.slow
def test_every_mutation_is_caught(mutations):
    assert [description for description, survived in mutations.survivors() if survived] == []
