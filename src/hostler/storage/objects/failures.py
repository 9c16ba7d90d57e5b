"""What obstore raises, in the words of the one error tree. Pure.

Source: obstore.exceptions; obstore raises the built-in FileNotFoundError, ValueError and OSError
too. Classes go by their names, so that obstore is not imported for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hostler.core import Code, HostlerError

__all__ = ["CODES", "failure", "has_answered", "status_of"]

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
_HINTS: Final[Mapping[Code, str]] = {
    Code.NOT_FOUND: "there is no such object",
    Code.PERMISSION_DENIED: "access is refused; check the storage settings' key and its policy",
    Code.UNAVAILABLE: "the store cannot be reached or does not answer",
    Code.UNIMPLEMENTED: "the store cannot do that",
    Code.INVALID_ARGUMENT: "the store does not take this",
    Code.ALREADY_EXISTS: "there is one already",
    Code.INTERNAL: "the client library failed",
}
_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_SERVER_SAID: Final = re.compile(r"<Code>([^<]{1,100})</Code>(?:\s*<Message>([^<]{1,300}))?")
_QUERY: Final = re.compile(r"\?[^\s)'\"]+")  # may hold a signature
_REASON_MAX: Final = 300


def failure(error: Exception, what: str) -> HostlerError:
    """What has happened with `what`, a URL, for the person who can act on it."""
    code = _code(error)
    return HostlerError(code, f"{what}: {_HINTS[code]} ({_reason(error)})")


def status_of(error: Exception) -> int:
    """The HTTP status that a store has answered with, 0 where it has not answered."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def has_answered(error: Exception) -> bool:
    """Whether there was an answer at all, of whatever kind."""
    return type(error).__name__ != "GenericError" or bool(status_of(error)) or _is_headless(error)


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
    """One line: what the server has said, else obstore's first line; no query of any URL."""
    text = str(error).partition("\n\nDebug source:")[0]
    said = _SERVER_SAID.search(text)
    if said is not None:
        return ": ".join(part.strip() for part in said.groups() if part)
    line = " ".join(_QUERY.sub("?...", text).split())
    return line if len(line) <= _REASON_MAX else f"{line[:_REASON_MAX]}..."
