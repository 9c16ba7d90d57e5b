"""Warm-up: the requests that a package asks for, run once on every replica before it serves.

They go straight to the replica, so that they leave no trace in the model's statistics.
Source: Triton's model_config.proto, ModelWarmup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from hostler.core import (
    NEVER,
    Batch,
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Replica,
    Tensor,
    Warmup,
    WarmupInput,
    element_count,
)
from hostler.scheduler import SequenceInputs, Shaper

__all__ = ["Sample", "build_samples", "run_samples"]

# A sample is data from a package: this bounds what a slip in its dims can allocate.
SAMPLE_BYTES_MAX = 1 << 30
_RANDOM_TEXT_BYTES = 8
# Random integers may index an embedding or a table in the model, so they stay small.
_RANDOM_INTEGER_MAX = 16


class Sample:
    """One warm-up request, to be run `count` times."""

    __slots__ = ("count", "name", "request")

    def __init__(self, name: str, request: InferRequest, count: int) -> None:
        self.name = name
        self.request = request
        self.count = count


def build_samples(spec: ModelSpec) -> list[Sample]:
    """Build and check the requests of a completed spec. Reads files: not on the loop.

    Raises: INVALID_ARGUMENT naming the sample and what does not fit.
    """
    samples = []
    for warmup in spec.warmup:
        try:
            samples.append(Sample(warmup.name, _request(spec, warmup), max(1, warmup.count)))
        except HostlerError as error:
            raise HostlerError(
                error.code, f"model_warmup '{warmup.name}' of '{spec.label}': {error.message}"
            ) from error
    return samples


def _request(spec: ModelSpec, warmup: Warmup) -> InferRequest:
    signature = spec.signature
    assert signature is not None
    rows = max(1, warmup.rows) if signature.batched else 0
    tensors = {item.name: _tensor(spec, item, rows) for item in warmup.inputs}
    filled: dict[str, Tensor] = {}
    if spec.sequencing is not None:
        # A package may say what the controls and states are to be, which no client sends.
        filled = {name: t for name, t in tensors.items() if signature.input(name) is None}
        tensors = {name: t for name, t in tensors.items() if name not in filled}
    request = InferRequest(tensors)
    request.rows, request.join_key = signature.check_inputs(request.inputs, spec.name)
    if spec.sequencing is None:
        return request
    return SequenceInputs(spec, spec.sequencing).first(request, filled)


def _tensor(spec: ModelSpec, item: WarmupInput, rows: int) -> Tensor:
    shape = (rows, *item.dims) if rows else item.dims
    if any(dim < 0 for dim in shape):
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{item.name}' has dims {list(item.dims)}; a warm-up needs them all fixed",
        )
    size = element_count(shape) * max(item.datatype.itemsize, BytesArray.PREFIX)
    if size > SAMPLE_BYTES_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{item.name}' of shape {list(shape)} takes {size} bytes; at most "
            f"{SAMPLE_BYTES_MAX} are allowed",
        )
    if item.source == "file":
        return _from_file(item, shape)
    if item.datatype.is_bytes:
        return _texts(item, shape, spec.label)
    return Tensor(item.name, item.datatype, shape, _numbers(item, shape))


def _texts(item: WarmupInput, shape: tuple[int, ...], seed: str) -> Tensor:
    count = element_count(shape)
    if item.source == "zero":
        texts = [b""] * count
    else:
        generator = np.random.default_rng(list(seed.encode()))
        letters = generator.integers(97, 123, (count, _RANDOM_TEXT_BYTES), dtype=np.uint8)
        texts = [row.tobytes() for row in letters]
    return Tensor(item.name, item.datatype, shape, BytesArray.from_items(texts))


def _numbers(item: WarmupInput, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype]:
    dtype = item.datatype.numpy
    if item.source == "zero":
        return np.zeros(shape, dtype)
    generator = np.random.default_rng(element_count(shape))
    if item.datatype.name == "BF16":  # the upper half of a float32
        floats = generator.random(shape, np.float32)
        return np.ascontiguousarray(floats).view("<u4").__rshift__(16).astype(dtype)
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    high = 2 if dtype.kind == "b" else _RANDOM_INTEGER_MAX
    return generator.integers(0, high, shape).astype(dtype)


def _from_file(item: WarmupInput, shape: tuple[int, ...]) -> Tensor:
    """Raw little-endian bytes as in the binary tensor extension, of exactly this shape."""
    assert item.file is not None
    expected = element_count(shape) * item.datatype.itemsize
    try:
        size = item.file.stat().st_size
        if size > SAMPLE_BYTES_MAX or (not item.datatype.is_bytes and size != expected):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"input '{item.name}': {item.file} has {size} bytes; "
                f"{item.datatype.name} {list(shape)} takes {expected or 'fewer'}",
            )
        content = item.file.read_bytes()
    except OSError as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{item.name}': {item.file} cannot be read: {error.strerror}",
        ) from error
    if item.datatype.is_bytes:
        data = BytesArray.from_wire(content, element_count(shape))
        return Tensor(item.name, item.datatype, shape, data)
    array = np.frombuffer(content, item.datatype.numpy).reshape(shape)
    return Tensor(item.name, item.datatype, shape, array)


class _Answer:
    """The sink of one warm-up run; `done` gives the first error, or None."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: HostlerError | None = None

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """See `core.Sink`."""
        if taken is not None:
            taken()
        if isinstance(result, HostlerError):
            self.error = self.error or result
            final = True
        if final and not self.done.done():
            self.done.set_result(None)

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        """See `core.Sink`; a warm-up counts nowhere."""

    def idle(self) -> None:
        """See `core.Sink`; the next sample waits for the last answer all the same."""


async def run_samples(replica: Replica, spec: ModelSpec, samples: Sequence[Sample]) -> None:
    """Run every sample on one replica. Raises: the first error, naming the sample."""
    stackable = spec.signature is not None and spec.signature.batched
    shaper = None if spec.shaping is None else Shaper(spec, spec.shaping)
    for sample in samples:
        for _ in range(sample.count):
            answer = _Answer()
            batch = Batch([sample.request], stackable=stackable, expected_s=NEVER)
            if shaper is None:
                replica.run(batch, answer)
            else:
                shaper.run(replica, batch, answer)
            await answer.done
            if answer.error is not None:
                raise HostlerError(
                    answer.error.code,
                    f"model_warmup '{sample.name}' of '{spec.label}' failed: "
                    f"{answer.error.message}",
                )
