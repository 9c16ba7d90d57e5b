"""Clients that read streams of responses one at a time, when they are told to."""

from __future__ import annotations

import json
import queue
import socket
import struct
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from fakes.clients import Answer, Client, Crowd
from fakes.server import ServerProcess, fp32_request, wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

__all__ = [
    "Bystanders",
    "End",
    "EventStream",
    "Opened",
    "Response",
    "RpcStream",
    "arenas",
    "busy",
    "metric",
    "row_of",
    "to_the_end",
    "unload",
    "wait_settled",
    "worker_pid",
]

TIMEOUT_S = 30.0
SETTLE_S = 5.0


class Response:
    """One message of a stream: an error, or the values of the model's one output."""

    __slots__ = ("at", "error", "id", "values")

    def __init__(self, id: str, values: Sequence[float], error: str) -> None:
        self.id = id
        self.values = values
        self.error = error
        self.at = time.monotonic()

    @property
    def number(self) -> int:
        """The first value: tests have models count their responses there."""
        return int(self.values[0])

    def __repr__(self) -> str:
        return f"Response({self.id!r}, {list(self.values[:3])}, {self.error!r})"


class EventStream:
    """One request over HTTP whose server-sent events are read when asked for.

    `x`: the values of the model's one input. `status`: of the answer's head.
    """

    def __init__(
        self, server: ServerProcess, model: str, x: Sequence[float], *, verb: str = "infer_stream"
    ) -> None:
        document = fp32_request(x=list(x))
        if verb.startswith("generate"):
            document = {"x": list(x)}
        self._connection = HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
        body = json.dumps(document).encode()
        self._connection.request("POST", f"/v2/models/{model}/{verb}", body)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def next(self) -> Response | None:
        """The next event; None at the end. An answer that is an error is one event."""
        if self.status != 200:
            text = self._answer.read()
            return Response("", (), json.loads(text)["error"]) if text else None
        while line := self._answer.readline():
            if line.startswith(b"data: "):
                return _read_event(json.loads(line[6:]))
        return None

    def close(self) -> None:
        """Leave as a client does that has seen enough. Idempotent."""
        self._answer.close()
        self._connection.close()

    def reset(self) -> None:
        """Leave as a client does that is killed: the connection is reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def _read_event(document: dict[str, Any]) -> Response:
    outputs = document.get("outputs")
    values = outputs[0]["data"] if outputs else document.get("y", ())
    if isinstance(values, int | float):
        values = (values,)
    return Response(document.get("id", ""), values, document.get("error", ""))


class RpcStream:
    """One ModelStreamInfer call on a channel of its own; messages are read when asked for."""

    def __init__(self, server: ServerProcess) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(server.grpc_url, options=options)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._call = stub.ModelStreamInfer(iter(self._requests.get, None))

    def ask(self, model: str, x: Sequence[float], id: str = "") -> None:
        """Send a request."""
        request = service_pb2.ModelInferRequest(model_name=model, id=id)
        request.inputs.add(name="x", datatype="FP32", shape=[len(x)])
        request.raw_input_contents.append(np.array(x, np.float32).tobytes())
        self._requests.put(request)

    def next(self) -> Response | None:
        """The next message; None when the call has ended. Raises: grpc.RpcError."""
        message = next(self._call, None)
        if message is None:
            return None
        answer = message.infer_response
        raw = answer.raw_output_contents
        values = np.frombuffer(raw[0], np.float32) if raw else ()
        return Response(answer.id, values, message.error_message)

    def finish(self) -> None:
        """Say that no more requests follow."""
        self._requests.put(None)

    def cancel(self) -> None:
        """Leave: cancel the call."""
        self._call.cancel()
        self.close()

    def close(self) -> None:
        """Leave: close the channel. Idempotent."""
        self._requests.put(None)
        self._channel.close()


class Opened:
    """Opens streams, and closes at its end all that are still open."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._streams: list[EventStream | RpcStream] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in self._streams:
            stream.close()

    def events(self, model: str, x: Sequence[float], *, verb: str = "infer_stream") -> EventStream:
        """A request over HTTP."""
        stream = EventStream(self._server, model, x, verb=verb)
        self._streams.append(stream)
        return stream

    def rpc(self, model: str = "", x: Sequence[float] = ()) -> RpcStream:
        """A call over gRPC, with one request and no more where a model is named."""
        stream = RpcStream(self._server)
        self._streams.append(stream)
        if model:
            stream.ask(model, x)
            stream.finish()
        return stream


