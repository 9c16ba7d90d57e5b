"""Questions to other models of the server, and their answers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from typing import Any

from .channel import Channel, Frame
from .chores import Chores
from .errors import Failure
from .tensors import Output, Writer

__all__ = ["Call", "Calls"]

NO_GRANT = [0, 0]


class Call:
    """One question. Fields are guarded by the channel's lock.

    `frames`: answers that nobody has taken yet; once `ended` is set no more will come. `owed_*`:
    what was taken and not yet acknowledged. `announced`: its end is an order to the main thread.
    """

    __slots__ = (
        "announced", "ended", "frames", "number", "owed_bytes", "owed_count", "signal", "waiter",
    )  # fmt: skip

    def __init__(self, number: int, signal: threading.Condition, announced: bool) -> None:
        self.number = number
        self.announced = announced
        self.signal = signal
        self.frames: collections.deque[Frame] = collections.deque()
        self.ended = False
        self.owed_count = 0
        self.owed_bytes = 0
        self.waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def has_news(self) -> bool:
        """Whether there is an answer to take, or none will come."""
        return bool(self.frames) or self.ended


class Calls:
    """The open calls of this worker. Any thread, any event loop.

    `count_max`, `bytes_max`: how far the server may be ahead of whoever takes the answers.
    `frame_bytes_max`: the largest body that the server takes.
    """

    def __init__(
        self, channel: Channel, chores: Chores, count_max: int, bytes_max: int,
        frame_bytes_max: int,
    ) -> None:  # fmt: skip
        self._channel = channel
        self._chores = chores
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._numbered = 0
        self._open: dict[int, Call] = {}
        self._awaiting: set[Call] = set()
        self._awaited = channel.signal()
        self._reader: threading.Thread | None = None
        channel.on("invoked", self._on_invoked)

    def begin(
        self, header: dict[str, Any], inputs: list[Output], *, announced: bool = False
    ) -> Call:
        """Ask. `header`: of the frame `invoke`, without its number and its tensors.

        `announced`: once it has ended the main thread gets an order, `landed`, and need not wait.
        Raises: Failure, ValueError, TypeError for what cannot be sent; OSError when the server has
        gone.
        """
        self._chores.start()
        writer = Writer(None, NO_GRANT, 0)
        header["op"] = "invoke"
        header["inputs"] = writer.write(inputs)
        if writer.body_bytes > self._frame_bytes_max:
            raise Failure(
                "PAYLOAD_TOO_LARGE",
                "inputs of {} bytes for model '{}' exceed the limit of {} bytes for one message "
                "(worker frame_bytes_max)".format(
                    writer.body_bytes, header["model"], self._frame_bytes_max
                ),
            )
        with self._channel.lock:
            self._numbered += 1
            call = Call(self._numbered, self._channel.signal(), announced)
            self._open[call.number] = call
        header["call"] = call.number
        try:
            self._channel.send(header, writer.buffers)
        except BaseException:
            with self._channel.lock:
                del self._open[call.number]
            raise
        return call

    def take(self, call: Call) -> Frame | None:
        """The next answer, waiting for it; None when the server has gone or there are no more."""
        channel = self._channel
        with channel.lock:
            try:
                channel.wait(call.signal, call.has_news)
            except EOFError:
                return None
            frame, debt = self._pop(call)
        self._pay(debt)
        return frame

    async def take_soon(self, call: Call) -> Frame | None:
        """As `take`, for an event loop."""
        channel = self._channel
        loop = asyncio.get_running_loop()
        while True:
            with channel.lock:
                if call.has_news():
                    frame, debt = self._pop(call)
                    break
                if call.waiter is not None:
                    raise Failure("INVALID_ARGUMENT", "two tasks wait for answers of one call")
                future: asyncio.Future[None] = loop.create_future()
                call.waiter = (loop, future)
                self._awaiting.add(call)
                self._start_reading()
            try:
                await future
            finally:
                with channel.lock:
                    call.waiter = None
                    self._awaiting.discard(call)
        self._pay(debt)
        return frame

    def cancel(self, call: Call) -> None:
        """Tell the server that no more answers are wanted; it will end the call."""
        with self._channel.lock:
            if call.ended:
                return
        self._channel.send({"op": "cancel", "call": call.number})

    def let_go(self, call: Call) -> None:
        """Nobody will take the answers of this call; may be called from a destructor."""
        self._chores.do(lambda: self.cancel(call))

    def _pop(self, call: Call) -> tuple[Frame | None, dict[str, Any] | None]:
        """The next answer, and what to acknowledge."""
        if not call.frames:
            return None, None
        frame = call.frames.popleft()
        call.owed_count += 1
        call.owed_bytes += len(frame.body)
        half_way = 2 * call.owed_count >= self._count_max or 2 * call.owed_bytes >= self._bytes_max
        if call.ended or not half_way:
            return frame, None
        debt = {"op": "taken", "call": call.number}
        debt["count"], debt["bytes"] = call.owed_count, call.owed_bytes
        call.owed_count = call.owed_bytes = 0
        return frame, debt

    def _pay(self, debt: dict[str, Any] | None) -> None:
        if debt is not None:
            self._channel.send(debt)

    def _on_invoked(self, frame: Frame) -> None:
        call = self._open.get(frame.header["call"])
        if call is None:
            return
        if not frame.header.get("bare"):
            call.frames.append(frame)
        if frame.header["final"]:
            call.ended = True
            del self._open[call.number]
            if call.announced:
                landed = {"op": "landed", "call": call.number}
                self._channel.order(Frame(landed, bytearray()))
        call.signal.notify_all()
        if call.waiter is not None:
            self._wake(*call.waiter)
            self._awaiting.discard(call)

    def _wake(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, so nobody waits
            loop.call_soon_threadsafe(_resolve, future)

    # -- reading for event loops -----------------------------------------------------------

    def _start_reading(self) -> None:
        """With the lock held: somebody must read, because no thread waits for these answers."""
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name="hostler-reader", daemon=True)
            self._reader.start()
        if len(self._awaiting) == 1:
            self._awaited.notify()

    def _read(self) -> None:
        channel = self._channel
        with channel.lock:
            try:
                while True:
                    while not self._awaiting:
                        self._awaited.wait()
                    channel.wait(self._awaited, lambda: not self._awaiting)
            except EOFError:
                for call in self._open.values():
                    call.ended = True
                    if call.waiter is not None:
                        self._wake(*call.waiter)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
