"""Requests of different shapes as one batch, and its answers apart again. Pure.

Padding gives every request of a batch the same shapes and cuts the outputs back; ragged inputs make
one request of all, their elements end to end. Both may be asked of one model.

Source: Triton's docs/user_guide/ragged_batching.md and the comments of BatchInput and BatchOutput;
counts are of requests, whatever their rows, as its backends make them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from hostler.core import (
    Batch,
    BatchInput,
    Code,
    Context,
    DataType,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    PaddedInput,
    Replica,
    RequestedOutput,
    Shaping,
    Signature,
    Sink,
    Tensor,
    element_count,
)

__all__ = ["Shaper", "batch_input"]

_BYTES_MAX: Final = 64 << 20
_GROWTH_MAX: Final = 4
"""Padding stops joining at a batch that is larger than both: this size, and this many times what
clients sent. One long request beside many short ones must not become that many long ones."""

_COUNT_MAX: Final = 2**31 - 1
"""What TYPE_INT32 holds."""

_EMPTY_BYTES: Final = 4
"""An element of BYTES that holds nothing, on the wire."""

Dims = tuple[int, ...]


class Shaper:
    """What stands between the batches of one model version and its replicas. No state."""

    def __init__(self, spec: ModelSpec, shaping: Shaping) -> None:
        assert spec.signature is not None
        self.label = spec.label
        self._shaping = shaping
        self._signature = spec.signature
        self._lead = int(spec.signature.batched)
        self._paddings = [_Padding(spec.signature, rule) for rule in shaping.padded]

    def joinable(self, requests: Sequence[InferRequest]) -> int:
        """How many of these, from the first, may run together without padding out of proportion.

        At least one; what that one needs is for `shape` to judge.
        """
        if not self._paddings:
            return len(requests)
        count = len(requests)
        while count > 1 and self._excess(requests[:count]):
            count -= 1
        return count

    def run(self, replica: Replica, batch: Batch, sink: Sink) -> None:
        """Shape a batch and start it; as `Replica.run`, never raises."""
        try:
            sink = self.shape(batch, sink)
        except (HostlerError, MemoryError) as raised:
            error = raised if isinstance(raised, HostlerError) else self._too_large()
            for index in range(len(batch.requests)):
                sink.send(index, error)
        else:
            replica.run(batch, sink)

    def shape(self, batch: Batch, sink: Sink) -> Sink:
        """Put what the replica is to run in the place of the batch's requests.

        Returns where its answers go; they reach `sink` as answers to the requests there were.
        Raises: RESOURCE_EXHAUSTED for a request that is padded out of proportion, or too many
        elements to be counted.
        """
        requests = batch.requests
        targets: dict[str, Dims] = {}
        if self._paddings:
            if len(requests) == 1 and self._excess(requests):
                raise self._too_large()
            targets = self._targets(requests)
        if self._shaping.joins:
            whole = self._join(requests, targets)
            batch.requests = [whole]
            joined = _JoinedSink(self, requests, sink)
            return joined if not self._shaping.cut else self._cutting(requests, targets, joined)
        padded = [_replaced(request, self._padded(request, targets)) for request in requests]
        batch.requests = padded
        return self._cutting(requests, targets, sink) if self._shaping.cut else sink

    def _cutting(
        self, requests: Sequence[InferRequest], targets: Mapping[str, Dims], sink: Sink
    ) -> Sink:
        """A sink whose answers are cut before they go on, joined ones after they are split."""

        def cut(index: int, response: InferResponse) -> InferResponse | HostlerError:
            return self._cut(requests[index], targets, response)

        if isinstance(sink, _JoinedSink):
            sink.cut = cut
            return sink
        return _CuttingSink(requests, cut, sink)

    # -- padding ---------------------------------------------------------------------------

    def _targets(self, requests: Sequence[InferRequest]) -> dict[str, Dims]:
        """The dimensions, without the batch's, that each padded input is to have."""
        return {
            padding.name: padding.target([r.inputs[padding.name].shape for r in requests])
            for padding in self._paddings
            if padding.name in requests[0].inputs
        }

    def _excess(self, requests: Sequence[InferRequest]) -> bool:
        rows = sum(request.rows for request in requests)
        targets = self._targets(requests)
        size = given = 0
        for padding in self._paddings:
            if padding.name not in targets:
                continue
            size += rows * element_count(targets[padding.name]) * padding.itemsize
            given += sum(request.inputs[padding.name].nbytes for request in requests)
        return size > max(_BYTES_MAX, _GROWTH_MAX * given)

    def _too_large(self) -> HostlerError:
        return HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"padding would make more than {_GROWTH_MAX} times its own size and more than "
            f"{_BYTES_MAX >> 20} MiB of a request to model '{self.label}'; send fewer rows, or "
            "give smaller buckets in its config.pbtxt",
        )

    def _padded(self, request: InferRequest, targets: Mapping[str, Dims]) -> dict[str, Tensor]:
        inputs = dict(request.inputs)
        for padding in self._paddings:
            if padding.name in inputs:
                inputs[padding.name] = padding.pad(inputs[padding.name], targets[padding.name])
        return inputs

    def _cut(
        self, request: InferRequest, targets: Mapping[str, Dims], response: InferResponse
    ) -> InferResponse | HostlerError:
        outputs: list[Tensor] = []
        for tensor in response.outputs:
            source = request.inputs.get(self._shaping.cut.get(tensor.name, ""))
            if source is None:
                outputs.append(tensor)
                continue
            shape = self._cut_shape(tensor, source, targets[source.name])
            if shape is None:
                return HostlerError(
                    Code.MODEL_ERROR,
                    f"output '{tensor.name}' of model '{self.label}' has shape "
                    f"{list(tensor.shape)}, which does not follow input '{source.name}' padded to "
                    f"{list(targets[source.name])}; set parameter padding.output.{tensor.name} to "
                    "another input, or to none to leave it whole",
                )
            outputs.append(_first(tensor, shape))
        cut = InferResponse(outputs, response.parameters)
        cut.final = response.final
        return cut

    def _cut_shape(self, tensor: Tensor, source: Tensor, target: Dims) -> Dims | None:
        """The shape that is left of an output; None where it did not grow as the input did."""
        lead = self._lead
        output, given = self._signature.output(tensor.name), self._signature.input(source.name)
        assert output is not None
        assert given is not None
        if len(tensor.shape) != lead + len(output.dims):
            return None
        variable = [index for index, dim in enumerate(given.dims) if dim < 0]
        shape = list(tensor.shape)
        places = [index for index, dim in enumerate(output.dims) if dim < 0]
        for place, index in zip(places, variable, strict=False):
            if shape[lead + place] != target[index]:
                return None
            shape[lead + place] = source.shape[lead + index]
        return tuple(shape)

    # -- ragged ----------------------------------------------------------------------------

    def _join(self, requests: Sequence[InferRequest], targets: Mapping[str, Dims]) -> InferRequest:
        """One request of all; its tensors are copies, but for a single one's."""
        shaping = self._shaping
        padded = [self._padded(request, targets) for request in requests]
        inputs = {
            name: Tensor.stack(
                [_flat(each[name]) if name in shaping.ragged else each[name] for each in padded]
            )
            for name in padded[0]
        }
        for rule in shaping.batch_inputs:
            array = batch_input(rule, [request.inputs[rule.source].shape for request in requests])
            for name in rule.names:
                inputs[name] = Tensor.from_numpy(name, array, rule.datatype)
        names = Batch(requests, stackable=True, expected_s=0.0).output_names()
        whole = InferRequest(
            inputs,
            outputs=None if names is None else [RequestedOutput(name) for name in names],
            context=Context(
                deadline=max(request.context.deadline for request in requests),
                background=requests[0].context.background,
            ),
        )
        whole.rows = sum(request.rows for request in requests)
        return whole

    def split(
        self, requests: Sequence[InferRequest], whole: InferResponse
    ) -> list[InferResponse] | HostlerError:
        """The answer to each request of a joined run: its part of the outputs that it wants."""
        parts: dict[str, list[Tensor]] = {}
        for tensor in whole.outputs:
            source = self._shaping.scattered.get(tensor.name)
            if source is None:
                found = self._rows(requests, tensor)
            else:
                found = self._scattered(requests, tensor, source)
            if isinstance(found, HostlerError):
                return found
            parts[tensor.name] = found
        responses: list[InferResponse] = []
        for index, request in enumerate(requests):
            names = parts if request.outputs is None else [out.name for out in request.outputs]
            missing = [name for name in names if name not in parts]
            if missing:
                text = f"model '{self.label}' gave no output '{missing[0]}'"
                return HostlerError(Code.MODEL_ERROR, text)
            outputs = [parts[name][index] for name in names]
            responses.append(InferResponse(outputs, whole.parameters))
        return responses

    def _rows(
        self, requests: Sequence[InferRequest], tensor: Tensor
    ) -> list[Tensor] | HostlerError:
        total = sum(request.rows for request in requests)
        if tensor.shape[:1] != (total,):
            return HostlerError(
                Code.MODEL_ERROR,
                f"output '{tensor.name}' of model '{self.label}' has shape {list(tensor.shape)} "
                f"for a batch of {total}; its first dimension must be the batch, or a "
                "batch_output in its config.pbtxt must say that it comes end to end",
            )
        found: list[Tensor] = []
        start = 0
        for request in requests:
            found.append(tensor.rows(start, start + request.rows))
            start += request.rows
        return found

    def _scattered(
        self, requests: Sequence[InferRequest], tensor: Tensor, source: str
    ) -> list[Tensor] | HostlerError:
        spec = self._signature.output(tensor.name)
        assert spec is not None
        shapes = []
        for request in requests:
            given = request.inputs[source].shape
            item = tuple(
                given[1 + index] if dim < 0 else dim for index, dim in enumerate(spec.dims)
            )
            shapes.append((request.rows, *item))
        counts = [element_count(shape) for shape in shapes]
        flat = _flat(tensor)
        if flat.shape != (sum(counts),):
            return HostlerError(
                Code.MODEL_ERROR,
                f"output '{tensor.name}' of model '{self.label}' has {flat.shape[0]} elements; "
                f"{sum(counts)} were expected from the shapes of input '{source}' (batch_output)",
            )
        found: list[Tensor] = []
        start = 0
        for shape, count in zip(shapes, counts, strict=True):
            found.append(_reshaped(flat.rows(start, start + count), shape))
            start += count
        return found


