"""A batch as a `run` message, and a `result` message as responses.

In a header a tensor is `[name, datatype, shape, place, offset, size]`: `place` 0 is the frame's
body, 1 the arena. A BYTES output adds `[place, offset, size]` of its int64 element offsets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Tensor,
    datatype_named,
    element_count,
)
from hostler.placement.process.allocator import aligned
from hostler.placement.process.arena import Arena, Region

__all__ = [
    "Form",
    "OutputEstimate",
    "Packed",
    "pack",
    "pack_outputs",
    "split_rows",
    "unpack",
    "unpack_inputs",
    "unpack_one",
]

IN_BODY, IN_ARENA = 0, 1
BODY_ALIGN, ARENA_ALIGN = 16, 64
COPY_CHUNK_BYTES = 1 << 20
"""Copies up to this size are made at once on the loop; it takes about 0.1 ms."""

Bytes = npt.NDArray[np.uint8]


class OutputEstimate:
    """How much arena a batch's outputs will want: by the signature, else as seen so far."""

    __slots__ = ("_fixed_per_row", "_seen_per_row", "_tensors")

    def __init__(self, spec: ModelSpec) -> None:
        self._fixed_per_row: int | None = None
        self._seen_per_row = 0.0
        self._tensors = 0
        if spec.signature is not None:
            outputs = spec.signature.outputs
            self._tensors = len(outputs)
            if all(not o.datatype.is_bytes and min(o.dims, default=0) >= 0 for o in outputs):
                self._fixed_per_row = sum(
                    element_count(o.dims) * o.datatype.itemsize for o in outputs
                )

    def want(self, rows: int, requests: int) -> int:
        """Bytes for the outputs of so many rows of so many requests."""
        per_row = self._seen_per_row if self._fixed_per_row is None else self._fixed_per_row
        bytes_of_rows = math.ceil(per_row * rows)
        if not bytes_of_rows:
            return 0
        return bytes_of_rows + ARENA_ALIGN * requests * max(1, self._tensors)

    def saw(self, rows: int, size: int) -> None:
        """Learn from a result: grow to the largest at once, shrink slowly."""
        per_row = size / max(1, rows)
        self._seen_per_row = max(per_row, self._seen_per_row * 0.95)


class Form:
    """How a worker wants its batches. `stacked`: one tensor per input for the whole batch.

    `streamed`: outputs come in messages of their own, so no space is granted to them.
    """

    __slots__ = ("estimate", "inline_bytes_max", "stacked", "streamed")

    def __init__(self, spec: ModelSpec, *, stacked: bool, inline_bytes_max: int) -> None:
        self.stacked = stacked
        self.streamed = spec.decoupled
        self.inline_bytes_max = inline_bytes_max
        self.estimate = OutputEstimate(spec)


class Packed:
    """A `run` message whose tensors may still have to be copied into the arena.

    `copies`: destinations in the arena and what to join there. `mapping`: descriptor and size of a
    new arena that the worker must be sent first, or None; whoever sends it closes it.
    """

    __slots__ = ("body", "copies", "copy_bytes", "header", "mapping", "region")

    def __init__(self) -> None:
        self.header: dict[str, Any] = {}
        self.body: list[Any] = []
        self.copies: list[tuple[Bytes, list[Bytes]]] = []
        self.copy_bytes = 0
        self.region: Region | None = None
        self.mapping: tuple[int, int] | None = None

    def copy(self) -> None:
        """Make all copies at once."""
        for target, sources in self.copies:
            if len(sources) == 1:
                np.copyto(target, sources[0])
            else:
                np.concatenate(sources, out=target)

    def chunks(self) -> Sequence[tuple[Bytes, Bytes]]:
        """The same copies in pieces of at most COPY_CHUNK_BYTES."""
        pieces = []
        for target, sources in self.copies:
            start = 0
            for source in sources:
                for begin in range(0, len(source), COPY_CHUNK_BYTES):
                    piece = source[begin : begin + COPY_CHUNK_BYTES]
                    pieces.append((target[start + begin : start + begin + len(piece)], piece))
                start += len(source)
        return pieces


class _Placed:
    """A tensor of the message: what it is, what it is joined from, and where it will lie."""

    __slots__ = ("description", "size", "sources")

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        first = tensors[0]
        shape = list(first.shape)
        if len(tensors) > 1:
            shape[0] = sum([tensor.shape[0] for tensor in tensors])
        self.sources = [_raw(tensor) for tensor in tensors if tensor.nbytes]
        self.size = sum([len(source) for source in self.sources])
        self.description = [first.name, first.datatype.name, shape, IN_BODY, 0, self.size]


