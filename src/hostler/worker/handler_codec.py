"""Bodies of requests and answers <-> arrays, for handlers that leave that to the toolkit.

Source: decoder.py and encoder.py of sagemaker-inference-toolkit. Unlike there, CSV always gives
rows and columns, and arrays of pickled objects are not read.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from typing import Any

import numpy as np

from .errors import Failure

__all__ = [
    "ANY",
    "CSV",
    "JSON",
    "NPY",
    "NPZ",
    "TEXTS",
    "accepted",
    "decode",
    "encode",
    "media_type",
]

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
ANY = "*/*"
TEXTS = frozenset((JSON, CSV))
"""Handlers get bodies of these as `str`, all others as `bytes`."""
ENCODED = (JSON, CSV, NPY)


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def accepted(accept: str) -> list[str]:
    """The media types that a caller takes, in the order of its header."""
    return [kind for kind in map(media_type, accept.split(",")) if kind]


def unsupported(content_type: str, known: tuple[str, ...]) -> Failure:
    """Status 415."""
    text = "content type '{}' is not supported; send {}, or bring an input_fn".format(
        content_type, ", ".join(known)
    )
    return Failure("MODEL_ERROR", text, 415)


def unacceptable(accept: str, known: tuple[str, ...]) -> Failure:
    """Status 406."""
    text = "accept '{}' is not supported; ask for {}, or bring an output_fn".format(
        accept, ", ".join(known)
    )
    return Failure("MODEL_ERROR", text, 406)


def malformed(content_type: str, error: object) -> Failure:
    """Status 400."""
    return Failure("MODEL_ERROR", "the body is no {}: {}".format(content_type, error), 400)


def decode(body: str | bytes, content_type: str) -> Any:
    """An array (a sparse matrix for NPZ). Raises: Failure of status 415 or 400."""
    kind = media_type(content_type)
    reader = READERS.get(kind)
    if reader is None:
        raise unsupported(content_type, tuple(READERS))
    try:
        return reader(body)
    except (ValueError, EOFError, OSError, KeyError, OverflowError, RecursionError) as error:
        raise malformed(kind, error) from error
    except ImportError as error:
        raise Failure("MODEL_ERROR", "{} needs scipy: {}".format(kind, error), 415) from error


def encode(prediction: Any, accept: str) -> tuple[bytes, str]:
    """The body and its content type: the first of those accepted that can be written.

    Raises: Failure of status 406.
    """
    for kind in accepted(accept):
        writer = WRITERS.get(kind)
        if writer is not None:
            return writer(prediction), kind
    raise unacceptable(accept, ENCODED)


def as_text(body: str | bytes) -> str:
    """A body that is text, a byte order mark aside."""
    return body if isinstance(body, str) else bytes(body).decode("utf-8-sig")


def as_bytes(body: str | bytes) -> bytes:
    """A body that is bytes."""
    return body.encode() if isinstance(body, str) else bytes(body)


def _from_json(body: str | bytes) -> Any:
    return np.array(json.loads(as_text(body)))


def _from_csv(body: str | bytes) -> Any:
    """`[rows, columns]`: float64 with NaN for empty fields, or objects where a field is a word."""
    text = as_text(body).strip("\r\n")
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return np.loadtxt(io.StringIO(text), delimiter=",", comments=None, ndmin=2)
    except ValueError:
        pass  # an empty field, a word, or rows of different length
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if len({len(row) for row in rows}) != 1:
        raise ValueError("its rows have different numbers of fields")
    try:
        return np.array([[float(field.strip() or "nan") for field in row] for row in rows])
    except ValueError:
        return np.array([[_number(field.strip()) for field in row] for row in rows], dtype=object)


def _number(field: str) -> Any:
    try:
        return float(field or "nan")
    except ValueError:
        return field


def _from_npy(body: str | bytes) -> Any:
    return np.load(io.BytesIO(as_bytes(body)), allow_pickle=False)


def _from_npz(body: str | bytes) -> Any:
    return importlib.import_module("scipy.sparse").load_npz(io.BytesIO(as_bytes(body)))


def _plain(value: Any) -> Any:
    """What JSON can hold of an array, a number of numpy or a frame."""
    for name in ("tolist", "to_dict"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError("{} cannot be written as JSON".format(type(value).__name__))


def _to_json(prediction: Any) -> bytes:
    return json.dumps(prediction, default=_plain).encode()


def _to_csv(prediction: Any) -> bytes:
    stream = io.StringIO()
    np.savetxt(stream, np.atleast_1d(np.asarray(prediction)), delimiter=",", fmt="%s")
    return stream.getvalue().encode()


def _to_npy(prediction: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(prediction), allow_pickle=False)
    return stream.getvalue()


READERS = {JSON: _from_json, CSV: _from_csv, NPY: _from_npy, NPZ: _from_npz}
WRITERS = {JSON: _to_json, CSV: _to_csv, NPY: _to_npy}
