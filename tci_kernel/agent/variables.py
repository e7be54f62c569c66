"""Moves the variables of a session into the child."""

from __future__ import annotations

import importlib
import io
import pickle
from types import FunctionType, ModuleType
from typing import Any

try:
    # Takes modules, and functions and classes of the session's own cells, along.
    from cloudpickle import Pickler
except ImportError:

    class Pickler(pickle.Pickler):  # type: ignore[no-redef]
        """Pickles modules by name, and nothing of which the child lacks the definition."""

        def reducer_override(self, value: Any) -> Any:
            """Return how a module is found again; raises PicklingError for a cell's own code."""
            if isinstance(value, ModuleType):
                return importlib.import_module, (value.__name__,)
            if isinstance(value, (type, FunctionType)) and value.__module__ == "__main__":
                raise pickle.PicklingError(f"{value.__qualname__} is pickled by cloudpickle only")
            return NotImplemented


def save_variables(variables: dict[str, Any], path: str) -> tuple[list[str], dict[str, str]]:
    """Pickle variables into a file; return the names that could be, and why others could not.

    They are pickled together, so that what they share stays shared, and each alone, in case that
    one of them cannot be read.
    """
    alone, failed = {}, {}
    for name, value in variables.items():
        try:
            alone[name] = _dumps(value)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    together = _dumps({name: variables[name] for name in alone})
    with open(path, "wb") as file:
        pickle.dump((together, alone), file)
    return list(alone), failed


def _dumps(value: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()
