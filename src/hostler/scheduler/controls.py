"""The inputs that the server fills in for a model with sequences: controls and state. Pure.

A request that a client sent becomes one that the model understands: with START, END, READY and
CORRID as the package asks for them, and with what the request before it left as state. Tensors of
one row, `[1, *dims]` for a batched model and `[*dims]` else; controls have dims [1].

Source: Triton core `SetControlTensors`, `UpdateImplicitState`; docs/user_guide/architecture.md
"Control Inputs", implicit_state_management.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hostler.core import (
    BytesArray,
    DataType,
    InferRequest,
    InferResponse,
    ModelSpec,
    RequestedOutput,
    SequenceControl,
    SequenceState,
    Sequencing,
    Tensor,
    element_count,
)
from hostler.scheduler.slots import Held, ends, starts

__all__ = ["SequenceInputs"]

_LOW_32_BITS: Final = 2**32 - 1


class SequenceInputs:
    """Makes what one model is given of what its clients sent. No state of its own."""

    def __init__(self, spec: ModelSpec, sequencing: Sequencing) -> None:
        signature = spec.signature
        assert signature is not None
        self._lead = (1,) if signature.batched else ()
        self._flags = [
            (control.kind, control.name, self._flag(control, False), self._flag(control, True))
            for control in sequencing.controls
            if control.kind != "corrid"
        ]
        self._corrid = sequencing.control("corrid")
        self._states = sequencing.states
        self._initial = {state.input_name: self._initial_of(state) for state in self._states}
        self._initial_key = tuple(tensor.shape for tensor in self._initial.values())
        self._outputs = [RequestedOutput(output.name) for output in signature.outputs]
        self._fills = bool(self._flags or self._corrid or self._states)

    def request(self, request: InferRequest, held: Held | None) -> InferRequest:
        """What the model runs for a client's request; `held` as in `Sequences.held`."""
        if not self._fills:
            return request
        flags = {"start": starts(request), "end": ends(request), "ready": True}
        inputs = dict(request.inputs)
        for kind, name, false, true in self._flags:
            inputs[name] = true if flags[kind] else false
        if self._corrid is not None:
            identity = request.parameters.get("sequence_id", 0)
            inputs[self._corrid.name] = self._identity(self._corrid, identity)
        if self._states:
            inputs.update(self._initial if held is None else held.values)
        return self._derived(request, inputs, self._wanted(request))

    def idle_row(self, like: InferRequest) -> InferRequest:
        """What fills a row without a request: zeros in the shapes of a `request` of this batch.

        Not even its answer is asked for. READY is false, and with it nothing else has a meaning.
        Its context is that of `like`: a call which the model makes for all rows has their path.
        """
        inputs = {name: _zeros(tensor) for name, tensor in like.inputs.items()}
        for _, name, false, _ in self._flags:
            inputs[name] = false
        filled = InferRequest(inputs, outputs=(), context=like.context)
        filled.join_key = like.join_key
        return filled

    def first(self, request: InferRequest, given: dict[str, Tensor]) -> InferRequest:
        """A request as if it started a sequence, of any number of rows: for warm-ups.

        `given`: controls and states that are to be just so.
        """
        start = InferRequest(request.inputs, parameters={"sequence_start": True})
        filled = self.request(start, None)
        inputs = {
            name: tensor if name in request.inputs else Tensor.stack([tensor] * request.rows)
            for name, tensor in filled.inputs.items()
        }
        return self._derived(request, {**inputs, **given}, filled.outputs)

    def part(
        self, request: InferRequest, response: InferResponse
    ) -> tuple[InferResponse, Held | None]:
        """Take the state out of a response to a client's request: what is left for the client.

        The state is a copy of its own: a response may be a view of a whole batch. A response
        without all of the state leaves none; of several, the last one that has it counts.
        """
        if not self._states:
            return response, None
        by_name = {tensor.name: tensor for tensor in response.outputs}
        wanted = request.outputs if request.outputs is not None else self._outputs
        outputs = [by_name[output.name] for output in wanted if output.name in by_name]
        left = InferResponse(outputs, response.parameters)
        if any(state.output_name not in by_name for state in self._states):
            return left, None
        values = {
            state.input_name: _owned(state.input_name, by_name[state.output_name])
            for state in self._states
        }
        shapes = tuple(tensor.shape for tensor in values.values())
        return left, Held(values, None if shapes == self._initial_key else shapes)

    def _wanted(self, request: InferRequest) -> Sequence[RequestedOutput] | None:
        if not self._states:
            return request.outputs
        wanted = list(self._outputs if request.outputs is None else request.outputs)
        names = {output.name for output in wanted}
        wanted += [
            RequestedOutput(state.output_name)
            for state in self._states
            if state.output_name not in names
        ]
        return wanted

    def _derived(
        self,
        request: InferRequest,
        inputs: dict[str, Tensor],
        outputs: Sequence[RequestedOutput] | None,
    ) -> InferRequest:
        derived = InferRequest(
            inputs,
            id=request.id,
            outputs=outputs,
            parameters=request.parameters,
            context=request.context,
        )
        derived.rows, derived.join_key = request.rows, request.join_key
        return derived

    def _flag(self, control: SequenceControl, value: bool) -> Tensor:
        shape = (*self._lead, 1)
        array = np.full(shape, control.false_true[value], control.datatype.numpy)
        array.flags.writeable = False
        return Tensor(control.name, control.datatype, shape, array)

    def _identity(self, control: SequenceControl, identity: object) -> Tensor:
        shape, datatype = (*self._lead, 1), control.datatype
        if datatype.is_bytes:
            text = identity if isinstance(identity, str) else ""
            return Tensor(control.name, datatype, shape, BytesArray.from_items([text.encode()]))
        number = identity if isinstance(identity, int) else 0
        if datatype.itemsize == 4:  # the low-order bits, as model_config.proto says
            array = np.full(shape, number & _LOW_32_BITS, np.uint32).view(datatype.numpy)
        else:
            array = np.full(shape, number, np.uint64).view(datatype.numpy)
        return Tensor(control.name, datatype, shape, array)

    def _initial_of(self, state: SequenceState) -> Tensor:
        shape = (*self._lead, *state.initial_dims)
        return _from_bytes(state.input_name, state.datatype, shape, state.initial)


def _from_bytes(
    name: str, datatype: DataType, shape: tuple[int, ...], content: bytes | None
) -> Tensor:
    """A tensor of these raw bytes, or of zeros (empty strings)."""
    count = element_count(shape)
    if datatype.is_bytes:
        raw = bytes(BytesArray.PREFIX * count) if content is None else content
        return Tensor(name, datatype, shape, BytesArray.from_wire(raw, count))
    raw = bytes(count * datatype.itemsize) if content is None else content
    return Tensor(name, datatype, shape, np.frombuffer(raw, datatype.numpy).reshape(shape))


def _zeros(tensor: Tensor) -> Tensor:
    return _from_bytes(tensor.name, tensor.datatype, tensor.shape, None)


def _owned(name: str, tensor: Tensor) -> Tensor:
    data = tensor.data
    if isinstance(data, BytesArray):
        raw = bytes(data.wire())
        return Tensor(name, tensor.datatype, tensor.shape, BytesArray.from_wire(raw, len(data)))
    copied = data.copy()
    copied.flags.writeable = False
    return Tensor(name, tensor.datatype, tensor.shape, copied)
