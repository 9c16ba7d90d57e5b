"""Which form a body has: by its media type, and where that leaves it open by its first bytes.

Source: SageMaker's common data formats (cdf-inference.md); TF Serving api_rest.md; the binary
media type of Triton's `sagemaker_server.cc`.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from hostler.core import Code, HostlerError
from hostler.protocols.content.limits import SNIFF_BYTES
from hostler.protocols.content.media import media_type

__all__ = [
    "BINARY_TYPE",
    "TAKEN",
    "Body",
    "Form",
    "form_of",
    "invalid",
    "json_header_size",
]

Body = bytes | bytearray | memoryview

BINARY_TYPE: Final = "application/vnd.sagemaker-triton.binary+json"
_SIZE_PARAMETER: Final = "json-header-size"


class Form(enum.Enum):
    """How tensors are written down.

    V2_JSON, V2_BINARY: Open Inference Protocol v2, which `protocols.oip` reads and writes.
    INSTANCES: `{"instances": [row, ...]}`, answered by `{"predictions": [...]}`. COLUMNS:
    `{"inputs": tensor}` or `{"inputs": {name: tensor}}`, answered by `{"outputs": ...}`.
    ROWS: a bare JSON array of rows. The others are media types; RAW is one tensor's own bytes,
    IMAGE a picture of any kind, answered as INSTANCES are.
    """

    V2_JSON = "v2_json"
    V2_BINARY = "v2_binary"
    INSTANCES = "instances"
    COLUMNS = "columns"
    ROWS = "rows"
    CSV = "csv"
    JSON_LINES = "json_lines"
    NPY = "npy"
    RAW = "raw"
    IMAGE = "image"


_BY_TYPE: Final = {
    "text/csv": Form.CSV,
    "application/csv": Form.CSV,
    "application/jsonlines": Form.JSON_LINES,
    "application/x-jsonlines": Form.JSON_LINES,
    "application/jsonl": Form.JSON_LINES,
    "application/x-ndjson": Form.JSON_LINES,
    "application/x-npy": Form.NPY,
    "application/x-image": Form.IMAGE,
    BINARY_TYPE: Form.V2_BINARY,
}
_JSON: Final = frozenset({"application/json", "text/json"})
_OPEN: Final = frozenset(
    {
        "",
        "application/octet-stream",
        "binary/octet-stream",
        # What curl -d says of any body.
        "application/x-www-form-urlencoded",
    }
)
"""Types that say nothing: boto3 sends none at all unless told, and clients of Triton on SageMaker
call their V2 JSON application/octet-stream."""

TAKEN: Final = (
    "application/json, text/csv, application/jsonlines, application/x-npy, "
    f"application/octet-stream, image/*, {BINARY_TYPE}"
)
"""The media types that are taken, for messages."""


def invalid(message: str) -> HostlerError:
    """INVALID_ARGUMENT with this message."""
    return HostlerError(Code.INVALID_ARGUMENT, message)


def form_of(content_type: str, body: Body) -> Form:
    """The form of a request's body; "" is a missing Content-Type.

    Reads the first few bytes; a JSON object that begins with other keys than usual is scanned.
    Without a telling type a JSON object or array is taken for one, anything else is RAW; bytes
    that are declared to be an octet-stream are JSON only where they are a V2 request.
    Raises: UNSUPPORTED_ENCODING (details: status 415) for another type; INVALID_ARGUMENT for a
    JSON document that is none of the forms.
    """
    name = content_type if content_type in _JSON else media_type(content_type)[0]
    if name in _JSON:
        return _json_form(body)
    form = _BY_TYPE.get(name)
    if form is not None:
        return form
    if name.startswith("image/"):
        return Form.IMAGE
    if name in _OPEN:
        return _sniffed(body, typed=name.endswith("/octet-stream"))
    if name.endswith("+json"):
        return _json_form(body)
    raise HostlerError(
        Code.UNSUPPORTED_ENCODING,
        f"content type '{name[:128]}' is not taken by this model; send one of {TAKEN}",
        details={"status": 415},
    )


def json_header_size(content_type: str, body_bytes: int) -> int:
    """Length of the JSON in front of the tensors of a V2_BINARY body.

    Raises: INVALID_ARGUMENT unless the type says it and it is from 0 to `body_bytes`.
    """
    text = media_type(content_type)[1].get(_SIZE_PARAMETER, "")
    # int() alone would take signs, underscores and other scripts' digits.
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= body_bytes:
        return int(text)
    raise invalid(
        f"content type '{BINARY_TYPE}' has {_SIZE_PARAMETER} '{text[:32]}', but it must be a "
        f"number of bytes from 0 to the length of the body, {body_bytes}"
    )


_KEY: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"(\w+)"[ \t\r\n]*:[ \t\r\n]*')
_PLAIN_MEMBER: Final = re.compile(
    rb'(?:"[^"\\]{0,1024}"|[-+.\w]{1,32})[ \t\r\n]*,[ \t\r\n]*"(\w+)"[ \t\r\n]*:[ \t\r\n]*'
)
"""A value that is no array or object, and the key behind it."""
_TENSOR: Final = re.compile(rb'\[[ \t\r\n]*(?:\]|\{(?![ \t\r\n]*"b64"[ \t\r\n]*:))')
"""A list of objects: the tensors of V2. TF Serving's column form has `{"b64"}` objects alone."""
_SPACE: Final = b" \t\r\n"


