"""What scipy's optimisers return depends on the values of their flags: to a type checker, Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
