"""Running the command line in this process, against fakes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from fakes.http_connection import FakeServer, Reply

from hostler.cli import client, main


@dataclass(frozen=True)
class Ran:
    """Exit code and what was printed."""

    code: int
    out: str
    error: str
    raw: bytes


@pytest.fixture
def run(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """`run("serve", "./models")`, with standard input as `stdin`."""

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        out, error = capsysbinary.readouterr()
        return Ran(code, out.decode(errors="replace"), error.decode(), out)

    return run


@pytest.fixture
def serve_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Mapping[str, Reply]], FakeServer]:
    """Let commands find a server that gives these replies."""

    def serve(replies: Mapping[str, Reply]) -> FakeServer:
        server = FakeServer(replies)
        monkeypatch.setattr(client, "connect", server.connect)
        return server

    return serve
