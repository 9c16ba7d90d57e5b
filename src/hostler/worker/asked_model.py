"""The model that hooks surround: asked through the server, which computes it.

Source of casts: an array of whole numbers, as JSON gives it, is meant for a model of floats too.
"""

from __future__ import annotations

import collections
from typing import Any, Mapping, Sequence

import numpy as np

from .calls import Call, Calls
from .channel import Frame
from .errors import Failure
from .serving_rest import BadRequest, columns_of, numbers_of, texts_of
from .task import Request
from .tensors import DTYPES, Inputs, Output

__all__ = ["AskedModel", "Takes", "fitted", "from_document"]

Takes = collections.namedtuple("Takes", "name datatype shape optional")
"""One of its inputs; -1 in a shape is variable."""

NAMES_SHOWN_MAX = 10


class AskedModel:
    """Asks it. `name`: as it is hosted. `model`: whose hooks these are, for messages."""

    def __init__(self, calls: Calls, name: str, model: str) -> None:
        self._calls = calls
        self._name = name
        self._model = model
        self._takes: list[Takes] | None = None

    def takes(self, request: Request) -> list[Takes]:
        """Its inputs, which the server is asked for once. Raises: Failure; OSError."""
        if self._takes is None:
            call = self._calls.begin({**self._header(request), "describe": True}, [])
            frame = self._answered(self._calls.take(call))
            self._takes = [Takes(*described) for described in frame.header["takes"]]
        return self._takes

    def ask(self, request: Request, inputs: list[Output]) -> Call:
        """Ask in behalf of a request; an order, `landed`, tells of the answer.

        Raises: Failure, ValueError, TypeError for what cannot be sent; OSError.
        """
        return self._calls.begin(self._header(request), inputs, announced=True)

    def outputs(self, call: Call) -> dict[str, Any]:
        """Its answer as arrays of the caller's own, waiting for it. Raises: Failure."""
        frame = self._answered(self._calls.take(call))
        found = Inputs(frame, None, True)
        return {
            described[0]: _readable(described[1], found.array(described))
            for described in frame.header["outputs"]
        }

    def _header(self, request: Request) -> dict[str, Any]:
        return {
            "run": request.run,
            "index": request.index,
            "stream": False,
            "model": self._name,
            "version": -1,
            "id": "",
            "outputs": [],
            "parameters": {},
            "timeout_us": 0,
        }

    def _answered(self, frame: Frame | None) -> Frame:
        if frame is None:
            raise Failure("UNAVAILABLE", "the server has gone")
        error = frame.header.get("error")
        if error is not None:
            code, message = error
            if code == "INVALID_ARGUMENT":
                text = "model '{}': what its hooks made of the request does not fit: {}"
                message = text.format(self._model, message)
            raise Failure(code, message)
        return frame


def fitted(value: Any, takes: Sequence[Takes], model: str) -> list[Output]:
    """What a hook returned, as the model's inputs: one array, or arrays by name.

    Raises: Failure of MODEL_ERROR for what the model's types cannot hold.
    """
    if isinstance(value, Mapping):
        named = value
    else:
        needed = [one for one in takes if not one.optional] or list(takes)
        if len(needed) != 1:
            raise Failure(
                "MODEL_ERROR",
                "model '{}' has {} inputs, {}; input_fn must return a dictionary of arrays by "
                "these names".format(model, len(needed), _listed(needed)),
            )
        named = {needed[0].name: value}
    known = {one.name: one for one in takes}
    unknown = [name for name in named if name not in known]
    if unknown:
        raise Failure(
            "MODEL_ERROR",
            "model '{}' has no input {!r}; it has {}".format(model, unknown[0], _listed(takes)),
        )
    return [Output(name, known[name].datatype, _cast(given, known[name], model))
            for name, given in named.items()]  # fmt: skip


def from_document(document: dict[str, Any], takes: Sequence[Takes]) -> list[Output]:
    """The body of a predict call as the model's inputs. Raises: BadRequest."""
    specs = {one.name: one for one in takes if not one.optional}
    outputs = []
    for name, value in columns_of(document, specs).items():
        one = specs[name]
        dtype = DTYPES[one.datatype]
        try:
            if one.datatype == "BYTES":
                array = texts_of(value)
            else:
                kinds = {"b": "b", "i": "iu", "u": "iu"}.get(dtype.kind, "iuf")
                array = numbers_of(value, kinds, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            text = "input '{}' takes {} of shape {}: {}"
            raise BadRequest(text.format(name, one.datatype, one.shape, error)) from error
        outputs.append(Output(name, one.datatype, array))
    return outputs


def _cast(value: Any, one: Takes, model: str) -> Any:
    array = np.asarray(value)
    target = DTYPES[one.datatype]
    if one.datatype == "BYTES":
        if array.dtype.kind in "SUO":
            return array.astype(object)
    elif one.datatype == "BF16":
        if array.dtype == target or array.dtype.name == "bfloat16":
            return np.ascontiguousarray(array).view(target)
    elif array.dtype == target:
        return array
    elif array.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            cast = array.astype(target)
        # Floats may lose digits; whole numbers and truths are kept as they are or refused.
        if target.kind == "f" or np.array_equal(cast, array):
            return cast
    raise Failure(
        "MODEL_ERROR",
        "model '{}': input '{}' takes {} of shape {}, and the hooks gave {} of shape {}, which it "
        "cannot hold; convert it in input_fn".format(
            model, one.name, one.datatype, list(one.shape), array.dtype, list(array.shape)
        ),
    )


def _readable(datatype: str, array: Any) -> Any:
    """BF16 as float32, which holds all of it; numpy has no type of its own for it."""
    if datatype != "BF16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _listed(takes: Sequence[Takes]) -> str:
    return ", ".join("'{}'".format(one.name) for one in takes[:NAMES_SHOWN_MAX]) or "none"
