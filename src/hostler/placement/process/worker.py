"""One worker process from launch to reaping: its socket, its output, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from typing import Any, Protocol

from hostler.core import Clock, Code, HostlerError, ModelSpec
from hostler.placement.process.config import Config
from hostler.placement.process.frames import BadFrame, Frame, FrameDecoder, encode
from hostler.placement.process.launch import Launched, describe_exit, launch
from hostler.placement.process.output import WorkerOutput

__all__ = ["Worker", "WorkerListener"]

OUTPUT_READ_BYTES = 64 * 1024
DRAIN_READS_MAX = 4096
FLUSH_BYTES = 4 << 20
TERM_WAIT_S = 0.5
EOF_WAIT_S = 1.0
TAIL_LINES = 5


class WorkerListener(Protocol):
    """Who is told what a worker says once it is up. Loop thread only."""

    def worker_said(self, worker: Worker, frame: Frame) -> None:
        """A result or response, a question, a call to another model, metrics."""
        ...

    def worker_exited(self, worker: Worker) -> None:
        """The process has ended and everything it had said was delivered; `exit_text` is set."""
        ...


class Worker:
    """A process and the server's ends of its socket and pipe. Loop thread only.

    `name`: of the replica, for logs. `exit_text`: how it ended, in words ("was killed by SIGSEGV");
    "" while it lives.
    `closing`: it was told to stop, so its end is no failure. `listener`: set it once it is up.
    """

    def __init__(
        self, model: str, name: str, config: Config, clock: Clock, memory_bytes_max: int
    ) -> None:
        self.name = name
        self.exit_text = ""
        self.closing = False
        self.listener: WorkerListener | None = None
        self.memory_bytes_max = memory_bytes_max
        self._model = model
        self._config = config
        self._output = WorkerOutput(
            name, clock, config.output_lines_max, config.output_lines_per_s_max
        )
        self._decoder = FrameDecoder(config.frame_bytes_max)
        self._backlog: deque[tuple[memoryview, int | None]] = deque()
        self._kill_reason = ""
        self._loop: asyncio.AbstractEventLoop
        self._launched: Launched
        self._connected = False
        self._exited: asyncio.Future[None]
        self._reply: asyncio.Future[dict[str, Any]] | None = None

    @property
    def pid(self) -> int:
        """Its process id; another process may have it once `exit_text` is set."""
        return self._launched.process.pid

    def launch(self, spec: ModelSpec, threads: int) -> None:
        """Start the process, see `launch`. Raises: UNAVAILABLE when the system cannot."""
        self._loop = asyncio.get_running_loop()
        try:
            self._launched = launched = launch(spec, threads)
        except OSError as error:
            raise HostlerError(
                Code.UNAVAILABLE, f"model '{self._model}': cannot start a worker process: {error}"
            ) from None
        self._exited = self._loop.create_future()
        self._connected = True
        self._loop.add_reader(launched.connection.fileno(), self._readable)
        self._loop.add_reader(launched.output, self._output_readable)
        self._loop.add_reader(launched.pidfd, self._ended)

    async def call(self, header: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a control message and wait for its reply.

        Raises: HostlerError as the worker says, or UNAVAILABLE if it ends or does not answer
        (it is killed then).
        """
        if self.exit_text:
            raise self.lost()
        self._reply = self._loop.create_future()
        self.post(encode(header))
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._reply
        except TimeoutError:
            self.kill(f"did not answer '{header['op']}' within {timeout_s:g} s (load_timeout_s)")
            await self.wait()
            raise self.lost() from None
        finally:
            self._reply = None
        if reply["op"] == "failed":
            raise HostlerError(Code(reply["code"]), reply["message"])
        return reply

    def post(self, frame: bytes | memoryview, descriptor: int | None = None) -> None:
        """Send a frame or the next piece of one; a file descriptor with it is closed once sent."""
        if not self._connected:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._backlog.append((memoryview(frame), descriptor))
        if len(self._backlog) == 1:
            self._flush()

    def kill(self, reason: str = "") -> None:
        """End the process at once; `reason` then stands for how it ended."""
        if self.exit_text:
            return
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    async def stop(self, timeout_s: float) -> None:
        """Let it finish its run and finalize, then end it by force; returns once it is reaped."""
        self.closing = True
        if not self.exit_text:
            self.post(encode({"op": "stop"}))
            if not await self._ends_within(timeout_s):
                self._signal(signal.SIGTERM)
                if not await self._ends_within(TERM_WAIT_S):
                    self._signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> None:
        """Until it has ended and is reaped."""
        await asyncio.shield(self._exited)

    def lost(self) -> HostlerError:
        """UNAVAILABLE that says how it ended, with its last lines of output."""
        text = f"model '{self._model}': its worker process {self.exit_text} while loading"
        return HostlerError(Code.UNAVAILABLE, text + self.last_words())

    def last_words(self) -> str:
        """Its last lines of output, to be put at the end of a message; "" if it said nothing."""
        tail = self._output.tail(TAIL_LINES)
        return f"; its last output: {tail}" if tail else ""

    async def _ends_within(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.wait()
        return bool(self.exit_text)

    def _signal(self, number: signal.Signals) -> None:
        if not self.exit_text:
            signal.pidfd_send_signal(self._launched.pidfd, number)

    def _flush(self) -> None:
        connection = self._launched.connection
        left = FLUSH_BYTES
        while self._backlog:
            data, descriptor = self._backlog[0]
            if left <= 0:  # let the loop do other things
                self._loop.add_writer(connection.fileno(), self._flush)
                return
            try:
                if descriptor is None:
                    sent = connection.send(data)
                else:
                    sent = socket.send_fds(connection, [data], [descriptor])
                    os.close(descriptor)
            except BlockingIOError:
                self._loop.add_writer(connection.fileno(), self._flush)
                return
            except OSError:
                # It is ending; the pidfd will say so.
                self._drop_backlog()
                break
            left -= sent
            if sent < len(data):
                self._backlog[0] = (data[sent:], None)
            else:
                self._backlog.popleft()
        self._loop.remove_writer(connection.fileno())

    def _drop_backlog(self) -> None:
        for _, descriptor in self._backlog:
            if descriptor is not None:
                os.close(descriptor)
        self._backlog.clear()

    def _readable(self) -> bool:
        """Take what has come; False when there is nothing (more)."""
        try:
            count = self._launched.connection.recv_into(self._decoder.free())
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if not count:
            self._loop.remove_reader(self._launched.connection.fileno())
            # Only a hint: its end shows at the pidfd, and user code may have closed the socket.
            self._loop.call_later(EOF_WAIT_S, self.kill, "closed its connection")
            return False
        try:
            for frame in self._decoder.received(count):
                self._dispatch(frame)
        except BadFrame as error:
            self._loop.remove_reader(self._launched.connection.fileno())
            self.kill(f"sent an unreadable message ({error}) and was killed")
            return False
        return True

    def _dispatch(self, frame: Frame) -> None:
        if frame.header.get("op") in ("opened", "ready", "failed"):
            if self._reply is not None and not self._reply.done():
                self._reply.set_result(frame.header)
        else:
            self._tell(frame)

    def _tell(self, frame: Frame) -> None:
        if self.listener is None or self.exit_text:
            return
        try:
            self.listener.worker_said(self, frame)
        except (
            ValueError, LookupError, TypeError, AttributeError, OverflowError, HostlerError,
        ) as error:  # fmt: skip
            self.kill(f"sent a message that makes no sense ({error!r}) and was killed")

    def _output_readable(self) -> bool:
        try:
            data = os.read(self._launched.output, OUTPUT_READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._launched.output)
            return False
        self._output.feed(data)
        return True

    def _ended(self) -> None:
        """The process has ended: hear its last words, then clean up and tell."""
        launched = self._launched
        self._loop.remove_reader(launched.pidfd)
        reads = 0
        while reads < DRAIN_READS_MAX and self._readable():
            reads += 1
        reads = 0
        while reads < DRAIN_READS_MAX and self._output_readable():
            reads += 1
        self._output.finish()
        # Not reaped yet, so its number still means its own group: end what user code left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = launched.process.wait()
        self.exit_text = self._kill_reason or describe_exit(code, self.memory_bytes_max)
        self._disconnect()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(self.lost())
        self._exited.set_result(None)
        if self.listener is not None:
            self.listener.worker_exited(self)

    def _disconnect(self) -> None:
        launched = self._launched
        self._connected = False
        self._drop_backlog()
        self._loop.remove_reader(launched.connection.fileno())
        self._loop.remove_writer(launched.connection.fileno())
        self._loop.remove_reader(launched.output)
        launched.connection.close()
        os.close(launched.output)
        os.close(launched.pidfd)
