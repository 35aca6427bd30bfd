"""``macrodyn derive``: the equations of a rule, printed."""

from __future__ import annotations

from solvers.cli import common


def derive() -> None:
    """Print the equations."""
    common.echo("")
