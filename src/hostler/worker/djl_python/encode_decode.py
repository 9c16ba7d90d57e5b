"""Bodies by their content type, as handlers of text models take and give them."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from .inputs import Input
from .outputs import Output

__all__ = ["decode", "decode_csv", "encode", "encode_csv"]

_HEADERS = ("question", "context", "inputs")


def decode_csv(inputs: Input, require_headers: bool = True) -> Any:
    """`{"inputs": ...}` of CSV with a header; without one, an array of numbers.

    Raises: ValueError for a header without known columns, or for what is no number.
    """
    text = inputs.get_as_string()
    if not require_headers:
        numbers = np.genfromtxt(io.StringIO(text), delimiter=",")
        if np.isnan(numbers).any():
            raise ValueError("CSV contains non-numeric data. Please provide numeric data only.")
        return numbers
    first = text.splitlines()[0].lower() if text else ""
    if not any(header in first for header in _HEADERS):
        raise ValueError("the CSV needs a header with one of {}".format(", ".join(_HEADERS)))
    rows = list(csv.DictReader(io.StringIO(text)))
    if rows and "inputs" in rows[0]:
        return {"inputs": [row["inputs"] for row in rows]}
    return {"inputs": rows}


def encode_csv(content: Any) -> str:
    """A list of dicts as CSV with a header."""
    rows = content if isinstance(content, list) else list(content)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def decode(
    inputs: Input, content_type: str | None, key: Any = None, require_csv_headers: bool = True
) -> Any:
    """What a body of this type holds, most often as `{"inputs": ...}`."""
    if not content_type:
        return inputs.get_as_json(key=key) if inputs.get_as_bytes(key=key) else {"inputs": ""}
    if "application/json" in content_type:
        return inputs.get_as_json(key=key)
    if "text/csv" in content_type:
        return decode_csv(inputs, require_headers=require_csv_headers)
    if "text/plain" in content_type:
        return {"inputs": [inputs.get_as_string(key=key)]}
    if content_type.startswith("image/"):
        return {"inputs": inputs.get_as_image(key=key)}
    if "tensor/npz" in content_type:
        return {"inputs": inputs.get_as_npz(key=key)}
    if content_type in ("tensor/ndlist", "application/x-npy"):
        return {"inputs": inputs.get_as_numpy(key=key)}
    if content_type == "application/x-www-form-urlencoded":
        return {"inputs": inputs.get_as_string(key=key)}
    return {"inputs": inputs.get_as_bytes(key=key)}


def encode(outputs: Output, prediction: Any, content_type: str | None, key: Any = None) -> None:
    """Add a prediction in this type to an answer, and say so in its properties."""
    if not content_type or "application/json" in content_type:
        outputs.add_as_json(prediction, key=key)
        outputs.add_property("Content-Type", "application/json")
    elif "text/csv" in content_type:
        outputs.add_as_string(encode_csv(prediction), key=key)
        outputs.add_property("Content-Type", "text/csv")
    elif "tensor/npz" in content_type:
        outputs.add_as_npz(prediction, key=key)
        outputs.add_property("Content-Type", "tensor/npz")
    else:
        outputs.add_as_numpy(prediction, key=key)
        outputs.add_property("Content-Type", "tensor/ndlist")
