"""Calls that the model in a worker makes to other models. Loop thread only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from hostler.core import (
    Clock,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    Invoke,
    RequestedOutput,
)
from hostler.placement.process.batches import pack_outputs, unpack_inputs
from hostler.placement.process.config import Config
from hostler.placement.process.frames import Frame, encode, encode_head
from hostler.placement.process.runs import Run

__all__ = ["WorkerCalls"]

log = logging.getLogger("hostler.placement")

_JOINED_BYTES_MAX: Final = 1 << 18
"""Answers up to this size are joined to one buffer; larger ones are sent as they lie."""

Post = Callable[[bytes | memoryview], None]


class _Call:
    """One open call.

    `run`: whose `execute` waits for it, or None; `awaited` while it does. `room`: set while the
    worker can take another answer. `ahead_*`: what it has not taken.
    """

    __slots__ = (
        "ahead_bytes",
        "ahead_count",
        "awaited",
        "context",
        "model",
        "number",
        "room",
        "run",
        "task",
    )

    def __init__(self, number: int, model: str, run: Run | None, context: Context) -> None:
        self.number = number
        self.model = model
        self.run = run
        self.awaited = False
        self.context = context
        self.room = asyncio.Event()
        self.room.set()
        self.ahead_count = 0
        self.ahead_bytes = 0
        self.task: asyncio.Task[None] | None = None


class WorkerCalls:
    """The calls of one replica's worker to other models. `model`: who calls."""

    def __init__(self, model: str, config: Config, clock: Clock, invoke: Invoke) -> None:
        self._model = model
        self._config = config
        self._clock = clock
        self._invoke = invoke
        self._open: dict[int, _Call] = {}
        self._refused: HostlerError | None = None

    def begin(self, frame: Frame, run: Run | None, post: Post) -> None:
        """Take an `invoke` message. `run`: the one in whose behalf it is made, if that is known.

        Raises: ValueError, KeyError, TypeError, IndexError for one that makes no sense.
        """
        header = frame.header
        number, model, version = header["call"], header["model"], header["version"]
        whole = isinstance(number, int) and isinstance(version, int)
        if not whole or number in self._open or not isinstance(model, str):
            raise ValueError(f"a call numbered {number!r} to {model!r}")
        context = self._context(header, run)
        waiting = None if run is None or run.returned else run
        call = _Call(number, model, waiting, context)
        try:
            if self._refused is not None:
                raise self._refused
            if len(self._open) >= self._config.calls_max:
                raise self._too_many()
            request = _request(header, frame.body, context)
        except HostlerError as error:
            _answer_error(call, error, post)
            return
        self._open[number] = call
        self._wait_for(call)
        asked = self._stream if header["stream"] else self._infer
        if header.get("describe"):
            asked = self._describe
        work = asked(call, None if version < 0 else version, request, post)
        call.task = asyncio.get_running_loop().create_task(work)
        call.task.add_done_callback(lambda task: self._ended(call, task, post))

    def taken(self, header: Mapping[str, Any]) -> None:
        """The worker has taken answers of a call."""
        call = self._open.get(header["call"])
        if call is not None:
            call.ahead_count -= header["count"]
            call.ahead_bytes -= header["bytes"]
            if self._has_room(call):
                call.room.set()

    def cancel(self, number: int) -> None:
        """The worker wants no more answers of a call."""
        call = self._open.get(number)
        if call is not None:
            self._drop(call)

    def returned(self) -> None:
        """What it executed has returned, so calls that go on are not waited for."""
        for call in self._open.values():
            call.run = None

    def end_all(self) -> None:
        """The worker has gone, or its model is going: nobody wants answers."""
        self.returned()
        dropped, self._open = self._open, {}
        for call in dropped.values():
            self._drop(call)

    def refuse(self, why: HostlerError) -> None:
        """Make no more calls, for the model is going; those that are open are ended."""
        self._refused = why
        self.end_all()

    # -- one call --------------------------------------------------------------------------

    def _context(self, header: Mapping[str, Any], run: Run | None) -> Context:
        if run is None:
            context = Context(call_path=(self._model,))
        else:
            context = run.child_context(header["index"], self._model)
        context.queue_timeout_s = header["timeout_us"] / 1e6
        if self._config.call_timeout_s:
            latest = self._clock.now() + self._config.call_timeout_s
            context.deadline = min(context.deadline, latest)
        return context

    async def _infer(
        self, call: _Call, version: int | None, request: InferRequest, post: Post
    ) -> None:
        response = await self._invoke.infer(call.model, version, request)
        _answer(call, response, True, post)

    async def _describe(
        self, call: _Call, version: int | None, request: InferRequest, post: Post
    ) -> None:
        found = await self._invoke.signature(call.model, version, request.context)
        takes = [
            (s.name, s.datatype.name, found.metadata_shape(s), s.optional) for s in found.inputs
        ]
        header = {"op": "invoked", "call": call.number, "final": True, "takes": takes}
        post(encode(header))

    async def _stream(
        self, call: _Call, version: int | None, request: InferRequest, post: Post
    ) -> None:
        stream = await self._invoke.stream(call.model, version, request)
        try:
            async for response in stream:
                size = _answer(call, response, response.final, post)
                if response.final:
                    return
                call.ahead_count += 1
                call.ahead_bytes += size
                if not self._has_room(call):
                    # Its model has answers and does not take them: that is time of its own.
                    self._wait_no_more(call)
                    call.room.clear()
                    await call.room.wait()
                    self._wait_for(call)
        finally:
            stream.close()
        _answer(call, None, True, post)

    def _has_room(self, call: _Call) -> bool:
        config = self._config
        few = call.ahead_count < config.stream_responses_max
        return few and call.ahead_bytes < config.stream_bytes_max

    def _wait_for(self, call: _Call) -> None:
        if call.run is not None:
            call.run.begin_call(self._clock.now())
            call.awaited = True

    def _wait_no_more(self, call: _Call) -> None:
        if call.run is not None and call.awaited:
            call.run.end_call(self._clock.now())
            call.awaited = False

    def _drop(self, call: _Call) -> None:
        call.context.cancel()
        if call.task is not None:
            call.task.cancel()

    def _ended(self, call: _Call, task: asyncio.Task[None], post: Post) -> None:
        """Whatever it ended with, the worker hears of it, unless it has gone."""
        if self._open.get(call.number) is call:
            del self._open[call.number]
        self._wait_no_more(call)
        if task.cancelled():
            text = f"the call to model '{call.model}' was cancelled"
            _answer_error(call, HostlerError(Code.CANCELLED, text), post)
            return
        error = task.exception()
        if isinstance(error, HostlerError):
            _answer_error(call, error, post)
        elif error is not None:
            event = {"model": self._model, "calls": call.model}
            log.error("worker.call_failed", exc_info=error, extra={"event": event})
            text = f"the call to model '{call.model}' could not be made; the server's log says why"
            _answer_error(call, HostlerError(Code.INTERNAL, text), post)

    def _too_many(self) -> HostlerError:
        return HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"a worker of model '{self._model}' has {len(self._open)} calls to other models open, "
            "the limit of calls_max",
        )