class End:
    """How a stream ended, for one who read it to the end.

    `numbers`: of the responses. `error`: of the last message, the status of the call, or what cut
    the connection. `at`: `time.monotonic()`.
    """

    def __init__(self, numbers: list[int], error: str) -> None:
        self.numbers = numbers
        self.error = error
        self.at = time.monotonic()

    def __repr__(self) -> str:
        return f"End({len(self.numbers)} responses, {self.error!r})"


def to_the_end(stream: EventStream | RpcStream) -> End:
    """Read all that comes, one request's responses; an error ends it."""
    numbers: list[int] = []
    try:
        while (response := stream.next()) is not None:
            if response.error:
                return End(numbers, response.error)
            if len(response.values):
                numbers.append(response.number)
    except grpc.RpcError as error:
        return End(numbers, f"{error.code().name}: {error.details()}")
    except (HTTPException, OSError) as error:
        return End(numbers, repr(error))
    return End(numbers, "")


# -- what a server tells of itself -----------------------------------------------------------------


def row_of(server: ServerProcess, model: str) -> dict[str, Any]:
    """A model's row of /v2/hostler/models."""
    rows = json.loads(server.get("/v2/hostler/models")[2])["models"]
    found: dict[str, Any] = next(row for row in rows if row["name"] == model)
    return found


def metric(server: ServerProcess, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels; 0 for one that is not there."""
    total = 0.0
    for line in server.get("/metrics")[2].decode().splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(
            f'{k}="{v}"' in series for k, v in labels.items()
        ):
            total += float(value)
    return total


def busy(server: ServerProcess, model: str) -> int:
    """Pins and requests of a model."""
    return int(row_of(server, model)["busy"])


def wait_settled(server: ServerProcess, *models: str, rpcs: int = 0) -> None:
    """Until nothing is held for any request: `rpcs` gRPC calls are still open, all idle."""
    wanted: dict[str, float] = {
        "hostler_bodies_held_bytes": 0,
        "hostler_requests_in_flight": 1,  # the scrape itself
        "hostler_rpcs_in_flight": rpcs,
        **{f"{model} {field}": 0 for model in models for field in ("busy", "queue_depth")},
    }
    seen: dict[str, float] = {}

    def settled() -> bool:
        seen.update({name: metric(server, name) for name in wanted if " " not in name})
        for model in models:
            row = row_of(server, model)
            seen.update({f"{model} {field}": row[field] for field in ("busy", "queue_depth")})
        return seen == wanted

    try:
        wait_for(settled, SETTLE_S, "everything to be given back", poll_s=0.05)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None


def unload(server: ServerProcess, model: str, within_s: float = 3.0) -> None:
    """Unload a model; fails where anything still held it."""
    before = len(server.events("model.unloaded", model=model))
    started = time.monotonic()
    status, _, body = server.post(f"/v2/repository/models/{model}/unload")
    assert status == 200, body
    took_s = time.monotonic() - started
    assert took_s < within_s, f"unloading {model} took {took_s:.1f} s"
    wait_for(lambda: len(server.events("model.unloaded", model=model)) > before, 5, "the event")
    assert server.events("model.unloaded", model=model)[-1]["drained"] is True


def worker_pid(server: ServerProcess, model: str) -> int:
    """The process that serves replica 0 of a model now."""
    return int(server.events("worker.ready", replica=f"{model}:1/0")[-1]["pid"])


def arenas(pid: int) -> int:
    """How many pieces of workers' shared memory a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text("ascii").count("memfd:hostler-arena")


# -- those who must not notice ---------------------------------------------------------------------


class Bystanders(Crowd):
    """Clients of other models while one fails: `seconds` of each of their answers, by model."""

    def __init__(self, server: ServerProcess, **factors: float) -> None:
        super().__init__()
        self.seconds: dict[str, list[float]] = {model: [] for model in factors}
        for model, factor in factors.items():
            self.add(server, self._asking(model, factor), 1)

    def _asking(self, model: str, factor: float) -> Callable[[Client, int], None]:
        def ask(client: Client, turn: int) -> None:
            answer: Answer = client.infer(model, x=[[1.0] * 4])
            if answer.status != 200 or answer.output() != [factor] * 4:
                self.fail(f"{model}: {answer.status} {answer.document}")
            self.seconds[model].append(answer.seconds)
            time.sleep(0.01)

        return ask

    def check(self, median_s: float = 0.25) -> None:
        """Each had answers, none failed, and they came in time."""
        self.end()
        assert self.failures == []
        for model, seconds in self.seconds.items():
            assert seconds, model
            middle = sorted(seconds)[len(seconds) // 2]
            assert middle < median_s, (model, middle)
            assert max(seconds) < 5.0, (model, max(seconds))
