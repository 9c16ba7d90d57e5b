"""Clients that invoke an endpoint all the time, and archives of handlers for them to meet."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from fakes.aws import archive
from fakes.server import ServerProcess, wait_for

__all__ = ["Invokers", "Reply", "handler_archive", "invoke", "invoking", "says"]

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Reply:
    """`said`: the body; of an error its message. `kind`: its name. `sent`, `received`: monotonic.

    `to`: TargetVariant. `status` is 0 where the connection broke.
    """

    status: int
    said: str
    kind: str
    variant: str
    to: str
    sent: float
    received: float

    @property
    def ok(self) -> bool:
        return self.status == 200


def invoke(
    connection: HTTPConnection,
    endpoint: str,
    body: bytes = b"1",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One InvokeEndpoint, unsigned."""
    fields = {"content-type": "text/csv", **(headers or {})}
    to = fields.get("x-amzn-sagemaker-target-variant", "")
    sent = time.monotonic()
    try:
        connection.request("POST", f"/endpoints/{endpoint}/invocations", body, fields)
        with connection.getresponse() as answer:
            text = answer.read().decode()
    except (OSError, HTTPException) as error:
        connection.close()
        return Reply(0, repr(error), "", "", to, sent, time.monotonic())
    received = time.monotonic()
    kind = answer.getheader("x-amzn-errortype", "")
    if answer.status != 200 and text.startswith("{"):
        text = str(json.loads(text).get("Message", text))
    variant = answer.getheader("x-amzn-invoked-production-variant", "")
    return Reply(answer.status, text, kind, variant, to, sent, received)


class Invokers:
    """A crowd. `replies`: all of them, in the order in which they came back."""

    def __init__(self, server: ServerProcess, endpoint: str) -> None:
        self._server = server
        self._endpoint = endpoint
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.replies: list[Reply] = []

    def add(self, count: int, to: str = "", pause_s: float = 0.0, body: bytes = b"1") -> None:
        """Start so many. `to`: their TargetVariant. `pause_s`: between two requests."""
        for _ in range(count):
            thread = threading.Thread(target=self._repeat, args=(to, pause_s, body))
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Wait until each has had its last reply."""
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 10)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def wait(self, condition: Callable[[list[Reply]], object], what: str) -> None:
        """Until it holds of the replies so far."""
        wait_for(lambda: condition(list(self.replies)), 30, f"{what}; {self.told()}")

    def wait_more(self, count: int) -> None:
        """Until so many more replies have come."""
        already = len(self.replies)
        self.wait(lambda replies: len(replies) >= already + count, f"{count} more replies")

    @property
    def failures(self) -> list[Reply]:
        return [reply for reply in list(self.replies) if not reply.ok]

    def told(self) -> Counter[str]:
        """What was said, and how often."""
        return Counter(f"{r.status} {r.kind} {r.said[:200]}" for r in list(self.replies))

    def _repeat(self, to: str, pause_s: float, body: bytes) -> None:
        headers = {"x-amzn-sagemaker-target-variant": to} if to else {}
        connection = HTTPConnection(self._server.host, self._server.port, timeout=TIMEOUT_S)
        while not self._ended.is_set():
            reply = invoke(connection, self._endpoint, body, headers)
            self.replies.append(reply)
            # One that only counts refusals may not starve the others.
            self._ended.wait(max(pause_s, 0.0 if reply.ok else 0.02))
        connection.close()


@contextmanager
def invoking(server: ServerProcess, endpoint: str, count: int = 0) -> Iterator[Invokers]:
    """A crowd for as long as the block runs."""
    crowd = Invokers(server, endpoint)
    crowd.add(count)
    try:
        yield crowd
    finally:
        crowd.end()


def handler_archive(path: Path, body: str, before: str = "") -> Path:
    """A script whose `transform_fn(model, body, content_type, accept)` has this body.

    `before`: code of the module; a model_fn that loads nothing is there unless it brings one.
    """
    lines = ["import os, time", textwrap.dedent(before)]
    if "def model_fn" not in before:
        lines.append("def model_fn(model_dir):\n    return None")
    lines.append("def transform_fn(model, body, content_type, accept):")
    lines.append(textwrap.indent(textwrap.dedent(body).strip("\n"), "    "))
    return archive(path, {"code/inference.py": "\n".join(lines) + "\n"})


def says(path: Path, word: str, seconds: float = 0.0) -> Path:
    """Answers with a word, after some time."""
    return handler_archive(path, f"time.sleep({seconds!r})\nreturn {word!r}, 'text/plain'")
