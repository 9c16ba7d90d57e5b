"""Answers that a model sends when it likes, and whether anybody still waits for them."""

from __future__ import annotations

import threading
from typing import Any

from .channel import Channel, Frame
from .chores import Chores
from .errors import Failure
from .results import ResultWriter
from .task import Answer

__all__ = ["Streams", "Window"]


class Window:
    """The responses to one request that the server has not acknowledged.

    `gone`: nobody wants more of them. Fields are guarded by the channel's lock.
    """

    __slots__ = ("bytes", "count", "gone", "index", "run", "signal")

    def __init__(self, run: int, index: int) -> None:
        self.run = run
        self.index = index
        self.count = 0
        self.bytes = 0
        self.gone = False
        self.signal: threading.Condition | None = None


class Streams:
    """Sends responses one by one, at most a window ahead of their reader.

    `count_max`, `bytes_max`: a window; it may be passed by the size of one response. Any thread.
    """

    def __init__(
        self, channel: Channel, results: ResultWriter, chores: Chores, count_max: int,
        bytes_max: int,
    ) -> None:  # fmt: skip
        self._channel = channel
        self._results = results
        self._chores = chores
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._windows: dict[tuple[int, int], Window] = {}
        self._asked = 0
        self._answers: dict[int, bool | None] = {}
        self._signals: dict[int, threading.Condition] = {}
        channel.on("answer", self._on_answer)
        channel.on("credit", self._on_credit)
        channel.on("gone", self._on_gone)

    def open(self, run: int, index: int) -> Window:
        """The window of a request that will be answered through `respond`."""
        self._chores.start()
        window = Window(run, index)
        with self._channel.lock:
            self._windows[run, index] = window
        return window

    def respond(self, window: Window, result: Answer | Failure | None, *, final: bool) -> bool:
        """Send a response, an error, or None with `final` for a bare end.

        Waits while the window is full, unless this is the final one. Responses that nobody waits
        for any more are dropped. Gives whether this ended the request, as an error does. Raises:
        EOFError, OSError when the server has gone.
        """
        if not final and not self._reserve(window):
            return False
        header: dict[str, Any] = {}
        buffers: list[Any] = []
        size = 0
        if result is not None:
            header, buffers, size = self._results.one(result)
            final = final or "error" in header
        header["op"] = "response"
        header["run"] = window.run
        header["index"] = window.index
        header["final"] = final
        with self._channel.lock:
            if final:
                self._windows.pop((window.run, window.index), None)
            else:
                window.bytes += size
        self._channel.send(header, buffers)
        return final

    def close(self, window: Window) -> None:
        """Nothing more is sent through it; whoever waits for room is let off."""
        with self._channel.lock:
            self._windows.pop((window.run, window.index), None)
            _end(window)

    def let_go(self, window: Window, why: Failure) -> None:
        """End a request whose sender was let go of; may be called from a destructor."""
        self._chores.do(lambda: self.respond(window, why, final=True))

    def cancelled(self, run: int, index: int) -> bool:
        """Whether nobody waits for this request any more; asks the server."""
        channel = self._channel
        signal = channel.signal()
        with channel.lock:
            self._asked += 1
            number = self._asked
            self._answers[number] = None
            self._signals[number] = signal
        try:
            channel.send({"op": "ask", "ask": number, "run": run, "index": index})
            with channel.lock:
                channel.wait(signal, lambda: self._answers[number] is not None)
                return bool(self._answers[number])
        except (EOFError, OSError):
            return True
        finally:
            with channel.lock:
                del self._answers[number], self._signals[number]

    def _reserve(self, window: Window) -> bool:
        """Wait for room for one response; False when nobody wants it."""
        channel = self._channel
        with channel.lock:
            if not self._has_room(window):
                if window.signal is None:
                    window.signal = channel.signal()
                channel.wait(window.signal, lambda: self._has_room(window))
            window.count += 1
            return not window.gone

    def _has_room(self, window: Window) -> bool:
        return window.gone or (window.count < self._count_max and window.bytes < self._bytes_max)

    def _on_answer(self, frame: Frame) -> None:
        number = frame.header["ask"]
        if number in self._answers:
            self._answers[number] = frame.header["cancelled"]
            self._signals[number].notify_all()

    def _on_credit(self, frame: Frame) -> None:
        header = frame.header
        window = self._windows.get((header["run"], header["index"]))
        if window is not None:
            window.count -= header["count"]
            window.bytes -= header["bytes"]
            if window.signal is not None:
                window.signal.notify_all()

    def _on_gone(self, frame: Frame) -> None:
        run, index = frame.header["run"], frame.header["index"]
        for window in list(self._windows.values()):
            if window.run == run and index in (None, window.index):
                _end(window)


def _end(window: Window) -> None:
    window.gone = True
    if window.signal is not None:
        window.signal.notify_all()
