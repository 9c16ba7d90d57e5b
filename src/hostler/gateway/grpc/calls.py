"""From the path of an RPC to its handler, and from its answer or error to a status.

Every RPC is served as a stream whose messages are read by hand: the library would read a unary
call's message before anybody is asked whether there is room for it, and it is no quicker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc.aio import EOF, InternalError

from hostler.core import NEVER, Clock, Code, HostlerError
from hostler.gateway.config import Config
from hostler.gateway.grpc.entry import Visit, enter
from hostler.gateway.shared import Shared
from hostler.protocols.oip import grpc as wire
from hostler.telemetry import Span

__all__ = ["Call", "Calls", "Streaming", "Unary", "expected"]

log = logging.getLogger("hostler.gateway")

Call = Any
"""grpc.aio.ServicerContext."""

Unary = Callable[[bytes, Call, float], Awaitable[bytes]]
"""(message, call, deadline in `Clock.now()` seconds) -> the answer's message."""

Streaming = Callable[[Call, float], Awaitable[None]]
"""(call, deadline): reads and writes by itself."""

_INFER: Final = "ModelInfer"
_CLOCKS_AGREE_S: Final = 0.05
_UNREAD_BYTES_MIN: Final = 64 * 1024
"""The library keeps answers until clients have read them, however long that takes, and cannot be
told to give one up. Those of this size are counted; a call has a window of as much anyway."""

_PUSHBACK: Final = "grpc-retry-pushback-ms"
"""When to come back. Source: gRPC proposal A6, "Pushback"."""


class Calls:
    """All RPCs there are: a grpc.GenericRpcHandler. Loop thread only.

    `draining`: set once, when the server is to stop; calls that wait for their clients end then.
    """

    def __init__(self, config: Config, shared: Shared, clock: Clock) -> None:
        self.draining = asyncio.Event()
        self._shared = shared
        self._held = shared.held
        self._now = clock.now
        self._timeout_s = config.request_timeout_s or NEVER
        self._write_timeout_s = config.body_timeout_s
        self._calls_max = config.grpc_calls_max
        self._unread_bytes = 0
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.GenericRpcHandler; None is an unknown RPC."""
        return self._handlers.get(handler_call_details.method)

    def add_unary(self, service: str, name: str, answer: Unary) -> None:
        """Serve `/service/name`: one message in, one out."""
        serve = self._unary(name, answer)
        self._handlers[f"/{service}/{name}"] = grpc.stream_unary_rpc_method_handler(serve)

    def add_streaming(self, service: str, name: str, answer: Streaming) -> None:
        """Serve `/service/name`: messages in and out as the handler likes."""

        async def served(_: object, call: Call) -> None:
            await self._streaming(name, answer, call)

        self._handlers[f"/{service}/{name}"] = grpc.stream_stream_rpc_method_handler(served)

    def deadline(self, call: Call) -> float:
        """Until when somebody waits for the call, and the server lets it wait."""
        left_s = call.time_remaining()
        return self._now() + (self._timeout_s if left_s is None else min(left_s, self._timeout_s))

    def write_deadline(self) -> float:
        """Until when a client must have read enough for a message that is written now."""
        return self._now() + self._write_timeout_s

    async def read(self, call: Call, deadline: float) -> bytes:
        """The one message of a call, held; the caller gives it to `free`.

        Raises: UNAVAILABLE when too much is held already, before reading where that is known;
        INVALID_ARGUMENT where there is none; DEADLINE_EXCEEDED if it does not come.
        """
        self._held.check(1)
        message = await self.within(call.read(), deadline)
        if message is EOF:
            raise HostlerError(Code.INVALID_ARGUMENT, "the call has no message")
        self._held.take(len(message))
        return bytes(message)

    def free(self, message: bytes) -> None:
        """A message of `read` is needed no more."""
        self._held.free(len(message))

    async def within(self, operation: Awaitable[Any], deadline: float) -> Any:
        """Read or write, within a bounded time where the client has no deadline of its own.

        A sweep looks after this, because timers would cost more than they are worth.
        Raises: DEADLINE_EXCEEDED.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = deadline
        try:
            return await operation
        except asyncio.CancelledError:
            if task not in self._overdue:
                raise
            self._overdue.discard(task)
            task.uncancel()
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                "the client did not send its message, or read ours, in time "
                "(gateway.request_timeout_s, gateway.body_timeout_s)",
            ) from None
        finally:
            del self._waiting[task]

    def sweep(self) -> None:
        """Give up on clients that keep their calls waiting; to be called about once a second."""
        now = self._now()
        for task, deadline in self._waiting.items():
            if deadline < now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()

    def _count_unread(self, size: int) -> None:
        """Count a unary call's answer until the library has sent it, with which its task ends."""

        def sent(_: asyncio.Task[Any]) -> None:
            self._unread_bytes -= size

        task = asyncio.current_task()
        assert task is not None
        self._unread_bytes += size
        task.add_done_callback(sent)

    def _admit(self) -> None:
        if self._unread_bytes > self._held.held_bytes_max:
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED,
                f"{self._unread_bytes} bytes of gRPC answers wait to be read by their clients, "
                f"more than {self._held.held_bytes_max} (gateway.bodies_bytes_max); try again "
                "later",
                retry_after_s=1.0,
            )
        if self._shared.rpcs.in_flight > self._calls_max:
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED,
                f"{self._calls_max} gRPC calls are open, the limit of gateway.grpc_calls_max; "
                "try again later",
                retry_after_s=1.0,
            )

    def _unary(self, name: str, answer: Unary) -> Callable[[object, Call], Awaitable[bytes]]:
        shared = self._shared
        rpcs, held = shared.rpcs, shared.held

        async def serve(_: object, call: Call) -> bytes:
            rpcs.in_flight += 1
            code, span = "CANCELLED", None
            message = b""
            visit: Visit | None = None
            try:
                self._admit()
                if shared.access is not None:
                    visit = enter(shared.access, name, call)
                deadline = self.deadline(call)
                message = await self.read(call, deadline)
                if shared.tracing is not None:
                    span = self._span(name, message, call)
                answered = await answer(message, call, deadline)
                if len(answered) >= _UNREAD_BYTES_MIN:
                    self._count_unread(len(answered))
                code = "OK"
                return answered
            except Exception as error:  # noqa: BLE001 - a bug is logged by `expected`
                refusal = expected(error, name)
                code = _status(call, refusal).name
                await _abort(call, refusal)
                return b""
            finally:
                rpcs.in_flight -= 1
                held.free(len(message))
                rpcs.ended(name, code)
                if visit is not None:
                    visit.leave("" if code == "OK" else code)
                if span is not None:
                    span.end_rpc(_Asked(name, message), code)

        return serve

    async def _streaming(self, name: str, answer: Streaming, call: Call) -> None:
        rpcs = self._shared.rpcs
        rpcs.in_flight += 1
        code = "CANCELLED"
        try:
            self._admit()
            if self._shared.access is not None:
                enter(self._shared.access, name, call)
            await answer(call, self.deadline(call))
            code = "OK"
        except Exception as error:  # noqa: BLE001 - a bug is logged by `expected`
            refusal = expected(error, name)
            status = _status(call, refusal)
            code = status.name
            call.set_trailing_metadata(_trailing(refusal))
            call.set_code(status)
            call.set_details(wire.status_text(refusal.message))
        finally:
            rpcs.in_flight -= 1
            rpcs.ended(name, code)

    def _span(self, name: str, message: bytes, call: Call) -> Span | None:
        tracing = self._shared.tracing
        assert tracing is not None
        headers = {
            key.encode(): value.encode() if isinstance(value, str) else value
            for key, value in call.invocation_metadata() or ()
        }
        # Only models with trace settings of their own make it worth to know which is asked.
        model = _Asked(name, message).model if tracing.sampler.by_model else ""
        return tracing.start(headers, model)


