"""Source: serving.py of sagemaker-scikit-learn-container.

Unlike there, a model file is loaded without a script, too.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from .. import handler_codec as codec
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
        return joblib.load(os.path.join(model_dir, files[0]))

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