class _Scanned(msgspec.Struct, gc=False):
    inputs: msgspec.Raw | UnsetType = UNSET
    instances: msgspec.Raw | UnsetType = UNSET


_scan = msgspec.json.Decoder(_Scanned).decode


def _json_form(body: Body) -> Form:
    head = bytes(memoryview(body)[:SNIFF_BYTES])
    found = _KEY.match(head)
    if found is None:
        start = head.lstrip(_SPACE)[:1]
        if start == b"[":
            return Form.ROWS
        if start == b"{":
            return _scanned_form(body)
        raise invalid(
            'the body is not a JSON object or array; send {"inputs": [...]} of V2, '
            '{"instances": [...]}, or an array of rows'
        )
    form = _form_at(found, head)
    return _scanned_form(body) if form is None else form


def _form_at(found: re.Match[bytes], head: bytes) -> Form | None:
    """The form if one of the first keys tells it, past plain values; None if the head ends."""
    following: re.Match[bytes] | None = found
    while following is not None:
        key, place = following[1], following.end()
        if key == b"instances":
            return Form.INSTANCES
        if key == b"inputs":
            if len(head) - place < 64 and len(head) == SNIFF_BYTES:
                return None
            return Form.V2_JSON if _TENSOR.match(head, place) else Form.COLUMNS
        following = _PLAIN_MEMBER.match(head, place)
    return None


def _scanned_form(body: Body) -> Form:
    """By the keys of the whole object; only a half-broken one is told by its first known word."""
    try:
        keys = _scan(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raw = bytes(body)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise invalid("the body is not valid JSON") from None
        instances, inputs = raw.find(b'"instances"'), raw.find(b'"inputs"')
        if inputs >= 0 and (instances < 0 or inputs < instances):
            colon = raw.find(b":", inputs)
            rest = raw[colon + 1 : colon + 1 + SNIFF_BYTES].lstrip(_SPACE)
            return Form.V2_JSON if _TENSOR.match(rest) else Form.COLUMNS
        if instances >= 0:
            return Form.INSTANCES
    else:
        if keys.instances is not UNSET:
            return Form.INSTANCES
        if keys.inputs is not UNSET:
            return Form.V2_JSON if _TENSOR.match(keys.inputs) else Form.COLUMNS
    raise invalid(
        'the JSON object has neither "inputs" nor "instances"; send {"inputs": [...]} of V2, '
        '{"instances": [...]}, or an array of rows'
    )


def _sniffed(body: Body, *, typed: bool) -> Form:
    head = bytes(memoryview(body)[:SNIFF_BYTES])
    start = head.lstrip(_SPACE)[:1]
    if start not in (b"{", b"["):
        return Form.RAW
    found = _KEY.match(head)
    form = Form.ROWS if start == b"[" else None if found is None else _form_at(found, head)
    if typed:
        return Form.V2_JSON if form is Form.V2_JSON else Form.RAW
    if form is Form.ROWS:
        # Bytes of a tensor may begin so, too; a list of rows goes on in text.
        return form if _is_text(head) else Form.RAW
    if form is None:
        return _json_form(body) if found is not None else Form.RAW
    return form


def _is_text(head: bytes) -> bool:
    return head.isascii() and not any(byte < 32 and byte not in _SPACE for byte in head[:64])