class _Asked:
    """What a span says a call was for; see `telemetry.Asked`."""

    def __init__(self, name: str, message: bytes) -> None:
        self.action = name
        self.model, self.version = "", None
        if name == _INFER:
            try:
                asked = wire.parse_infer(message)
                self.model = asked.model
                self.version = wire.parse_version(asked.model, asked.version)
            except HostlerError:
                return  # it has been refused for that


def _status(call: Call, error: HostlerError) -> grpc.StatusCode:
    if error.code is Code.DEADLINE_EXCEEDED:
        left_s = call.time_remaining()
        if left_s is not None and left_s < _CLOCKS_AGREE_S:
            return grpc.StatusCode.DEADLINE_EXCEEDED  # its own, and no limit of ours
    return wire.GRPC_STATUS[error.code]


def _trailing(error: HostlerError) -> tuple[tuple[str, str], ...]:
    if error.retry_after_s is None:
        return ()
    return ((_PUSHBACK, str(math.ceil(error.retry_after_s * 1e3))),)


async def _abort(call: Call, error: HostlerError) -> None:
    """End a unary call with the error's status and no message before it.

    The library would send an empty one otherwise, which waits for clients that do not read.
    Raises: the library's AbortError, by which it knows; nothing where the call has ended already.
    """
    text = wire.status_text(error.message)
    with contextlib.suppress(InternalError):
        await call.abort(_status(call, error), text, _trailing(error))


def expected(error: Exception, rpc: str) -> HostlerError:
    """The error to tell a client. A bug of ours is logged, and opaque but for the log's id."""
    if isinstance(error, HostlerError):
        return error
    error_id = secrets.token_hex(8)
    event = {"error_id": error_id, "rpc": rpc}
    log.error("gateway.internal_error", extra={"event": event}, exc_info=error)
    return HostlerError(Code.INTERNAL, f"internal error, id {error_id}")
