"""``macrodyn presets``: the shipped experiments."""

from __future__ import annotations

from solvers import experiment
from solvers.cli import common


def presets(json: common.Json = False) -> None:
    """List the shipped experiments."""
    titles = {name: experiment.Experiment.load(name).title for name in experiment.presets()}
    if json:
        common.show_json({"presets": [{"name": n, "title": t} for n, t in titles.items()]})
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        common.echo(f"{name:{width}}  {title}")
