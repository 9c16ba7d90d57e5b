"""The server that the tests of a module share: starting one takes two seconds."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from fakes.http_errors import answer_good
from fakes.served_models import write_served_models
from fakes.server import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """All of `fakes.served_models`, loaded at start."""
    folder = write_served_models(tmp_path_factory.mktemp("models"))
    flags = ("--set", "gateway.body_bytes_max=1MiB", "--set", "gateway.header_timeout_s=2")
    with ServerProcess(folder, *flags) as process:
        yield process
        process.stop()


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[HTTPConnection]:
    """Kept alive over a whole test: an error must not spoil it for the next request."""
    opened = HTTPConnection(server.host, server.port, timeout=15)
    try:
        yield opened
        answer_good(opened)
    finally:
        opened.close()
