"""What each of SageMaker's framework containers does where a script leaves it out."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from ..errors import Failure
from ..task import Task

__all__ = ["Toolkit", "toolkit_for"]

MODULES = {"pytorch": ".pytorch", "sklearn": ".sklearn", "xgboost": ".xgboost"}


class Toolkit(Protocol):
    """The default functions of one framework.

    `accept`: the media type of answers to whoever names none.
    """

    accept: str

    def model_fn(self, model_dir: str) -> Any:
        """The model."""

    def input_fn(self, body: str | bytes, content_type: str) -> Any:
        """What the model takes. Raises: Failure of status 415 or 400."""

    def predict_fn(self, data: Any, model: Any) -> Any:
        """What it says."""

    def output_fn(self, prediction: Any, accept: str) -> Any:
        """Body and content type. Raises: Failure of status 406."""


def toolkit_for(task: Task) -> Toolkit:
    """The one that the task's options name, its framework imported."""
    name = task.options["toolkit"]
    try:
        module = importlib.import_module(MODULES[name], __package__)
    except ImportError as error:
        raise Failure(
            "UNIMPLEMENTED",
            "model '{}' needs the framework of {}: {}; install it beside the server, or list it in "
            "the archive's code/requirements.txt".format(task.model, name, error),
        ) from error
    toolkit: Toolkit = module.new_toolkit(task)
    return toolkit


def model_files(task: Task) -> list[str]:
    """The files at the archive's top that may be its model, relative to it."""
    return [name for name in task.options.get("models", "").split("\n") if name]


def no_default(task: Task, name: str, looked_for: str) -> Failure:
    """A model that only the script's own model_fn can load."""
    return Failure(
        "MODEL_ERROR",
        "model '{}': its script has no model_fn, and the archive no file that is loaded without "
        "one as {}: {}".format(task.model, name, looked_for),
    )
