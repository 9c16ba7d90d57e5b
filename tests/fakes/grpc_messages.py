"""Messages as a client writes them: tritonclient's own classes, in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from grpc.aio import EOF, AbortError
from tritonclient.grpc import service_pb2 as pb

from hostler.core import BytesArray, Tensor

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parameter(value: object) -> Any:
    """An InferParameter of the field that fits; `(field, value)` names another."""
    if isinstance(value, tuple):
        return pb.InferParameter(**{value[0]: value[1]})
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def put_parameters(message: Any, parameters: Mapping[str, object]) -> None:
    """Fill `message.parameters`."""
    for key, value in parameters.items():
        message.parameters[key].CopyFrom(parameter(value))


def infer_request(
    *tensors: tuple[str, str, Sequence[int], bytes | None],
    model: str = "warm",
    parameters: Mapping[str, object] | None = None,
    outputs: Mapping[str, Mapping[str, object]] | None = None,
    **fields: Any,
) -> Any:
    """A ModelInferRequest. `tensors`: name, datatype, shape and raw contents (None for none)."""
    message = pb.ModelInferRequest(model_name=model, **fields)
    for name, datatype, shape, raw in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw is not None:
            message.raw_input_contents.append(raw)
    put_parameters(message, parameters or {})
    for name, wanted in (outputs or {}).items():
        put_parameters(message.outputs.add(name=name), wanted)
    return message


def ask(*values: float, name: str = "X", **fields: Any) -> bytes:
    """A serialised request of one FP32 row, raw."""
    raw = np.array(values, np.float32).tobytes()
    return bytes(infer_request((name, "FP32", [1, len(values)], raw), **fields).SerializeToString())


def raw_of(tensor: Tensor) -> bytes:
    """Its raw contents."""
    data = tensor.data
    return bytes(data.wire()) if isinstance(data, BytesArray) else data.tobytes()


def typed_values(tensor: Tensor) -> list[Any]:
    """Its values, as `CONTENTS` fields take them."""
    data = tensor.data
    return data.items() if isinstance(data, BytesArray) else data.ravel().tolist()


class FakeCall:
    """A grpc.aio.ServicerContext: what a client sends, and what it gets.

    `inbox`: messages to read; when they are out, the client is silent, or at its end if `finished`.
    `reading`: clear it for a client that does not read. `certificate`: the name in the one that it
    has shown. `metadata`: what it sends along.
    """

    def __init__(
        self,
        *inbox: bytes,
        finished: bool = True,
        left_s: float | None = None,
        certificate: str = "",
    ) -> None:
        self.metadata: tuple[tuple[str, str], ...] = (
            ("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
        )
        self.certificate = certificate
        self.inbox = list(inbox)
        self.finished = finished
        self.left_s = left_s
        self.outbox: list[bytes] = []
        self.code: str = "OK"
        self.details = ""
        self.trailing: Any = ()
        self.reading = asyncio.Event()
        self.reading.set()
        self.more = asyncio.Event()
        self.reads = 0

    def send(self, message: bytes) -> None:
        self.inbox.append(message)
        self.more.set()

    async def read(self) -> Any:
        while not self.inbox:
            if self.finished:
                return EOF
            self.more.clear()
            await self.more.wait()
        self.reads += 1
        return self.inbox.pop(0)

    async def write(self, message: bytes) -> None:
        await self.reading.wait()
        self.outbox.append(message)

    def time_remaining(self) -> float | None:
        return self.left_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.metadata

    def peer(self) -> str:
        return "ipv4:192.0.2.7:1234"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self.certificate.encode()]} if self.certificate else {}

    def set_code(self, code: Any) -> None:
        self.code = code.name

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    async def abort(self, code: Any, details: str, trailing: Any) -> None:
        self.code, self.details, self.trailing = code.name, details, trailing
        raise AbortError(details)

    def stream_answers(self) -> list[Any]:
        """What has been written, as ModelStreamInferResponse."""
        return [pb.ModelStreamInferResponse.FromString(message) for message in self.outbox]
