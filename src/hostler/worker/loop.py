"""One message after the other: open, start, run, stop.

server -> worker   open     runtime and task             -> opened (what the model says) | failed
                   start    completed configuration      -> ready | failed
                   arena    size, descriptor beside it   (no reply)
                   run      requests, region, grant      -> result
                   stop                                  -> the worker ends
worker -> server   result   of a run: one a request, null where its response sender answers it
                   released runs whose slab space user code has let go
                   metrics  of the model's own that have changed

While user code runs (streams.py, calls.py), from any thread:

worker -> server   response run, index, final: one more    -> credit (count and bytes taken) | gone
                   ask      run, index: is it cancelled?   -> answer
                   invoke   ask another model, or for its signature -> invoked, once or many times
                   taken    answers of a call that were taken, which makes room for more
                   cancel   no more answers of a call are wanted
"""

from __future__ import annotations

import contextlib
import gc
import socket
import sys
import time
import weakref
from typing import Any, Callable

from .adapters import Adapter, adapter_for
from .channel import Channel, Frame, Slab
from .errors import Failure
from .exchange import Exchange
from .limits import LOADING_BYTES, RUNNING_BYTES, limit_memory
from .results import ResultWriter
from .task import Answer, Request, Task
from .tensors import Inputs
from .variables import set_variables

__all__ = ["serve"]

IDLE_S = 1.0
"""How often an idle worker looks whether user code has let go of slab memory."""


class Stop(Exception):
    """The server has asked this worker to end."""


def serve(connection: socket.socket) -> None:
    """Answer messages until `stop` or until the server is gone."""
    worker = Worker(Channel(connection))
    try:
        worker.serve()
    except (EOFError, ConnectionError, Stop):
        pass
    finally:
        worker.close()


class Worker:
    """The state of this process between messages."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._adapter: Adapter | None = None
        self._task: Task
        self._results: ResultWriter
        self._exchange: Exchange
        self._slab: Slab | None = None
        self._kept: dict[int, weakref.ReferenceType[Any]] = {}
        self._handlers: dict[str, Callable[[Frame], None]] = {
            "open": self._open,
            "start": self._start,
            "arena": self._arena,
            "run": self._run,
            "landed": self._landed,
            "stop": self._stop,
        }

    def serve(self) -> None:
        """Take messages for ever. Raises: Stop, EOFError."""
        while True:
            frame = self._channel.receive(IDLE_S if self._kept else None)
            if frame is None:
                gc.collect()
                self._tell_released()
            else:
                self._handlers[frame.header["op"]](frame)

    def close(self) -> None:
        """Let the model clean up; what it raises is printed."""
        if self._adapter is None:
            return
        try:
            self._adapter.close()
        except Exception as error:  # noqa: BLE001 - user code, and it goes to the log
            self._results.failure(error, "failed in finalize")
        with contextlib.suppress(OSError):
            self._exchange.report()
        sys.stdout.flush()

    def _open(self, frame: Frame) -> None:
        header = frame.header
        self._task = task = Task(header)
        inline_bytes_max, frame_bytes_max = header["inline_bytes_max"], header["frame_bytes_max"]
        self._results = results = ResultWriter(task, inline_bytes_max, frame_bytes_max)
        window = header["stream_responses_max"], header["stream_bytes_max"]
        self._exchange = exchange = Exchange(self._channel, results, *window)
        set_variables(header.get("variables", {}))
        limit_memory(task.memory_bytes_max, LOADING_BYTES)
        try:
            adapter = adapter_for(header["runtime"], exchange)
            found = adapter.open(task)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            self._send_failed(error, "cannot be loaded")
            return
        self._adapter = adapter
        self._channel.send({"op": "opened", "found": found})

    def _start(self, frame: Frame) -> None:
        assert self._adapter is not None
        try:
            self._adapter.start(frame.header["config"])
            limit_memory(self._task.memory_bytes_max, RUNNING_BYTES)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            self._send_failed(error, "failed in initialize")
            return
        self._channel.send({"op": "ready"})

    def _arena(self, frame: Frame) -> None:
        self._slab = self._channel.take_slab(frame.header["size"])

    def _stop(self, frame: Frame) -> None:
        raise Stop

    def _landed(self, frame: Frame) -> None:
        """A call that the adapter made and did not wait for has its answer (calls.py)."""
        self._exchange.landed(frame.header["call"])

    def _run(self, frame: Frame) -> None:
        run = frame.header["run"]
        header, buffers, watched = self._answer(frame)
        if watched is not None and watched() is not None:
            self._kept[run] = watched
            header["kept"] = True
        header["run"] = run
        header["op"] = "result"
        self._exchange.report()
        self._channel.send(header, buffers)
        if self._kept:
            self._tell_released()

    def _answer(
        self, frame: Frame
    ) -> tuple[dict[str, Any], list[Any], weakref.ReferenceType[Any] | None]:
        """Run one batch; on return nothing of ours refers to its inputs any more."""
        assert self._adapter is not None
        header = frame.header
        begin = time.monotonic()
        inputs = Inputs(frame, self._slab, self._adapter.writable)
        run = header["run"]
        requests = [
            Request(request, inputs, run, index) for index, request in enumerate(header["requests"])
        ]
        watched = inputs.watch()
        del inputs
        loaded = time.monotonic()
        results: list[Answer | Failure | None]
        try:
            results = self._adapter.execute(requests)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
            failure = self._results.failure(error, "failed in execute")
            results = [failure] * len(requests)
        del requests
        done = time.monotonic()
        reply, buffers = self._results.all(results, self._slab, header["grant"])
        times = (loaded - begin, done - loaded, time.monotonic() - done)
        reply["times"] = times
        return reply, buffers, watched

    def _tell_released(self) -> None:
        released = [run for run, root in self._kept.items() if root() is None]
        if released:
            for run in released:
                del self._kept[run]
            self._channel.send({"op": "released", "runs": released})

    def _send_failed(self, error: BaseException, doing: str) -> None:
        failure = self._results.failure(error, doing)
        self._channel.send({"op": "failed", "code": failure.code, "message": failure.message})