def _request(header: Mapping[str, Any], body: memoryview, context: Context) -> InferRequest:
    parameters = header["parameters"]
    if not all(isinstance(value, str | int | float) for value in parameters.values()):
        raise ValueError("parameters of a call are not plain")
    return InferRequest(
        unpack_inputs(header["inputs"], body),
        id=header["id"],
        outputs=[RequestedOutput(name) for name in header["outputs"]] or None,
        parameters=parameters,
        context=context,
    )


def _answer(call: _Call, response: InferResponse | None, final: bool, post: Post) -> int:
    """Send an answer, or None for an end without one; gives its bytes."""
    header: dict[str, Any] = {"op": "invoked", "call": call.number, "final": final}
    if response is None:
        post(encode(header))
        return 0
    described, body = pack_outputs(response.outputs)
    header["outputs"] = described
    header["parameters"] = dict(response.parameters)
    size = sum([len(part) for part in body])
    if size <= _JOINED_BYTES_MAX:
        post(encode(header, body))
    else:
        post(encode_head(header, size))
        for part in body:
            post(memoryview(part))
    return size


def _answer_error(call: _Call, error: HostlerError, post: Post) -> None:
    told = [error.code.value, error.message]
    post(encode({"op": "invoked", "call": call.number, "final": True, "error": told}))
