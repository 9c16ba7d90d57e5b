"""What obstore raises, in the words of the one error tree. Pure.

Source: obstore.exceptions; obstore raises the built-in FileNotFoundError, ValueError and OSError
too. Classes go by their names, so that obstore is not imported for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hostler.core import Code, HostlerError

__all__ = [
    "CODES",
    "failure",
    "has_answered",
    "is_cut_short",
    "is_of_bucket",
    "is_past_the_end",
    "is_transient",
    "status_of",
    "too_large",
]

CODES: Final[Mapping[str, Code]] = {
    "AlreadyExistsError": Code.ALREADY_EXISTS,
    "BaseError": Code.UNAVAILABLE,
    "GenericError": Code.UNAVAILABLE,  # unless it tells of a status: see `_BY_STATUS`
    "InvalidPathError": Code.INVALID_ARGUMENT,
    "JoinError": Code.INTERNAL,
    "NotFoundError": Code.NOT_FOUND,
    "NotModifiedError": Code.UNAVAILABLE,
    "NotSupportedError": Code.UNIMPLEMENTED,
    "PermissionDeniedError": Code.PERMISSION_DENIED,
    "PreconditionError": Code.UNAVAILABLE,
    "UnauthenticatedError": Code.PERMISSION_DENIED,
    "UnknownConfigurationKeyError": Code.INTERNAL,
}
"""By the name of the class."""

_BUILT_IN: Final[tuple[tuple[type[Exception], Code], ...]] = (
    (FileNotFoundError, Code.NOT_FOUND),
    (PermissionError, Code.PERMISSION_DENIED),
    (OSError, Code.UNAVAILABLE),
    (ValueError, Code.INVALID_ARGUMENT),
)
_BY_STATUS: Final[Mapping[int, Code]] = {
    301: Code.INVALID_ARGUMENT,
    307: Code.INVALID_ARGUMENT,
    400: Code.INVALID_ARGUMENT,
    401: Code.PERMISSION_DENIED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    410: Code.NOT_FOUND,
    501: Code.UNIMPLEMENTED,
}
_TRANSIENT: Final = frozenset({0, 408, 425, 429, 500, 502, 503, 504})  # 0: no answer
_HINTS: Final[Mapping[Code, str]] = {
    Code.NOT_FOUND: "there is no such object",
    Code.PERMISSION_DENIED: "access is refused; check the storage settings' key and its policy",
    Code.UNAVAILABLE: "the store cannot be reached",
    Code.UNIMPLEMENTED: "the store cannot do that",
    Code.INVALID_ARGUMENT: "the store does not take this",
    Code.ALREADY_EXISTS: "there is one already",
    Code.INTERNAL: "the client library failed",
}
_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_SERVER_SAID: Final = re.compile(r"<Code>([^<]{1,100})</Code>(?:\s*<Message>([^<]{1,300}))?")
_QUERY: Final = re.compile(r"\?[^\s)'\"]+")  # may hold a signature
_LIBRARY: Final = re.compile(
    r"Generic \w+ error: |Error performing list request: |Server returned non-2xx |"
    r"(?:Object at location .{0,1024}? not found: )?Error performing [A-Z]+ \S+ in \S+?"
    r"(?:, after \d+ retries, max_retries: \d+, retry_timeout: \S+)?\s+- "
)
"""Words that are about obstore and not about what has happened."""
_ADDRESS: Final = re.compile(r"Error performing [A-Z]+ (https?://[^/\s?]{1,260})")
_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    ("ConnectionRefused", "connection refused by {}"),
    ('"dns error"', "DNS does not know the host of {}"),
    ("NetworkUnreachable", "there is no network to {}"),
    ("HostUnreachable", "there is no route to {}"),
    ("InvalidCertificate", "TLS: the certificate of {} is not trusted, see storage.ca_file"),
    ("InvalidContentType", "TLS: {} does not speak TLS"),
    ("InvalidMessage", "TLS: {} does not speak TLS"),
    ("AlertReceived", "TLS: {} refuses the handshake"),
    ("HandshakeFailure", "TLS: {} refuses the handshake"),
    ("ConnectionReset", "connection reset by {}"),
    ("BrokenPipe", "connection lost to {}"),
    ("IncompleteMessage", "{} closed the connection without an answer"),
    ("UnexpectedEof", "{} closed the connection without an answer"),
    ("TimedOut", "no answer in time from {}"),
    ("kind: Timeout", "no answer in time from {}"),
)
"""What obstore's own account of an error holds, and what it means."""
_REASON_MAX: Final = 300


def failure(error: Exception, what: str) -> HostlerError:
    """What has happened with `what`, a URL, for the person who can act on it."""
    code, reason = _code(error), _reason(error)
    hint = _HINTS[code]
    if code is Code.UNAVAILABLE and has_answered(error):
        hint = "the store cannot answer now"
    elif code is Code.NOT_FOUND and is_of_bucket(error):
        hint = "there is no such bucket"
    return HostlerError(code, f"{what}: {hint} ({reason})")


def status_of(error: Exception) -> int:
    """The HTTP status that a store has answered with, 0 where it has not answered."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def is_cut_short(error: Exception) -> bool:
    """Whether an answer has begun, and broke off before the end of its body."""
    return "request or response body error" in str(error)


def is_of_bucket(error: Exception) -> bool:
    """Whether it is the bucket, or Azure's container, that is not there. Not all answers tell."""
    return "<Code>NoSuchBucket<" in str(error) or "<Code>ContainerNotFound<" in str(error)


def has_answered(error: Exception) -> bool:
    """Whether there was an answer at all, of whatever kind."""
    return type(error).__name__ != "GenericError" or bool(status_of(error)) or _is_headless(error)


def is_past_the_end(error: Exception) -> bool:
    """Whether an object ends before what was asked for, as a store says or obstore sees."""
    return status_of(error) == 416 or "Wanted range starting at" in str(error)


def is_transient(error: Exception) -> bool:
    """Whether the same request may well succeed: the store is busy, or a connection was lost."""
    if type(error).__name__ != "GenericError" or _is_headless(error):
        return False
    return status_of(error) in _TRANSIENT


def too_large(what: str, size: int, bytes_max: int) -> HostlerError:
    """An object that was to be held in memory whole."""
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"{what} has {size} bytes, at most {bytes_max} are taken in one piece; make it smaller",
    )


def _is_headless(error: Exception) -> bool:
    return "Header missing from response" in str(error)  # such as Content-Length


def _code(error: Exception) -> Code:
    name = type(error).__name__
    if name == "GenericError" and _is_headless(error):
        return Code.UNIMPLEMENTED
    if name == "GenericError":
        return _BY_STATUS.get(status_of(error), Code.UNAVAILABLE)
    if name in CODES:
        return CODES[name]
    return next((code for kind, code in _BUILT_IN if isinstance(error, kind)), Code.INTERNAL)


def _reason(error: Exception) -> str:
    """One line: what the server has said, else why it could not; no query of any URL."""
    text, _, account = str(error).partition("\n\nDebug source:")
    said = _SERVER_SAID.search(text)
    if said is not None:
        return ": ".join(" ".join(part.split()) for part in said.groups() if part)
    if not status_of(error):
        address = _ADDRESS.search(text)
        where = address[1] if address else "the server"
        cause = next((words for sign, words in _CAUSES if sign in account), "")
        if cause:
            return cause.format(where)
    line = " ".join(_LIBRARY.sub("", _QUERY.sub("?...", text)).split()).rstrip(": ")
    return line if len(line) <= _REASON_MAX else f"{line[:_REASON_MAX]}..."
