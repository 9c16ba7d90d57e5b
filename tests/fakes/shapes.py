"""Models and requests of many shapes, for tests of padding and ragged batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hostler.core import (
    DATATYPES,
    Batch,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    RequestedOutput,
    Shaping,
    Signature,
    Tensor,
    TensorSpec,
)

Compute = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def shaped_spec(
    shaping: Shaping,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    batched: bool = True,
) -> ModelSpec:
    """A spec as `repository.complete` makes it, for the scheduler alone."""
    signature = Signature(tuple(inputs), tuple(outputs), batched=batched)
    return ModelSpec(
        "m", 1, Path("m"), Path("m/1/model.onnx"), "onnx", signature=signature, shaping=shaping
    )


def a_request(rows: int = 1, want: Sequence[str] | None = None, **arrays: object) -> InferRequest:
    """A checked request; lists become FP32, or whatever dtype an array has."""
    inputs = {}
    for name, given in arrays.items():
        array = given if isinstance(given, np.ndarray) else np.array(given, np.float32)
        kind = "BYTES" if array.dtype == object else {"f": "FP32", "i": "INT64"}[array.dtype.kind]
        inputs[name] = Tensor.from_numpy(name, array, DATATYPES[kind])
    outputs = None if want is None else [RequestedOutput(name) for name in want]
    request = InferRequest(inputs, outputs=outputs)
    request.rows = rows
    return request


class StackingReplica:
    """Computes at once, on the stacked inputs, as runtimes that take joined batches do."""

    name = "m:1/0"

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.seen: list[dict[str, np.ndarray]] = []

    def run(self, batch: Batch, sink: object) -> None:
        requests = batch.requests
        feeds = {
            name: Tensor.stack([request.inputs[name] for request in requests]).numpy()
            for name in requests[0].inputs
        }
        self.seen.append(feeds)
        sink.timings(0.0, 1e-6, 0.0)
        outputs = [
            Tensor.from_numpy(name, array, DATATYPES["BYTES" if array.dtype == object else "FP32"])
            for name, array in self.compute(feeds).items()
        ]
        start = 0
        for index, request in enumerate(requests):
            parts = outputs
            if len(requests) > 1:
                parts = [tensor.rows(start, start + request.rows) for tensor in outputs]
            start += request.rows
            names = None if request.outputs is None else [o.name for o in request.outputs]
            sink.send(index, InferResponse([p for p in parts if names is None or p.name in names]))


class Answers:
    """A sink that keeps what it is sent."""

    def __init__(self, count: int) -> None:
        self.results: list[list[InferResponse | HostlerError | None]] = [[] for _ in range(count)]
        self.final = [False] * count

    def send(self, index, result, final=True, taken=None) -> None:
        assert not self.final[index], "a request was answered after its last answer"
        self.results[index].append(result)
        self.final[index] = final
        if taken is not None:
            taken()

    def timings(self, *_: float) -> None:
        pass

    def idle(self) -> None:
        pass

    def arrays(self) -> list[dict[str, np.ndarray]]:
        """The one answer of each request, by output."""
        found = []
        for results in self.results:
            (result,) = results
            assert isinstance(result, InferResponse), result
            found.append({tensor.name: tensor.numpy() for tensor in result.outputs})
        return found


def batch_of(*requests: InferRequest) -> Batch:
    """Requests as the scheduler hands them over."""
    return Batch(requests, stackable=True, expected_s=0.0)
