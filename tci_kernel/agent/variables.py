"""Moves the variables of a session into the child."""

from __future__ import annotations

import pickle
from typing import Any


def save_variables(variables: dict[str, Any], path: str) -> tuple[list[str], dict[str, str]]:
    """Pickle variables into a file; return the names that could be, and why others could not.

    They are pickled together, so that what they share stays shared, and each alone, in case that
    one of them cannot be read.
    """
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    alone, failed = {}, {}
    for name, value in variables.items():
        try:
            alone[name] = dumps(value)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    together = dumps({name: variables[name] for name in alone})
    with open(path, "wb") as file:
        pickle.dump((together, alone), file)
    return list(alone), failed
