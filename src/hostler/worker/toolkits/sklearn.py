"""Source: serving.py of sagemaker-scikit-learn-container.

Unlike there, a model file is loaded without a script, too.
"""

from __future__ import annotations

import importlib
import os
import traceback
from typing import Any

from .. import handler_codec as codec
from ..errors import Failure
from ..task import Task
from . import model_files, no_default

__all__ = ["SklearnToolkit", "new_toolkit"]

joblib: Any = importlib.import_module("joblib")


def new_toolkit(task: Task) -> SklearnToolkit:
    """The defaults for scikit-learn."""
    return SklearnToolkit(task)


class SklearnToolkit:
    """A pickled estimator and its `predict`."""

    accept = codec.JSON

    def __init__(self, task: Task) -> None:
        self._task = task

    def model_fn(self, model_dir: str) -> Any:
        """The only pickled estimator; joblib reads plain pickles as well."""
        files = model_files(self._task)
        if len(files) != 1:
            looked_for = "one of model.joblib, model.pkl, *.joblib, *.pkl"
            raise no_default(self._task, "scikit-learn", looked_for)
        try:
            return joblib.load(os.path.join(model_dir, files[0]))
        except MemoryError:
            raise
        except Exception as error:  # whatever the bytes make the unpickler do
            traceback.print_exc()  # to the log
            raise self._unreadable(files[0], error) from error

    def _unreadable(self, name: str, error: Exception) -> Failure:
        text = "{}: {}".format(type(error).__name__, error).strip(": ")[:300]
        advice = "write it with these versions, or list its own in code/requirements.txt"
        if isinstance(error, ModuleNotFoundError):
            advice = "add that module to code/requirements.txt"
        return Failure(
            "MODEL_ERROR",
            "model '{}': {} cannot be unpickled ({}) with scikit-learn {}, joblib {} and numpy {}; "
            "it is damaged, or was written by other versions: {}".format(
                self._task.model,
                name,
                text,
                _version("sklearn"),
                joblib.__version__,
                _version("numpy"),
                advice,
            ),
        )

    def input_fn(self, body: str | bytes, content_type: str) -> Any:
        """An array; float32 where it was text of numbers."""
        array = codec.decode(body, content_type)
        text = codec.media_type(content_type) in codec.TEXTS
        return array.astype("float32") if text and array.dtype.kind in "biuf" else array

    def predict_fn(self, data: Any, model: Any) -> Any:
        """What the estimator predicts."""
        return model.predict(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        """The predictions, as they are."""
        return codec.encode(prediction, accept)


def _version(module: str) -> str:
    """As the module itself says; joblib may be there without it."""
    try:
        return str(importlib.import_module(module).__version__)
    except Exception:  # noqa: BLE001 - a broken one is told of here, not raised again
        return "(not installed)"
