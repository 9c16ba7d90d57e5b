"""TensorFlow Serving's REST bodies <-> tensors of a SavedModel's signatures.

Source: TF Serving api_rest.md "Predict API", `util/json_tensor.cc`.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from typing import Any, Iterable, Mapping

import numpy as np

from .payloads import media_type

__all__ = [
    "JSON",
    "LINES",
    "BadRequest",
    "Predictor",
    "columns_of",
    "from_outputs",
    "numbers_of",
    "texts_of",
    "to_document",
    "to_predict_body",
]

JSON = "application/json"
LINES = "application/jsonlines"
LINE_TYPES = frozenset((LINES, "application/x-jsonlines", "application/jsonl"))
DEFAULT_SIGNATURE = "serving_default"
NAMES_SHOWN_MAX = 10


class BadRequest(Exception):
    """What is wrong with a request; `status` of the answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def to_predict_body(body: bytes, content_type: str) -> bytes | dict[str, Any]:
    """A request of SageMaker's container as the body of a predict call.

    JSON passes through, an array of rows is wrapped; lines of JSON or CSV become instances.
    Raises: BadRequest of status 415 or 400.
    """
    kind = media_type(content_type) or JSON
    if kind == JSON:
        return body
    if kind not in LINE_TYPES and kind != "text/csv":
        raise BadRequest(
            "content type '{}' is not supported; send {}, {} or text/csv".format(
                content_type[:128], JSON, LINES
            ),
            415,
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the body is not UTF-8: {}".format(error)) from error
    if kind == "text/csv":
        rows: Any = csv.reader(io.StringIO(text))
        try:
            return {"instances": [[_cell(cell) for cell in row] for row in rows if row]}
        except csv.Error as error:
            raise BadRequest("the body is no CSV: {}".format(error)) from error
    return {"instances": [_parsed(line) for line in text.splitlines() if line.strip()]}


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("JSON Parse error: {}".format(error)) from error


def to_document(body: str | bytes | dict[str, Any]) -> dict[str, Any]:
    """The body of a predict call, of rows or of columns. Raises: BadRequest."""
    document = body if isinstance(body, dict) else _parsed(body)
    if isinstance(document, list):
        document = {"instances": document}
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object with 'instances' or 'inputs'")
    if ("instances" in document) == ("inputs" in document):
        raise BadRequest("the body must have either 'instances' or 'inputs'")
    return document


def columns_of(document: dict[str, Any], specs: Mapping[str, Any]) -> dict[str, Any]:
    """The values for each input; `specs`: by their names. Raises: BadRequest."""
    if "instances" in document:
        return _columns(document["instances"], specs)
    return _named(document["inputs"], specs)


def from_outputs(document: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """The answer to this call, ready for JSON. Raises: BadRequest where there are no rows."""
    return _by_row(outputs) if "instances" in document else _by_column(outputs)


class Predictor:
    """The signatures of a loaded SavedModel. `names`: theirs."""

    def __init__(self, tensorflow: Any, model: Any) -> None:
        self._tensorflow = tensorflow
        # The functions know their model only weakly.
        self._model = model
        self._signatures = dict(model.signatures)
        self.names = list(self._signatures)

    def predict(self, body: bytes | dict[str, Any]) -> dict[str, Any]:
        """The answer to a predict call, ready for JSON.

        Raises: BadRequest; whatever TensorFlow raises.
        """
        document = to_document(body)
        signature = self._signature(document.get("signature_name"))
        specs = signature.structured_input_signature[1]
        columns = columns_of(document, specs)
        feeds = {name: self._tensor(name, specs[name], value) for name, value in columns.items()}
        errors = self._tensorflow.errors
        try:
            outputs = {name: value.numpy() for name, value in signature(**feeds).items()}
        except (errors.InvalidArgumentError, ValueError) as error:
            raise BadRequest(str(error)) from error
        return from_outputs(document, outputs)

    def _signature(self, name: Any) -> Any:
        wanted = name or (DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in self.names else self.names[0])
        found = self._signatures.get(wanted) if isinstance(wanted, str) else None
        if found is None:
            raise BadRequest(
                'Serving signature name: "{}" not found in signature def; there are {}'.format(
                    wanted, _listed(self.names)
                ),
                404,
            )
        return found

    def _tensor(self, name: str, spec: Any, value: Any) -> Any:
        text = spec.dtype == self._tensorflow.string
        try:
            if text:
                array: Any = texts_of(value)
            else:
                kinds = "b" if spec.dtype.is_bool else "iu" if spec.dtype.is_integer else "iuf"
                array = numbers_of(value, kinds, spec.dtype.as_numpy_dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadRequest(
                "input '{}' takes {} of shape {}: {}".format(
                    name, spec.dtype.name, spec.shape, error
                )
            ) from error
        if not spec.shape.is_compatible_with(array.shape):
            raise BadRequest(
                "input '{}' takes the shape {}, got {}".format(name, spec.shape, list(array.shape))
            )
        return self._tensorflow.constant(array, dtype=spec.dtype)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)[:NAMES_SHOWN_MAX]
    return ", ".join("'{}'".format(name) for name in shown) or "none"


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _columns(rows: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
    """Rows as columns: values of the only input, or objects that name the inputs."""
    if not isinstance(rows, list) or not rows:
        raise BadRequest("'instances' must be a list of at least one row")
    first = rows[0]
    if not isinstance(first, dict) or (_is_bytes(first) and "b64" not in specs):
        return _only(rows, specs)
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != first.keys():
            raise BadRequest("row {} does not name the same inputs as row 0".format(index))
    return _known({name: [row[name] for row in rows] for name in first}, specs)


def _named(value: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, dict) and not (_is_bytes(value) and "b64" not in specs):
        return _known(value, specs)
    return _only(value, specs)


def _only(value: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
    if len(specs) != 1:
        raise BadRequest(
            "the signature has {} inputs, {}; name them".format(len(specs), _listed(specs))
        )
    return {next(iter(specs)): value}


def _known(columns: dict[str, Any], specs: Mapping[str, Any]) -> dict[str, Any]:
    if columns.keys() != specs.keys():
        raise BadRequest("the signature takes {}, got {}".format(_listed(specs), _listed(columns)))
    return columns


def numbers_of(value: Any, kinds: str, dtype: Any) -> Any:
    """Values of JSON as an array, if their kind fits: numpy would cut fractions and read text.

    Raises: TypeError, ValueError, OverflowError.
    """
    if np.asarray(value).dtype.kind not in kinds and np.size(value):
        raise TypeError("values of another kind, or rows of uneven length")
    return np.array(value, dtype=dtype)


def texts_of(value: Any) -> Any:
    """Text of JSON, or objects of b64, as an array of bytes. Raises: TypeError, ValueError."""
    return np.array(_decoded(value), dtype=object)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if _is_bytes(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise ValueError("a value of b64 that is not base64") from error
    if not isinstance(value, str):
        raise TypeError("a value that is neither text nor an object of b64")
    return value.encode("utf-8")


def _plain(name: str, array: Any) -> Any:
    """An array for JSON; bytes of outputs called `..._bytes`, and such as are no text, as b64."""
    values = np.asarray(array)
    if values.dtype.kind not in "OS":
        return values.tolist()
    return _encoded(values.tolist(), name.endswith("_bytes"))


def _encoded(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_encoded(item, binary) for item in value]
    if not isinstance(value, bytes):
        return value
    if not binary:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}


def _by_row(outputs: dict[str, Any]) -> dict[str, Any]:
    sizes = {array.shape[:1] for array in outputs.values()}
    if len(sizes) != 1 or sizes == {()}:
        raise BadRequest(
            "the outputs have no common number of rows; ask with 'inputs', which is answered by "
            "columns"
        )
    plain = {name: _plain(name, array) for name, array in outputs.items()}
    if len(plain) == 1:
        return {"predictions": next(iter(plain.values()))}
    names = list(plain)
    rows = zip(*plain.values())  # noqa: B905 - Python 3.8
    return {"predictions": [dict(zip(names, row)) for row in rows]}  # noqa: B905


def _by_column(outputs: dict[str, Any]) -> dict[str, Any]:
    plain = {name: _plain(name, array) for name, array in outputs.items()}
    return {"outputs": next(iter(plain.values())) if len(plain) == 1 else plain}
