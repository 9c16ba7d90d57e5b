"""The V2 inference request as JSON, and its parser.

Three parsers, each for what the one before refuses: a typed decoder that checks the whole schema
while it reads (nearly every request), orjson for booleans and for naming what is wrong, and the
standard library for the literals NaN and Infinity, which Triton reads and writes.

Source: open-inference-protocol `inference_rest.md` "Inference Request JSON Object"; Triton
`triton_json.h`, kParseNanAndInfFlag.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Union

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from hostler.core import Code, HostlerError
from hostler.protocols.oip.limits import (
    DIM_MAX,
    ID_CHARS_MAX,
    NAME_CHARS_MAX,
    NESTING_MAX,
    PARAMETERS_MAX,
    RANK_MAX,
    TENSORS_MAX,
)

__all__ = [
    "Body",
    "WireInput",
    "WireOutput",
    "WireRequest",
    "invalid",
    "parse_json",
    "parse_request",
]

Body = bytes | bytearray | memoryview

if TYPE_CHECKING:
    Data = list[Any]
else:
    # A boolean is left out on purpose: inside a list of numbers it must be refused, and the
    # packing of numbers would take it for 0 or 1.
    Data = list[float | int | str]
    for _ in range(NESTING_MAX - 1):
        Data = list[Union[float, int, str, Data]]  # noqa: UP007 - `|` does not take a variable

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Key = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
Dim = Annotated[int, Meta(ge=0, le=DIM_MAX)]
Values = Annotated[dict[Key, str | int | float | bool], Meta(max_length=PARAMETERS_MAX)]


class WireInput(Struct, gc=False):
    """One input. `data`: flat or nested lists of numbers or strings; UNSET when it is binary."""

    name: Name
    shape: Annotated[list[Dim], Meta(max_length=RANK_MAX)]
    datatype: str
    data: Data | UnsetType = UNSET
    parameters: Values | None = None


class WireOutput(Struct, gc=False):
    """One requested output."""

    name: Name
    parameters: Values | None = None


class WireRequest(Struct, gc=False):
    """A request."""

    inputs: Annotated[list[WireInput], Meta(max_length=TENSORS_MAX)]
    id: Annotated[str, Meta(max_length=ID_CHARS_MAX)] | None = None
    outputs: Annotated[list[WireOutput], Meta(max_length=TENSORS_MAX)] | None = None
    parameters: Values | None = None


_decode = msgspec.json.Decoder(WireRequest).decode


def invalid(message: str) -> HostlerError:
    """INVALID_ARGUMENT with this message."""
    return HostlerError(Code.INVALID_ARGUMENT, message)


def parse_request(body: Body) -> WireRequest:
    """Read the JSON of a request. Booleans stand only in `data` of BOOL; else it is unchecked.

    Raises: INVALID_ARGUMENT naming the place and what was expected there.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_loosely(body)


def _parse_loosely(body: Body) -> WireRequest:
    document = parse_json(body, "the inference request")
    if not isinstance(document, dict):
        raise invalid("the inference request must be a JSON object")
    # `data` is taken out before the schema check: its values are checked against the datatype.
    tensors = document.get("inputs")
    tensors = tensors if isinstance(tensors, list) else []
    values = [t.pop("data", UNSET) if isinstance(t, dict) else UNSET for t in tensors]
    try:
        request = msgspec.convert(document, WireRequest)
    except msgspec.ValidationError as error:
        raise invalid(f"the inference request is malformed: {error}") from None
    for tensor, data in zip(request.inputs, values, strict=True):
        if data is not UNSET:
            _check_data(tensor, data)
            tensor.data = data
    return request


def _check_data(tensor: WireInput, data: object) -> None:
    if not isinstance(data, list):
        raise invalid(f"'data' of input '{tensor.name}' must be an array")
    level = data if tensor.datatype != "BOOL" else []
    while level:
        if bool in set(map(type, level)):
            raise invalid(
                f"'data' of input '{tensor.name}' holds a boolean, but its datatype is "
                f"{tensor.datatype[:32]}; send BOOL or numbers"
            )
        level = [value for inner in level if type(inner) is list for value in inner]


def parse_json(body: Body, what: str) -> Any:
    """Read any JSON document, NaN and Infinity literals included; `what` names it in errors.

    Raises: INVALID_ARGUMENT saying where it is malformed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raw = bytes(body)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise invalid(f"{what} is not valid JSON: {error}") from None
    return _parse_with_literals(raw, what)


def _parse_with_literals(raw: bytes, what: str) -> Any:
    try:
        text = raw.decode()
        document = json.loads(text, parse_float=_finite)
        if "\\u" in text:
            # The standard library lets lone surrogates through, which no encoder can write back.
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise invalid(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise invalid(f"{what} is not valid JSON: {_reason(error)}") from None
    return document


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"number out of range: {digits[:32]}")
    return value


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error)
