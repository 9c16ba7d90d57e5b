"""A server that comes back: endpoints of its earlier run are never said to be unknown."""

from __future__ import annotations

import signal
import subprocess
import sys
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


def test_a_state_folder_that_another_server_has(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    with ServerProcess([], *state, cwd=tmp_path) as first:
        Aws(f"http://{first.url}").sagemaker.list_models()
        with ServerProcess([], *state, cwd=tmp_path) as second:
            said = second.wait_event("server.ready")["endpoints_problem"]
            assert f"used by another server (process {first.pid})" in said
            reply = asked(second, "known")
            assert (reply.status, said in reply.said) == (503, True)


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "hostler", "serve", "--port", "0"]
    command += ["--state-dir", str(tmp_path / "file" / "state")]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"cannot be made: Not a directory; mend that or set --state-dir" in ended.stderr


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
        seen: list[Reply] = []
        ready: list[int] = []

        def answered() -> bool:
            if server.get("/v2/health/ready")[0] == 200:
                ready.append(asked(server, "known").status)
            seen.append(asked(server, "known"))
            return seen[-1].status == 200

        wait_for(answered, 30.0, "an answer", poll_s=0.002)
        refused = seen[:-1]
        assert refused, "it was asked before it could answer"
        assert {reply.status for reply in refused} == {503}
        assert set(ready) <= {200}, "it was not ready before the endpoint was"
        server.wait_ready(30.0)
        assert server.wait_event("server.ready")["endpoints"] == 1
        assert str(tmp_path / "state") in server.wait_event("control.opened")["place"]
        assert any("looks for the endpoints" in reply.said for reply in refused)
        assert asked(server, "unknown").status == 400
