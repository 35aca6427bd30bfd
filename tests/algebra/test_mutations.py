"""That the fast tests notice a wrong constant or index in any derivation."""

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_mutation_is_caught():
    path = Path(__file__).with_name("mutations.py")
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.MUTATIONS) >= 20
    assert [description for description, survived in module.survivors() if survived] == []