class _Padding:
    """One padded input: where it grows, and with what."""

    __slots__ = ("_lead", "_rule", "_variable", "itemsize", "name")

    def __init__(self, signature: Signature, rule: PaddedInput) -> None:
        spec = signature.input(rule.name)
        assert spec is not None
        self.name = rule.name
        self.itemsize = spec.datatype.itemsize or _EMPTY_BYTES
        self._rule = rule
        self._lead = int(signature.batched)
        self._variable = [dim < 0 for dim in spec.dims]

    def target(self, shapes: Sequence[Dims]) -> Dims:
        """The item dimensions for tensors of these shapes."""
        longest = [max(sizes) for sizes in zip(*shapes, strict=True)][self._lead :]
        return tuple(
            self._fitting(size) if variable else size
            for size, variable in zip(longest, self._variable, strict=True)
        )

    def _fitting(self, size: int) -> int:
        return next((bucket for bucket in self._rule.buckets if bucket >= size), size)

    def pad(self, tensor: Tensor, target: Dims) -> Tensor:
        """The tensor with these item dimensions; itself where it has them."""
        lead = tensor.shape[: self._lead]
        if tensor.shape == lead + target:
            return tensor
        datatype: DataType = tensor.datatype
        array = np.full(lead + target, self._rule.value, datatype.numpy)
        array[tuple(slice(0, size) for size in tensor.shape)] = tensor.numpy()
        return Tensor.from_numpy(tensor.name, array, datatype)