def _raw(tensor: Tensor) -> Bytes:
    if isinstance(tensor.data, BytesArray):
        return np.frombuffer(tensor.data.wire(), np.uint8)
    return tensor.data.reshape(-1).view(np.uint8)


def pack(requests: Sequence[InferRequest], run: int, form: Form, arena: Arena) -> Packed:
    """The `run` message for these requests, with arena space for inputs and outputs in one piece.

    Raises: RESOURCE_EXHAUSTED when the arena cannot hold them.
    """
    packed = Packed()
    placed: list[_Placed] = []
    described: list[dict[str, Any]] = []
    if form.stacked:
        names = requests[0].inputs
        tensors = [_Placed([request.inputs[name] for request in requests]) for name in names]
        placed += tensors
        described.append(_describe(requests[0], tensors, _wanted(requests)))
    else:
        for request in requests:
            tensors = [_Placed([tensor]) for tensor in request.inputs.values()]
            placed += tensors
            described.append(_describe(request, tensors, _wanted([request])))
    size = sum([aligned(tensor.size, ARENA_ALIGN) for tensor in placed])
    rows = sum([request.rows for request in requests])
    grant = form.estimate.want(rows, 1 if form.stacked else len(requests))
    if grant <= form.inline_bytes_max or form.streamed:
        grant = 0
    if size <= form.inline_bytes_max:
        _place_in_body(packed, placed)
        size = 0
    base = 0
    if size + grant:
        packed.region, packed.mapping = arena.allocate(size + grant)
        base = packed.region.offset
        if size:
            _place_in_arena(packed, placed, packed.region)
    packed.header = {
        "op": "run",
        "run": run,
        "region": (base, size),
        "grant": (base + size, grant),
        "requests": described,
    }
    return packed


def _wanted(requests: Sequence[InferRequest]) -> list[str] | None:
    """Names of the outputs that any of the requests wants; None for all."""
    names: dict[str, None] = {}
    for request in requests:
        if request.outputs is None:
            return None
        for output in request.outputs:
            names[output.name] = None
    return list(names)


def _describe(
    request: InferRequest, tensors: list[_Placed], wanted: list[str] | None
) -> dict[str, Any]:
    return {
        "id": request.id,
        "outputs": wanted,
        "parameters": request.parameters,
        "inputs": [tensor.description for tensor in tensors],
    }


def _place_in_body(packed: Packed, placed: Sequence[_Placed]) -> None:
    position = 0
    for tensor in placed:
        padding = -position % BODY_ALIGN
        if padding:
            packed.body.append(bytes(padding))
        tensor.description[4] = position + padding
        packed.body += tensor.sources
        position += padding + tensor.size


def _place_in_arena(packed: Packed, placed: Sequence[_Placed], region: Region) -> None:
    position = region.offset
    for tensor in placed:
        tensor.description[3] = IN_ARENA
        tensor.description[4] = position
        if tensor.size:
            packed.copies.append((region.array(position, tensor.size), tensor.sources))
            packed.copy_bytes += tensor.size
        position += aligned(tensor.size, ARENA_ALIGN)


def unpack(
    header: dict[str, Any], body: memoryview, region: Region | None, *, in_place: bool
) -> list[InferResponse | HostlerError | None]:
    """The responses of a `result` message, None for each that comes in messages of its own.

    Tensors in the arena stay there, holding `region` until the last view of them is gone, where
    `in_place`; else they are copied. Raises: ValueError, KeyError, TypeError for a malformed one.
    """
    memory = _Memory(body, region, in_place=in_place)
    return [None if result is None else _response(result, memory) for result in header["results"]]


def unpack_one(header: dict[str, Any], body: memoryview) -> InferResponse | HostlerError | None:
    """The response in a message of its own, None where it has none. Raises as `unpack`."""
    if "outputs" not in header and "error" not in header:
        return None
    return _response(header, _Memory(body, None, in_place=True))


def unpack_inputs(described: Sequence[list[Any]], body: memoryview) -> dict[str, Tensor]:
    """Tensors that a worker sends to another model, by name. Raises as `unpack`."""
    memory = _Memory(body, None, in_place=True)
    return {description[0]: _tensor(description, memory) for description in described}


