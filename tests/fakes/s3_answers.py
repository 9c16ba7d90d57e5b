"""What the S3 server of tests says: documents, refusals, ranges.

Source: Amazon S3 API Reference.
"""

from __future__ import annotations

import time
from xml.sax.saxutils import escape

__all__ = ["LostConnection", "Refusal", "document", "moment", "refusal_document", "span_of", "tag"]


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


class LostConnection(Exception):
    """It is to be closed now."""


def span_of(wanted: str, size: int) -> tuple[int, int]:
    """What a Range asks for. Source: RFC 9110, 14.1.2."""
    if not wanted:
        return 0, size
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    return start, stop


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def tag(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"


def document(name: str, *lines: str) -> bytes:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0"?><{name} xmlns="{space}">{"".join(lines)}</{name}>'.encode()


def refusal_document(refusal: Refusal) -> bytes:
    told = tag("Code", refusal.code) + tag("Message", refusal.message)
    return f'<?xml version="1.0"?><Error>{told}</Error>'.encode()