class _CuttingSink:
    """Cuts each response before it goes on; see `core.Sink`."""

    def __init__(
        self,
        requests: Sequence[InferRequest],
        cut: Callable[[int, InferResponse], InferResponse | HostlerError],
        sink: Sink,
    ) -> None:
        self._requests = requests
        self._cut = cut
        self._sink = sink
        self._failed: set[int] = set()
        self.timings = sink.timings
        self.idle = sink.idle

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """See `core.Sink`. What follows a response that cannot be cut is dropped."""
        if index in self._failed:
            if taken is not None:
                taken()
            return
        if isinstance(result, InferResponse):
            result = self._cut(index, result)
            if isinstance(result, HostlerError):
                self._failed.add(index)
        failed = index in self._failed
        self._sink.send(index, result, final or failed, taken)
        if failed and not final:
            self._requests[index].context.cancel()  # the model need not go on


class _JoinedSink:
    """Gives each request its part of the one response of a joined run; see `core.Sink`.

    `cut`: what is still to be done with each part, or None.
    """

    def __init__(self, shaper: Shaper, requests: Sequence[InferRequest], sink: Sink) -> None:
        self._shaper = shaper
        self._requests = requests
        self._sink = sink
        self.cut: Callable[[int, InferResponse], InferResponse | HostlerError] | None = None
        self.timings = sink.timings
        self.idle = sink.idle

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """See `core.Sink`. `index` is 0: there is one request."""
        count = len(self._requests)
        parts: Sequence[InferResponse | HostlerError | None] = [None] * count
        if isinstance(result, InferResponse):
            found = self._shaper.split(self._requests, result)
            parts = [found] * count if isinstance(found, HostlerError) else found
        elif result is not None:
            parts = [self._of_many(result)] * count
        for number, part in enumerate(parts):
            cut = self.cut
            if cut is not None and isinstance(part, InferResponse):
                self._sink.send(number, cut(number, part), final)
            else:
                self._sink.send(number, part, final)
        if taken is not None:
            taken()

    def _of_many(self, error: HostlerError) -> HostlerError:
        """A runtime that saw one request blames it; of several it is not known which it was."""
        if len(self._requests) > 1 and error.code is Code.INVALID_ARGUMENT:
            return HostlerError(Code.MODEL_ERROR, error.message)
        return error


