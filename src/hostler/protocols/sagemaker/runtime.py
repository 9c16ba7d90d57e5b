"""The runtime API's requests and answers, as far as their headers go. Pure.

On the path of every invocation: looked up and checked by hand, without a service description.
Header names are lower-case, as ASGI has them. Source: botocore's service description of
sagemaker-runtime; bounds that it does not enforce are enforced here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from hostler.core import Code, HostlerError

__all__ = ["Answered", "Invocation", "answer_headers", "endpoint_in", "read_invocation"]

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}", re.ASCII)
_COMPONENT: Final = re.compile(r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?", re.ASCII)
_PRINTED: Final = re.compile(r"\S[ -~]*", re.ASCII)
_SESSION: Final = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*|NEW_SESSION", re.ASCII)
_VISIBLE: Final = re.compile(r"[\t -~]*", re.ASCII)

_ACCEPT: Final = b"accept"
_STREAM_ACCEPT: Final = b"x-amzn-sagemaker-accept"
_CONTENT_TYPE: Final = b"content-type"
_CUSTOM_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"

# header -> (field, name of the member, its pattern, longest)
_RARE: Final[Mapping[bytes, tuple[str, str, re.Pattern[str], int]]] = {
    b"x-amzn-sagemaker-target-model": ("target_model", "targetModel", _PRINTED, 1024),
    b"x-amzn-sagemaker-target-variant": ("target_variant", "targetVariant", _NAME, 63),
    b"x-amzn-sagemaker-target-container-hostname": (
        "target_container",
        "targetContainerHostname",
        _NAME,
        63,
    ),
    b"x-amzn-sagemaker-inference-id": ("inference_id", "inferenceId", _PRINTED, 64),
    b"x-amzn-sagemaker-session-id": ("session_id", "sessionId", _SESSION, 256),
    b"x-amzn-sagemaker-inference-component": (
        "inference_component",
        "inferenceComponentName",
        _COMPONENT,
        63,
    ),
    b"x-amzn-sagemaker-enable-explanations": (
        "enable_explanations",
        "enableExplanations",
        _VISIBLE,
        64,
    ),
}


_RARE_NAMES: Final = frozenset(_RARE)


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """InvokeEndpoint or its stream variant without the body. "" where a header was not sent.

    `accept`: of the stream variant, X-Amzn-SageMaker-Accept. `content_type`: as it was sent;
    absent, AWS's containers get none.
    """

    endpoint: str
    content_type: str = ""
    accept: str = ""
    custom_attributes: str = ""
    target_model: str = ""
    target_variant: str = ""
    target_container: str = ""
    inference_id: str = ""
    session_id: str = ""
    inference_component: str = ""
    enable_explanations: str = ""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers say beside the body."""

    content_type: str
    variant: str
    custom_attributes: str = ""
    new_session_id: str = ""
    closed_session_id: str = ""


@functools.lru_cache(maxsize=1024)  # some 5 us the first time; names come back
def endpoint_in(segment: bytes) -> str:
    """An endpoint's name from its part of the path, unquoted. Raises: INVALID_ARGUMENT."""
    name = unquote_to_bytes(segment).decode("utf-8", "replace") if b"%" in segment else ""
    name = name or segment.decode("utf-8", "replace")
    if len(name) > 63 or _NAME.fullmatch(name) is None:
        raise _refused(name, "endpointName", _NAME.pattern, 63)
    return name


def read_invocation(
    segment: bytes, headers: Mapping[bytes, bytes], *, stream: bool = False
) -> Invocation:
    """A request's headers. `segment`: the endpoint's part of the path, as it was sent.

    Raises: INVALID_ARGUMENT that names the member, its value and what it must be.
    """
    attributes = headers.get(_CUSTOM_ATTRIBUTES)
    usual = Invocation(
        endpoint=endpoint_in(segment),
        content_type=_media_type(headers.get(_CONTENT_TYPE, b""), "contentType"),
        accept=_media_type(headers.get(_STREAM_ACCEPT if stream else _ACCEPT, b""), "accept"),
        custom_attributes=""
        if attributes is None
        else _checked(attributes, "customAttributes", _VISIBLE, 1024),
    )
    if _RARE_NAMES.isdisjoint(headers):
        return usual
    rare = {
        field: _checked(headers[name], member, pattern, longest)
        for name, (field, member, pattern, longest) in _RARE.items()
        if name in headers
    }
    return msgspec.structs.replace(usual, **rare)


@functools.lru_cache(maxsize=1024)  # a handful are in use
def _media_type(value: bytes, member: str) -> str:
    return _checked(value, member, _VISIBLE, 1024)


def _checked(value: bytes, member: str, pattern: re.Pattern[str], longest: int) -> str:
    text = value.decode("latin-1")
    if len(text) > longest or pattern.fullmatch(text) is None:
        raise _refused(text, member, pattern.pattern, longest)
    return text


def _refused(value: str, member: str, pattern: str, longest: int) -> HostlerError:
    wrong = (
        f"Member must have length less than or equal to {longest}"
        if len(value) > longest
        else f"Member must satisfy regular expression pattern: {pattern}"
    )
    # CustomAttributes may hold what is nobody else's business.
    shown = "Value" if member == "customAttributes" else f"Value '{value[:256]}'"
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"1 validation error detected: {shown} at '{member}' failed to satisfy constraint: {wrong}",
    )


def answer_headers(answered: Answered, *, stream: bool = False) -> list[tuple[bytes, bytes]]:
    """The headers of a good answer; `stream`: with the media type where the stream variant has it.

    What a model has put into them is cut to what a header may hold: other characters than visible
    ASCII become `?`, and nothing is longer than 1,024.
    """
    if stream:
        lines = [
            (_CONTENT_TYPE, b"application/vnd.amazon.eventstream"),
            (b"x-amzn-sagemaker-content-type", _line(answered.content_type)),
        ]
    else:
        lines = [(_CONTENT_TYPE, _line(answered.content_type))]
    lines.append((b"x-amzn-invoked-production-variant", answered.variant.encode()))
    if answered.custom_attributes:
        lines.append((_CUSTOM_ATTRIBUTES, _line(answered.custom_attributes)))
    if answered.new_session_id:
        lines.append((b"x-amzn-sagemaker-new-session-id", _line(answered.new_session_id)))
    if answered.closed_session_id:
        lines.append((b"x-amzn-sagemaker-closed-session-id", _line(answered.closed_session_id)))
    return lines


def _line(text: str) -> bytes:
    text = text[:1024]
    if _VISIBLE.fullmatch(text) is None:
        text = "".join(c if " " <= c <= "~" else "?" for c in text)
    return text.encode("ascii")
