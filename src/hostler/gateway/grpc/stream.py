"""ModelStreamInfer: many requests on one call, for any models, answered as the answers come.

Requests of one model are submitted in the order they came, and answered in it unless the model is
decoupled; clients that match answers by their place count on that. Those of different models do not
wait for one another. Responses of one request keep their order. A request that fails is told so in
a message of its own, and the stream goes on.

Source: Triton `stream_infer_handler.cc`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from grpc.aio import EOF, BaseError

from hostler.core import (
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ResponseStream,
)
from hostler.gateway.grpc.calls import Call, Calls, expected
from hostler.gateway.grpc.entry import current
from hostler.gateway.ports import Live, Serving
from hostler.gateway.shared import Shared
from hostler.protocols.oip import Regions
from hostler.protocols.oip import grpc as wire

__all__ = ["Streams"]

_NAME: Final = "ModelStreamInfer"
_STOPPING: Final = "the server is stopping; open a new stream to another one"
_STOPPED: Final = "the server stopped before the model had sent all responses"

_Key = tuple[str, int | None]


class Streams:
    """The open streams; `drain` has them take nothing more, and end. Loop thread only.

    `requests_max`: of one stream, from reading to last response; more are not read.
    """

    def __init__(self, calls: Calls, serving: Serving, shared: Shared, requests_max: int) -> None:
        self.calls = calls
        self.serving = serving
        self.held = shared.held
        self.regions: Regions | None = shared.memory if shared.memory.offered else None
        self.requests_max = requests_max
        self._open: set[_Stream] = set()

    async def infer(self, call: Call, deadline: float) -> None:
        """Serve one call of ModelStreamInfer; see `Streaming`. Raises: UNAVAILABLE to end it."""
        stream = _Stream(self, call)
        self._open.add(stream)
        try:
            await stream.run()
        finally:
            self._open.discard(stream)

    def drain(self) -> None:
        """Have every stream finish what it has taken, and no more."""
        for stream in self._open:
            stream.drain()

    def give_up(self) -> None:
        """End every request that is not answered; its client is told."""
        for stream in self._open:
            stream.give_up()


class _Turn:
    """The place of one request among those of its model. `before`: is done when theirs is over."""

    __slots__ = ("before", "mine")

    def __init__(self, before: asyncio.Future[None] | None) -> None:
        self.before = before
        self.mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Wait until all earlier ones are over."""
        if self.before is not None:
            await self.before

    def over(self) -> None:
        """Nothing more will be written for it. Idempotent."""
        if not self.mine.done():
            self.mine.set_result(None)


class _Asked:
    """One request: its message, and what is held for it.

    `turn`: when it may be answered, None for at once. `principal`: who asks, once known.
    """

    __slots__ = ("deadline", "message", "principal", "size", "turn")

    def __init__(self, message: wire.InferMessage, size: int, deadline: float) -> None:
        self.message = message
        self.size = size
        self.deadline = deadline
        self.turn: _Turn | None = None
        self.principal: str | None = None


