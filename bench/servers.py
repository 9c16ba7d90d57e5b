"""Start a server under test, wait until it is ready, and stop it."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from bench.harness import ROOT

__all__ = ["Server", "ServerError", "free_port", "grpc_echo", "hostler", "reference"]

START_S: Final = 120.0
STOP_S: Final = 30.0
READY: Final = "/v2/health/ready"


class ServerError(Exception):
    """A process under test did not start, died, or did not stop cleanly."""


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process; ready inside the `with` block, stopped by SIGTERM after it.

    `command`: what to run, `--port N` is added. `await_ready` False gives it as soon as it is
    spawned, for those who measure how long it takes. `end_codes`: how it may end after SIGTERM.
    `ready`: whether the server on this port can be asked; by default over V2 HTTP.
    """

    def __init__(
        self,
        command: list[str],
        *,
        await_ready: bool = True,
        end_codes: tuple[int, ...] = (0,),
        ready: Callable[[int], bool] | None = None,
    ) -> None:
        self.port = free_port()
        self._ready = ready or answers
        self._command = [*command, "--port", str(self.port)]
        self._await_ready = await_ready
        self._end_codes = end_codes
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process; only inside the `with` block."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT
            )
        except FileNotFoundError:
            raise ServerError(f"{self._command[0]} is not installed; run make setup") from None
        if self._await_ready:
            try:
                self._wait()
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerError(f"{self._name} did not stop in {STOP_S:g} s") from error
        if code not in self._end_codes and error is None:
            raise ServerError(f"{self._name} ended with {code}: {self._tail()}")

    def check_alive(self) -> None:
        """Raises: ServerError with its last words, if the process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerError(f"{self._name} ended early: {self._tail()}")

    @property
    def _name(self) -> str:
        return " ".join(Path(part).name for part in self._command[:3])

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._ready(self.port):
            self.check_alive()
            if time.monotonic() > deadline:
                raise ServerError(f"{self._name} is not ready after {START_S:g} s: {self._tail()}")
            time.sleep(0.02)

    def _tail(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-2000:]


def answers(port: int) -> bool:
    """Whether the server says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", READY)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def hostler(path: Path, *flags: str, await_ready: bool = True) -> Server:
    """`hostler serve PATH`, with default settings but for the flags and the port of gRPC.

    The port after that of HTTP, which is the default, may be anybody's.
    """
    command = str(Path(sys.executable).with_name("hostler"))
    ports = () if "--grpc-port" in flags else ("--grpc-port", "0")
    return Server([command, "serve", str(path), *flags, *ports], await_ready=await_ready)


def reference(model: Path, threads: int) -> Server:
    """The bare ASGI reference; `threads` 0 leaves the choice to onnxruntime."""
    command = [sys.executable, "-m", "bench.reference_asgi", str(model), "--threads", str(threads)]
    return Server(command, end_codes=(0, -signal.SIGTERM))  # uvicorn raises its signal again


def grpc_echo() -> Server:
    """The bare gRPC reference."""
    return Server([sys.executable, "-m", "bench.reference_grpc"], ready=accepts)
