"""A real `hostler serve` in a process of its own, that never outlives its test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

_T = TypeVar("_T")

POLL_S = 0.02
STOP_S = 40.0

# The server must end with the test that started it even where that is killed outright, so the
# kernel is asked to see to it (prctl(2), PR_SET_PDEATHSIG = 1) before hostler starts.
_RUN = """
import ctypes, runpy, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
sys.argv[0] = "hostler"
runpy.run_module("hostler", run_name="__main__", alter_sys=True)
"""


def wait_for(
    condition: Callable[[], _T], timeout_s: float, what: str, poll_s: float = POLL_S
) -> _T:
    """The first true value of `condition`; fails, saying `what` was awaited, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}")
        time.sleep(poll_s)


class ServerProcess:
    """`with ServerProcess(folder, "--model-control", "explicit") as server:`; ready once entered.

    `env`: variables beside those of this process. `url`: as tritonclient wants it, host and port.
    `events()`: its JSON log so far.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        *flags: str,
        ready_s: float = 60.0,
        wait: bool = True,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._paths = [paths] if isinstance(paths, Path) else list(paths)
        self._flags = flags
        self._ready_s = ready_s
        self._wait = wait
        self._cwd = cwd
        self._env = dict(env or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}
        self.host = "127.0.0.1"
        self.port = 0

    # -- life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="hostler-server-")
        folder = Path(self._folder.name)
        self.log_path = folder / "log.jsonl"
        self.output_path = folder / "output.txt"
        command = [sys.executable, "-c", _RUN, "serve", *map(str, self._paths)]
        command += ["--log-format", "json"]
        if "SAGEMAKER_BIND_TO_PORT" not in self._env:
            command += ["--port", "0"]
        command += ["--set", f"telemetry.log_file={self.log_path}"]
        # Not in the home folder, where runs would find what others have left.
        command += ["--set", f"repository.archive_cache_dir={folder / 'archives'}", *self._flags]
        variables = {k: v for k, v in os.environ.items() if not k.startswith("HOSTLER_")}
        variables.update(self._env)
        with self.output_path.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                cwd=self._cwd,
                start_new_session=True,
            )
        try:
            self.port = self.wait_event("gateway.listening", timeout_s=self._ready_s)["port"]
            if self._wait:
                self.wait_ready(self._ready_s)
        except BaseException:
            self._tell_last_words()
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._tell_last_words()
        self._end()

    def _tell_last_words(self) -> None:
        sys.stderr.write(f"\n--- the server's last words ---\n{self.last_words()}\n")

    def _end(self) -> None:
        process = self._process
        assert process is not None
        assert self._folder is not None
        if process.poll() is None:
            self.children()
            process.kill()
            process.wait(STOP_S)
        for child in self._seen.values():
            with contextlib.suppress(psutil.Error):
                child.kill()  # psutil checks that it is still the same process
        self._folder.cleanup()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End it as an operator would, and check that it went well: exit code 0, no orphans."""
        children = self.children()
        self.signal(signal.SIGTERM)
        code = self.wait_exit(timeout_s)
        assert code == 0, f"exit code {code}\n{self.last_words()}"
        left = [child for child in children if _alive(child)]
        assert not left, f"outlived the server: {left}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait_exit(self, timeout_s: float = STOP_S) -> int:
        """Its exit code; fails when it is still there after `timeout_s`."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the server did not end within {timeout_s:g} s\n{self.last_words()}"
            ) from None

    # -- looking at it ---------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The started process."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def url(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def grpc_url(self) -> str:
        """The same of gRPC."""
        return f"{self.host}:{self.wait_event('gateway.grpc_listening')['port']}"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def children(self) -> list[psutil.Process]:
        """Its worker processes now; every one that was ever seen is ended with the test."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid).children(recursive=True)
        self._seen.update((child.pid, child) for child in found)
        return found

    def pss_bytes(self) -> int:
        """Proportional set size of the server and its workers together; cheap enough to poll.

        A worker that was forked and has not yet become another program is left out: it runs in the
        server's own memory (vfork), which would count twice.
        """
        own = _command_line(self.pid)
        workers = [pid for pid in _family(self.pid)[1:] if _command_line(pid) != own]
        return sum(map(_pss_bytes, [self.pid, *workers]))

    def events(self, name: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """Log events in order: those of this name and with these fields, where given."""
        try:
            text = self.log_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]
        found = [json.loads(line) for line in whole.splitlines()]
        return [
            event
            for event in found
            if name in (None, event["event"])
            and all(event.get(key) == value for key, value in fields.items())
        ]

    def wait_event(self, name: str, timeout_s: float = 30.0, **fields: object) -> dict[str, Any]:
        """The first event of this name with these fields."""

        def look() -> list[dict[str, Any]]:
            found = self.events(name, **fields)
            assert found or self.alive, f"the server ended\n{self.last_words()}"
            return found

        try:
            return wait_for(look, timeout_s, f"event {name} {fields or ''}")[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    def wait_ready(self, timeout_s: float) -> None:
        """Until /v2/health/ready says so."""

        def ready() -> bool:
            assert self.alive, f"the server ended\n{self.last_words()}"
            return self.get("/v2/health/ready")[0] == 200

        wait_for(ready, timeout_s, "the server to be ready")

    def last_words(self, lines: int = 40) -> str:
        """The ends of its output and of its log."""
        texts = []
        for path in (self.output_path, self.log_path):
            with contextlib.suppress(OSError):
                texts += path.read_text("utf-8", "replace").splitlines()[-lines:]
        return "\n".join(texts)

    # -- asking it -------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers (lower case), body."""
        connection = HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, document: object = None) -> tuple[int, dict[str, str], bytes]:
        """POST of a JSON document, or of nothing."""
        body = b"" if document is None else json.dumps(document).encode()
        return self.request("POST", path, body)

    def infer(self, model: str, **inputs: list[Any]) -> tuple[int, dict[str, Any]]:
        """One V2 request of FP32 inputs given as lists of rows: status and JSON document."""
        status, _, body = self.post(f"/v2/models/{model}/infer", fp32_request(**inputs))
        return status, json.loads(body)

    def raw(self, sent: bytes, timeout_s: float = 10.0) -> bytes:
        """What comes back for bytes on a fresh connection, until it is closed or quiet."""
        with socket.create_connection((self.host, self.port), timeout_s) as connection:
            connection.sendall(sent)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
            return received


def fp32_request(**inputs: list[Any]) -> dict[str, Any]:
    """A V2 request document of FP32 inputs given as lists of rows."""
    tensors = []
    for name, rows in inputs.items():
        shape, level = [], rows
        while isinstance(level, list):
            shape.append(len(level))
            level = level[0] if level else None
        tensors.append({"name": name, "shape": shape, "datatype": "FP32", "data": rows})
    return {"inputs": tensors}


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _family(pid: int) -> list[int]:
    """A process and all that descend from it. Source: proc(5), /proc/pid/task/tid/children."""
    pids, found = [pid], []
    while pids:
        found.append(pids.pop())
        for path in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += map(int, path.read_text("ascii").split())
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _pss_bytes(pid: int) -> int:
    """0 for a process that has ended. Source: proc(5), smaps_rollup."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