class _Stream:
    def __init__(self, streams: Streams, call: Call) -> None:
        self._streams = streams
        self._calls = streams.calls
        self._call = call
        self._task = asyncio.current_task()
        self._visit = current()
        self._tasks: set[asyncio.Task[None]] = set()
        self._queues: dict[_Key, deque[_Asked]] = {}
        self._turns: dict[str, _Turn] = {}
        self._answering: dict[ResponseStream, InferRequest] = {}
        self._in_flight = 0
        self._room: asyncio.Future[None] | None = None
        self._writing = asyncio.Lock()
        self._reading = False
        self._heard_all = False
        self._draining = streams.calls.draining.is_set()
        self._broken: HostlerError | None = None

    async def run(self) -> None:
        """Until the client has said all and has its answers. Raises: UNAVAILABLE if it cannot."""
        try:
            while not self._draining:
                if self._in_flight >= self._streams.requests_max:
                    await self._wait(room=True)
                    continue
                message = await self._wait(room=False)
                if message is EOF:
                    self._heard_all = True
                    break
                if message is not None:
                    await self._take(message)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
        if self._broken is not None:
            raise self._broken
        if self._draining and not self._heard_all:
            raise HostlerError(Code.UNAVAILABLE, _STOPPING)

    def give_up(self) -> None:
        """End the requests that are being answered, each with an error."""
        for responses, request in list(self._answering.items()):
            responses.end(HostlerError(Code.UNAVAILABLE, _STOPPED))
            request.context.cancel()

    def drain(self) -> None:
        """Read nothing more; what has been taken is answered."""
        self._draining = True
        if self._reading and self._task is not None:
            self._task.cancel()

    def _break(self, error: HostlerError) -> None:
        """The client does not read, or has gone: end the stream."""
        if self._broken is None:
            self._broken = error
            for task in self._tasks:
                task.cancel()
            self.drain()

    async def _wait(self, *, room: bool) -> bytes | None:
        """The next message, or None once there may be room or the stream is to end."""
        self._reading = True
        try:
            if not room:
                message: bytes | None = await self._call.read()
                return message
            self._room = asyncio.get_running_loop().create_future()
            await self._room
            return None
        except asyncio.CancelledError:
            if not self._draining or self._task is None or self._task.uncancel():
                raise
            return None
        finally:
            self._reading = False
            self._room = None

    # -- requests --------------------------------------------------------------------------

    async def _take(self, data: bytes) -> None:
        size = len(data)
        asked = None
        try:
            message = wire.parse_infer(data)
            asked = _Asked(message, size, self._calls.deadline(self._call))
            self._streams.held.take(size)
        except HostlerError as error:
            await self._write_error(error, None if asked is None else asked.message)
            return
        self._in_flight += 1
        try:
            self._place(asked)
        except Exception as error:  # noqa: BLE001 - a bug is logged by `expected`
            self._refuse(asked, expected(error, _NAME))

    def _place(self, asked: _Asked) -> None:
        """Submit a request, or queue it where its model is still being loaded."""
        model = asked.message.model
        if self._visit is not None:
            asked.principal = self._visit.again(model)
        key = (model, wire.parse_version(model, asked.message.version))
        queue = self._queues.get(key)
        if queue is not None:
            queue.append(asked)
            return
        live = self._streams.serving.live(*key)
        if live is None:
            self._queues[key] = queue = deque([asked])
            self._spawn(self._load(key), lambda: self._forget(key, queue))
        else:
            live.pin()
            self._submit(asked, live)

    async def _load(self, key: _Key) -> None:
        """Submit the requests of a model that is not loaded, in the order they came."""
        queue = self._queues[key]
        try:
            while queue:
                asked = queue[0]
                context = Context(deadline=asked.deadline)
                try:
                    live = await self._streams.serving.acquire(*key, context)
                    queue.popleft()
                    self._submit(asked, live)
                except Exception as error:  # noqa: BLE001 - a bug is logged by `expected`
                    if queue and queue[0] is asked:
                        queue.popleft()
                    self._refuse(asked, expected(error, _NAME))
        finally:
            self._forget(key, queue)

    def _forget(self, key: _Key, queue: deque[_Asked]) -> None:
        """Nobody loads the model for those who still wait. Idempotent."""
        if self._queues.get(key) is queue:
            del self._queues[key]
        while queue:
            self._done(queue.popleft())

    def _submit(self, asked: _Asked, live: Live) -> None:
        """Give a request to its pinned model. Raises: HostlerError, then the pin is released."""
        try:
            request = wire.decode_infer(asked.message, self._streams.regions)
            request.context.deadline = asked.deadline
            request.context.principal = asked.principal
            responses = live.stream(request)
        except BaseException:
            live.release()
            raise
        self._answering[responses] = request
        if not live.spec.decoupled:
            self._queue_up(asked)
        self._spawn(
            self._answer(asked, live, request, responses),
            lambda: self._answered(asked, live, responses),
        )

    def _refuse(self, asked: _Asked, error: HostlerError) -> None:
        """Tell a request that was not admitted so, in its turn."""
        self._queue_up(asked)
        self._spawn(self._write_refusal(asked, error), lambda: self._done(asked))

    def _queue_up(self, asked: _Asked) -> None:
        """Have the request answered after all earlier ones of its model."""
        model = asked.message.model
        last = self._turns.get(model)
        asked.turn = self._turns[model] = _Turn(None if last is None else last.mine)

    def _done(self, asked: _Asked) -> None:
        """A request has had its last response."""
        turn, model = asked.turn, asked.message.model
        if turn is not None:
            turn.over()
            if self._turns.get(model) is turn:
                del self._turns[model]
        self._streams.held.free(asked.size)
        self._in_flight -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # -- responses -------------------------------------------------------------------------

    async def _answer(
        self, asked: _Asked, live: Live, request: InferRequest, responses: ResponseStream
    ) -> None:
        final = False
        try:
            if asked.turn is not None:
                await asked.turn.come()
            async for response in responses:
                final = response.final
                if not final:
                    request.context.lift_deadline()
                parts = wire.encode_infer(
                    response, request, live.name, live.version, live.signature, final=final
                )
                await self._write(b"".join(wire.stream_response(parts)))
            if not final and wire.wants_empty_final(request):
                nothing = InferResponse([])
                parts = wire.encode_infer(
                    nothing, request, live.name, live.version, live.signature, final=True
                )
                await self._write(b"".join(wire.stream_response(parts)))
        except Exception as error:  # noqa: BLE001 - a bug is logged by `expected`
            await self._write_error(expected(error, _NAME), asked.message)

    def _answered(self, asked: _Asked, live: Live, responses: ResponseStream) -> None:
        """Give back what a request held, however its answering ended."""
        del self._answering[responses]
        responses.close()
        live.release()
        self._done(asked)

    async def _write(self, message: bytes) -> None:
        """Hand a message over; returns once the client makes progress in reading."""
        async with self._writing:
            calls, call = self._calls, self._call
            try:
                await calls.within(call.write(message), calls.write_deadline())
            except HostlerError as error:
                self._break(error)
            except BaseError:  # of the library: the call has ended, which it will tell in a moment
                self._break(HostlerError(Code.CANCELLED, "the client has gone"))

    async def _write_refusal(self, asked: _Asked, error: HostlerError) -> None:
        assert asked.turn is not None
        await asked.turn.come()
        await self._write_error(error, asked.message)

    async def _write_error(self, error: HostlerError, message: wire.InferMessage | None) -> None:
        await self._write(wire.stream_error(error.message, message))

    def _spawn(self, work: Coroutine[Any, Any, None], over: Callable[[], None]) -> None:
        """Run something. `over`: called at its end, also where it is cancelled before it begins."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: over())
