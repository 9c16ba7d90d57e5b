"""A server that comes back: endpoints of its earlier run are never said to be unknown."""

from __future__ import annotations

import signal
from http.client import HTTPConnection
from pathlib import Path

from fakes.aws import Aws
from fakes.invokers import Reply, handler_archive, invoke
from fakes.server import ServerProcess, wait_for

SLOW = "import time\n\n\ndef model_fn(model_dir):\n    time.sleep(0.5)\n    return 1\n"


def asked(server: ServerProcess, endpoint: str) -> Reply:
    connection = HTTPConnection(server.url, timeout=30)
    try:
        return invoke(connection, endpoint)
    finally:
        connection.close()


def test_what_is_asked_while_it_comes_back(tmp_path: Path) -> None:
    archive = handler_archive(tmp_path / "model.tar.gz", "return 'yes', 'text/plain'", SLOW)
    state = ("--state-dir", str(tmp_path / "state"))
    cache = ("--set", f"repository.archive_cache_dir={tmp_path / 'cache'}")
    with ServerProcess([], *state, *cache, cwd=tmp_path) as server:
        Aws(f"http://{server.url}").deploy("known", archive)
        assert asked(server, "known").status == 200
        server.signal(signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
    with ServerProcess([], *state, *cache, cwd=tmp_path, wait=False) as server:
        seen = []

        def answered() -> bool:
            seen.append(asked(server, "known"))
            return seen[-1].status == 200

        wait_for(answered, 30.0, "an answer", poll_s=0.002)
        refused = seen[:-1]
        assert refused, "it was asked before it could answer"
        assert {reply.status for reply in refused} == {503}
        assert any("looks for the endpoints" in reply.said for reply in refused)
        assert asked(server, "unknown").status == 400