def batch_input(rule: BatchInput, shapes: Sequence[Dims]) -> npt.NDArray[np.generic]:
    """The tensor that a model is given beside its inputs.

    `shapes`: of the source, for each request, with the batch dimension. Source: Triton's BatchInput
    and, for the shape over a whole batch, `BackendInputCollector::BatchInputShape` of its backend
    repository. Raises: RESOURCE_EXHAUSTED for more elements than an INT32 can count.
    """
    dtype = rule.datatype.numpy
    counts = [element_count(shape) for shape in shapes]
    if sum(counts) > _COUNT_MAX:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"input '{rule.source}' has {sum(counts)} elements in this batch; inputs made from "
            f"their number can say {_COUNT_MAX} at most, so send fewer at a time",
        )
    match rule.kind:
        case "BATCH_ELEMENT_COUNT":
            return np.array(counts, dtype)
        case "BATCH_ACCUMULATED_ELEMENT_COUNT":
            return np.cumsum(counts).astype(dtype)
        case "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO":
            return np.cumsum([0, *counts]).astype(dtype)
        case "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE":
            return np.zeros(max(counts), dtype)
    items = np.array([shape[1:] for shape in shapes for _ in range(shape[0])], dtype)
    return items.reshape(-1) if rule.kind == "BATCH_ITEM_SHAPE_FLATTEN" else items


def _replaced(request: InferRequest, inputs: dict[str, Tensor]) -> InferRequest:
    """The same request with other inputs."""
    copy = InferRequest(
        inputs,
        id=request.id,
        outputs=request.outputs,
        parameters=request.parameters,
        context=request.context,
    )
    copy.rows, copy.join_key = request.rows, request.join_key
    return copy


def _flat(tensor: Tensor) -> Tensor:
    return _reshaped(tensor, (element_count(tensor.shape),))


def _reshaped(tensor: Tensor, shape: Dims) -> Tensor:
    data = tensor.data
    if isinstance(data, np.ndarray):
        data = data.reshape(shape)
    return Tensor(tensor.name, tensor.datatype, shape, data)


def _first(tensor: Tensor, shape: Dims) -> Tensor:
    """The corner of this shape; a copy unless it is the whole."""
    if shape == tensor.shape:
        return tensor
    array = tensor.numpy()[tuple(slice(0, size) for size in shape)]
    return Tensor.from_numpy(tensor.name, array, tensor.datatype)
