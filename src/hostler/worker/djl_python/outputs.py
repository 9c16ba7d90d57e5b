"""What a handler answers."""

from __future__ import annotations

import datetime
import io
import json
from typing import Any, Callable

import numpy as np

from .np_util import to_nd_list
from .pair_list import PairList

__all__ = ["Output"]

FAILED = 424


class _Encoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        if isinstance(o, datetime.datetime):
            return str(o)
        if isinstance(o, np.integer):
            return int(o)
        if isinstance(o, np.floating):
            return float(o)
        if isinstance(o, np.bool_):
            return bool(o)
        if isinstance(o, np.ndarray):
            return o.tolist()
        return super().default(o)


def _line_of(token_texts: Any) -> bytearray:
    """A piece of a stream as a line of JSON, for whoever names no formatter."""
    return bytearray((json.dumps({"outputs": token_texts}) + "\n").encode("utf-8"))


class Output:
    """A status with its message, properties (headers), and content by keys or as a stream."""

    def __init__(self, code: int = 200, message: str = "OK") -> None:
        self.code = code
        self.message = message
        self.properties: dict[str, Any] = {}
        self.content = PairList()
        self.stream_content: Any = None
        self.finalize_function: Callable[..., Any] | None = None
        self.finalize_args: tuple[Any, ...] = ()
        self.stream_output_formatter: Callable[[Any], Any] | None = None

    def __str__(self) -> str:
        pairs = zip(self.content.get_keys(), self.content.get_values())  # noqa: B905
        content = {str(key): "type: {}".format(type(value)) for key, value in pairs}
        told = {"code": self.code, "message": self.message, "properties": self.properties}
        return json.dumps({**told, "content": content}, indent=2, default=str)

    def set_code(self, code: int) -> Output:
        """The status; from 300 on it is an error."""
        self.code = code
        return self

    def set_message(self, message: str) -> Output:
        """The reason."""
        self.message = message
        return self

    def error(
        self, error: str, code: int = FAILED, message: str = "invoke handler failure"
    ) -> Output:
        """Make this the answer of a failure."""
        self.code = code
        self.message = message
        self.add_property("content-type", "application/json")
        return self.add_as_json({"code": code, "message": message, "error": error})

    def add_property(self, key: str, val: Any) -> Output:
        """A header, of which the content type and SageMaker's custom attributes are passed on."""
        self.properties[key] = val
        return self

    def get_properties(self) -> dict[str, Any]:
        """All properties."""
        return self.properties

    def get_property(self, key: str) -> Any:
        """The property of exactly this name, or None."""
        return self.properties.get(key)

    def add(self, value: Any, key: Any = None, batch_index: int | None = None) -> Output:
        """Content: text, bytes, or else what is written as JSON."""
        if batch_index is not None:
            key = "batch_{}.{}".format(batch_index, "" if key is None else key)
        elif key is not None:
            key = str(key)
        self.content.add(key=key, value=encode(value))
        return self

    def add_as_numpy(self, np_list: Any, key: Any = None, batch_index: int | None = None) -> Output:
        """Arrays as an NDList."""
        return self.add(to_nd_list(np_list), key=key, batch_index=batch_index)

    def add_as_npz(self, np_list: Any, key: Any = None, batch_index: int | None = None) -> Output:
        """Arrays as a .npz."""
        stream = io.BytesIO()
        np.savez(stream, *np_list)
        return self.add(stream.getvalue(), key=key, batch_index=batch_index)

    def add_as_json(self, val: Any, key: Any = None, batch_index: int | None = None) -> Output:
        """Anything as JSON, text included."""
        return self.add(self._encode_json(val), key=key, batch_index=batch_index)

    def add_as_string(self, val: str, key: Any = None, batch_index: int | None = None) -> Output:
        """Text."""
        return self.add(val, key=key, batch_index=batch_index)

    def add_stream_content(
        self, stream_content: Any, output_formatter: Callable[[Any], Any] | None = _line_of
    ) -> Output:
        """An iterator whose items are sent as they come, each through the formatter."""
        self.stream_content = stream_content
        self.stream_output_formatter = output_formatter
        return self

    def finalize(self, finalize_function: Callable[..., Any], *args: Any) -> Output:
        """What is called once the answer is complete."""
        self.finalize_function = finalize_function
        self.finalize_args = args
        return self

    def execute_finalize(self) -> Any:
        """Call it."""
        if self.finalize_function is None:
            return None
        return self.finalize_function(*self.finalize_args)

    @staticmethod
    def _encode_json(val: Any) -> bytearray:
        text = json.dumps(
            val, ensure_ascii=False, allow_nan=False, indent=2, cls=_Encoder, separators=(",", ":")
        )
        return bytearray(text.encode("utf-8"))


def encode(value: Any) -> bytearray:
    """Content as bytes."""
    if isinstance(value, str):
        return bytearray(value.encode("utf-8"))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytearray(value)
    return Output._encode_json(value)
