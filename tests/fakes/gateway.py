"""A serving with two models and no computation, and ASGI without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hostler.core import (
    DATATYPES,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    ResponseStream,
    Signature,
    Stats,
    Tensor,
    TensorSpec,
)

FP32 = DATATYPES["FP32"]
SIGNATURE = Signature((TensorSpec("X", FP32, (2,)),), (TensorSpec("Y", FP32, (2,)),), batched=True)


def spec_named(name: str, version: int = 1) -> ModelSpec:
    """A completed specification."""
    return ModelSpec(
        name=name,
        version=version,
        directory=Path("/models") / name,
        file=Path("/models") / name / str(version) / "model.onnx",
        runtime="onnx",
        platform="onnxruntime_onnx",
        config={"name": name, "max_batch_size": 8},
        signature=SIGNATURE,
    )


class FakeLive:
    """Answers with its inputs. `hold`: leave requests unanswered until `let_go`.

    `streams`: with `hold`, what the test feeds with `put` and `end`.
    """

    def __init__(self, name: str, version: int = 1) -> None:
        self.name = name
        self.version = version
        self.spec = spec_named(name, version)
        self.signature = SIGNATURE
        self.stats = Stats()
        self.pins = 0
        self.hold = False
        self.error: Exception | None = None
        self.requests: list[InferRequest] = []
        self.waiting: list[tuple[InferRequest, asyncio.Future[InferResponse]]] = []
        self.streams: list[ResponseStream] = []

    def pin(self) -> None:
        self.pins += 1

    def release(self) -> None:
        self.pins -= 1

    def infer(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        request.rows, request.join_key = self.signature.check_inputs(request.inputs, self.name)
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        if self.hold:
            self.waiting.append((request, future))
            request.context.on_cancel(lambda: self.cancelled(future))
        else:
            future.set_result(self.answer(request))
        return future

    def stream(self, request: InferRequest) -> ResponseStream:
        request.rows, request.join_key = self.signature.check_inputs(request.inputs, self.name)
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        stream = ResponseStream(request.context.cancel)
        self.streams.append(stream)
        gone = HostlerError(Code.CANCELLED, "the client closed the connection")
        request.context.on_cancel(lambda: stream.end(gone))
        if not self.hold:
            stream.put(self.answer(request))
            stream.end()
        return stream

    def put(self, *values: float, final: bool = False, stream: int = -1) -> None:
        """One more response of a held stream: one row."""
        array = np.array([values], np.float32)
        response = InferResponse([Tensor("Y", FP32, array.shape, array)])
        response.final = final
        self.streams[stream].put(response)
        if final:
            self.streams[stream].end()

    def cancelled(self, future: asyncio.Future[InferResponse]) -> None:
        if not future.done():
            future.set_exception(HostlerError(Code.CANCELLED, "the client closed the connection"))

    def answer(self, request: InferRequest) -> InferResponse:
        tensor = request.inputs["X"]
        return InferResponse([Tensor("Y", tensor.datatype, tensor.shape, tensor.data)])

    def let_go(self) -> None:
        """Answer all that wait."""
        waiting, self.waiting = self.waiting, []
        for request, future in waiting:
            if not future.done():
                future.set_result(self.answer(request))


@dataclass
class FakeStatus:
    """A row of the index."""

    name: str
    version: int | None
    state: str = "READY"
    reason: str = ""
    loaded: bool = True
    runtime: str = "onnx"
    footprint_bytes: int = 1000
    busy: int = 0
    stats: Stats = field(default_factory=Stats)
    last_error: str = ""


@dataclass
class FakeMemory:
    """The budget."""

    budget_bytes: int = 10_000
    used_bytes: int = 1_000
    loads: int = 2
    evictions: int = 1
    loaded: int = 1


class FakeServing:
    """`warm` is loaded, `cold` is loaded when asked for, `sick` cannot be."""

    def __init__(self) -> None:
        self.warm = FakeLive("warm")
        self.cold = FakeLive("cold", 3)
        self.is_ready = True
        self.calls: list[tuple[Any, ...]] = []
        self.contexts: list[Context] = []

    def live(self, name: str, version: int | None) -> FakeLive | None:
        return self.warm if name == "warm" and version in (None, 1) else None

    async def acquire(self, name: str, version: int | None, context: Context) -> FakeLive:
        self.contexts.append(context)
        if name == "sick":
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED, "model 'sick' needs 9 of 5 bytes", retry_after_s=1.2
            )
        self.model_ready(name, version)
        live = self.warm if name == "warm" else self.cold
        live.pin()
        return live

    def ready(self) -> bool:
        return self.is_ready

    def model_ready(self, name: str, version: int | None) -> bool:
        known = {"warm": 1, "cold": 3, "sick": 1}
        if name not in known or version not in (None, known[name]):
            raise HostlerError(Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        return name != "sick"

    def versions(self, name: str) -> list[int]:
        self.model_ready(name, None)
        return [1]

    def index(self, *, hosted: bool = False) -> Sequence[FakeStatus]:
        return [
            FakeStatus("warm", 1, stats=self.warm.stats),
            FakeStatus("cold", 3, loaded=False, stats=self.cold.stats),
            FakeStatus("sick", 1, "UNAVAILABLE", "it is", loaded=False, last_error="it is"),
            FakeStatus("unreadable", None, "UNAVAILABLE", "config.pbtxt:1", loaded=False),
        ]

    async def load(self, name: str, override: Any) -> None:
        self.calls.append(("load", name, override))

    async def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        self.calls.append(("unload", name, unload_dependents))

    def memory(self) -> FakeMemory:
        return FakeMemory()


class FakeClock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000.0 + self.time


@dataclass
class Answered:
    """What an application sent. `pieces`: of the body. `whole`: it has come to its end."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    whole: bool = False


Application = Callable[[Any, Any, Any], Awaitable[None]]


async def ask(
    application: Application,
    method: str,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: dict[bytes, bytes] | None = None,
    *,
    answered: Answered | None = None,
    **scope: Any,
) -> Answered:
    """Call an application once; a body that is a sequence comes in pieces.

    A piece that is None is a client that goes away. `answered`: where the answer is to go, for
    those who look at it before its end.
    """
    pieces = [body] if isinstance(body, bytes) else list(body)
    answered = Answered() if answered is None else answered

    async def receive() -> dict[str, Any]:
        if not pieces or pieces[0] is None:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = dict(message["headers"])
        else:
            answered.pieces.append(message.get("body", b""))
            answered.body += answered.pieces[-1]
            answered.whole = not message.get("more_body", False)

    raw_path, _, query = path.partition("?")
    await application(
        {
            "type": "http",
            "method": method,
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": list((headers or {}).items()),
            "http_version": "1.1",
            **scope,
        },
        receive,
        send,
    )
    return answered
