"""Variables of a model's container that would have changed how this process itself started."""

from __future__ import annotations

import os
import sys

__all__ = ["set_variables"]


def set_variables(variables: dict[str, str]) -> None:
    """Set them now that our own modules are there: for user code and for what it starts.

    PYTHONPATH counts for this process, too: its folders come first on `sys.path`.
    """
    os.environ.update(variables)
    folders = [folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