def pack_outputs(outputs: Sequence[Tensor]) -> tuple[list[list[Any]], list[Any]]:
    """Tensors for a worker: their descriptions, and the parts of the frame's body."""
    packed = Packed()
    placed = [_Placed([tensor]) for tensor in outputs]
    _place_in_body(packed, placed)
    return [tensor.description for tensor in placed], packed.body


def _response(result: dict[str, Any], memory: _Memory) -> InferResponse | HostlerError:
    error = result.get("error")
    if error is not None:
        return HostlerError(Code(error[0]), error[1], details=_details(error))
    outputs = [_tensor(description, memory) for description in result["outputs"]]
    return InferResponse(outputs, result["parameters"])


def _details(error: Sequence[Any]) -> dict[str, object]:
    """What stands behind code and message: the status that a package's own handler answers with."""
    if len(error) < 3:
        return {}
    status = error[2]["status"]
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise ValueError(f"an error of status {status!r}")
    return {"status": status}


class _Memory:
    """Where the bytes of a result are."""

    __slots__ = ("_body", "_in_place", "_region", "_root")

    def __init__(self, body: memoryview, region: Region | None, *, in_place: bool) -> None:
        self._body = body
        self._region = region
        self._in_place = in_place
        self._root: Bytes | None = None

    def array(self, place: int, offset: int, size: int) -> Bytes:
        """Read-only bytes that stay as they are for as long as anybody holds them."""
        if not size:
            return np.frombuffer(b"", np.uint8)
        if place == IN_BODY:
            array = np.frombuffer(self._body, np.uint8, size, offset)
            array.flags.writeable = False
            return array
        region = self._region
        if region is None:
            raise ValueError("a result lies in the arena where no space was granted")
        if not self._in_place:
            copied = region.array(offset, size).copy()
            copied.flags.writeable = False
            return copied
        if self._root is None:
            self._root = region.shared(region.offset, region.size)
        start = offset - region.offset
        if start < 0 or start + size > region.size:
            raise ValueError("a result lies outside the space that was granted")
        return self._root[start : start + size]


def _tensor(description: list[Any], memory: _Memory) -> Tensor:
    name, datatype_name, dims, place, offset, size, *index = description
    datatype = datatype_named(datatype_name)
    shape = tuple(dims)
    data = memory.array(place, offset, size)
    if not datatype.is_bytes:
        return Tensor(name, datatype, shape, data.view(datatype.numpy).reshape(shape))
    offsets = memory.array(*index[0]).view(np.int64)
    count = element_count(shape)
    if len(offsets) != count + 1 or offsets[0] != 0 or offsets[-1] != size:
        raise ValueError(f"offsets of BYTES output '{name}' do not fit its data")
    if count and int(np.diff(offsets).min()) < BytesArray.PREFIX:
        raise ValueError(f"offsets of BYTES output '{name}' do not rise")
    return Tensor(name, datatype, shape, BytesArray(data.data, offsets))


def split_rows(
    joined: InferResponse, requests: Sequence[InferRequest], model: str
) -> list[InferResponse | HostlerError]:
    """The response of each request of a joined run: its rows of the outputs it wants."""
    total = sum([request.rows for request in requests])
    if len(requests) > 1:
        for tensor in joined.outputs:
            if not tensor.shape or tensor.shape[0] != total:
                error = HostlerError(
                    Code.MODEL_ERROR,
                    f"model '{model}': output '{tensor.name}' has shape {list(tensor.shape)} for "
                    f"a batch of {total} rows; its first dimension must be the batch",
                )
                return [error] * len(requests)
    by_name = {tensor.name: tensor for tensor in joined.outputs}
    results: list[InferResponse | HostlerError] = []
    start = 0
    for request in requests:
        names = by_name if request.outputs is None else [o.name for o in request.outputs]
        missing = [name for name in names if name not in by_name]
        if missing:
            text = f"model '{model}' gave no output '{missing[0]}'"
            results.append(HostlerError(Code.MODEL_ERROR, text))
        elif len(requests) == 1:
            results.append(InferResponse([by_name[name] for name in names], joined.parameters))
        else:
            stop = start + request.rows
            outputs = [by_name[name].rows(start, stop) for name in names]
            results.append(InferResponse(outputs, joined.parameters))
        start += request.rows
    return results
