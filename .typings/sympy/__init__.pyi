"""sympy types its expressions by their operations at run time: to a type checker all is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
