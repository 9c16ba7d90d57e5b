"""Boosters of XGBoost.

Source: algorithm_mode/serve_utils.py and serve.py of sagemaker-xgboost-container for models without
a script, encoder.py and handler_service.py for those with one.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import pickle
from typing import Any

import numpy as np
import xgboost

from .. import handler_codec as codec
from ..errors import Failure
from ..task import Task
from . import model_files, no_default

__all__ = ["XGBoostToolkit", "matrix_of", "new_toolkit"]

LIBSVM = ("text/libsvm", "text/x-libsvm")
JSON_LINES = "application/jsonlines"
KNOWN = (codec.CSV, *LIBSVM, codec.JSON, codec.NPY, codec.NPZ)
VOTING = ("multi:softmax", "binary:hinge")
"""Objectives whose predictions are classes, of which no mean can be taken."""


def new_toolkit(task: Task) -> XGBoostToolkit:
    """The defaults for XGBoost."""
    return XGBoostToolkit(task)


class Ensemble:
    """Several boosters that answer together: their mean, or the class that most of them name."""

    def __init__(self, boosters: list[Any]) -> None:
        self.boosters = boosters
        config = json.loads(boosters[0].save_config())
        self._votes = config["learner"]["objective"]["name"] in VOTING

    def predict(self, data: Any, **settings: Any) -> Any:
        """As `Booster.predict`."""
        said = np.stack([_predict(booster, data, **settings) for booster in self.boosters])
        if not self._votes:
            return said.mean(axis=0)
        classes, places = np.unique(said, return_inverse=True)
        counts = [
            (places.reshape(said.shape) == index).sum(axis=0) for index in range(len(classes))
        ]
        return classes[np.argmax(np.stack(counts), axis=0)]


class XGBoostToolkit:
    """A booster and its `predict`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        # The built-in algorithm answers in CSV, a script's toolkit in JSON.
        self._algorithm = not task.options.get("script")
        self.accept = codec.CSV if self._algorithm else codec.JSON

    def model_fn(self, model_dir: str) -> Any:
        """All model files as one."""
        files = model_files(self._task)
        if not files:
            raise no_default(self._task, "XGBoost", "xgboost-model*")
        if os.environ.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true") != "true":
            files = files[:1]
        boosters = [self._load(os.path.join(model_dir, name)) for name in files]
        return boosters[0] if len(boosters) == 1 else Ensemble(boosters)

    def input_fn(self, body: str | bytes, content_type: str) -> Any:
        """A DMatrix; absent values of LIBSVM and empty fields of CSV are missing ones."""
        return matrix_of(body, content_type)

    def predict_fn(self, data: Any, model: Any) -> Any:
        """What the booster predicts."""
        try:
            return _predict(model, data, validate_features=False)
        except (ValueError, xgboost.core.XGBoostError) as error:
            text = "the body cannot be evaluated: {}".format(error).strip().splitlines()[0]
            raise Failure("MODEL_ERROR", text, 400) from error

    def output_fn(self, prediction: Any, accept: str) -> Any:
        """The built-in algorithm's JSON has an object for each row."""
        if self._algorithm:
            scores = [{"score": score} for score in np.asarray(prediction).tolist()]
            for kind in codec.accepted(accept):
                if kind == codec.JSON:
                    return json.dumps({"predictions": scores}).encode(), kind
                if kind == JSON_LINES:
                    return "".join(json.dumps(score) + "\n" for score in scores).encode(), kind
                if kind in codec.WRITERS:
                    break
        return codec.encode(prediction, accept)

    def _load(self, path: str) -> Any:
        """A booster, be it in a format of XGBoost's or pickled."""
        with open(path, "rb") as file:
            content = file.read()
        if content[:1] == b"\x80":
            booster = pickle.loads(content)  # noqa: S301 - the archive may bring any code anyway
            booster = booster.get_booster() if hasattr(booster, "get_booster") else booster
        else:
            booster = xgboost.Booster()
            # From memory, since the format is told by the content then and not by the name.
            booster.load_model(bytearray(content))
        booster.set_param({"nthread": self._task.threads})
        return booster


def matrix_of(body: str | bytes, content_type: str) -> Any:
    """A DMatrix of a body; without a content type it is LIBSVM. Raises: Failure of 415 or 400."""
    kind = codec.media_type(content_type) or LIBSVM[0]
    if kind in LIBSVM:
        return _libsvm(codec.as_text(body))
    if kind not in KNOWN:
        raise codec.unsupported(content_type, KNOWN)
    data = codec.decode(_with_commas(body) if kind == codec.CSV else body, kind)
    try:
        return xgboost.DMatrix(data)
    except (TypeError, ValueError) as error:
        raise codec.malformed("matrix of numbers", error) from error


def _predict(model: Any, data: Any, **settings: Any) -> Any:
    """With the rounds up to the best one, where training stopped early."""
    if not isinstance(model, xgboost.Booster):
        return model.predict(data, **settings)
    best = model.attr("best_iteration")
    if best is not None:
        settings["iteration_range"] = (0, int(best) + 1)
    return model.predict(data, **settings)


def _with_commas(body: str | bytes) -> str:
    """CSV whose fields may be separated by something else, as the first line tells."""
    text = codec.as_text(body).strip()
    try:
        delimiter = csv.Sniffer().sniff(text.partition("\n")[0][:512]).delimiter
    except csv.Error:
        return text
    if delimiter == "," or delimiter.isalnum() or delimiter in ".-+":
        return text
    return text.replace(delimiter, ",")


def _libsvm(text: str) -> Any:
    """`label index:value ...` lines as a sparse matrix; indices may count from 0 or from 1."""
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    lines = text.strip().splitlines()
    try:
        for row, line in enumerate(lines):
            for word in line.split():
                index, colon, value = word.partition(":")
                if colon:
                    rows.append(row)
                    columns.append(int(index))
                    values.append(float(value))
    except ValueError as error:
        raise codec.malformed(LIBSVM[0], error) from error
    if not columns or min(columns) < 0:
        raise codec.malformed(LIBSVM[0], "no line has a feature such as 3:0.5")
    sparse = importlib.import_module("scipy.sparse")  # which XGBoost brings
    try:
        places = np.array(columns, np.int64) - min(1, *columns)
        shape = (len(lines), int(places.max()) + 1)
        return xgboost.DMatrix(sparse.csr_matrix((values, (rows, places)), shape=shape))
    except (ValueError, OverflowError) as error:  # too large an index, an infinite value
        raise codec.malformed(LIBSVM[0], error) from error
