"""How far one request has come through one region of an ensemble. Pure.

A step is decided on when every tensor it needs is known: to be there, or to be absent for good. It
is skipped when its condition is not met or an input that its model needs was not made because of
other steps skipped; what a skipped step would have given is absent. A step that is left without any
input is skipped, too.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Final

import numpy as np

from hostler.core import (
    Code,
    HostlerError,
    InferResponse,
    Parameters,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.serving.ensemble_layout import Layout, Link, Step, fits

__all__ = [
    "FLAGS",
    "Absent",
    "Call",
    "Held",
    "Progress",
    "held_inputs",
    "held_outputs",
    "misfits",
    "missing_output",
]

FLAGS: Final = ("sequence_start", "sequence_end")
_SEQUENCE: Final = ("sequence_id", *FLAGS)
"""Response parameters that replace those of the request in the steps that follow; a flag that a
response leaves out is false then. Source: Triton core `EnsembleContext::ConsumeResponse`.
"""


class Absent(enum.Enum):
    """Why an ensemble tensor does not exist in a request."""

    UNSENT = "the client did not send it"
    SKIPPED = "the step that gives it was skipped"
    OMITTED = "the model did not give it"


class Held:
    """An ensemble tensor that is there.

    `batched`: its first dimension is the batch. `sequence`: parameters that came with it.
    """

    __slots__ = ("batched", "sequence", "tensor")

    def __init__(self, tensor: Tensor, batched: bool, sequence: Parameters | None = None) -> None:
        self.tensor = tensor
        self.batched = batched
        self.sequence = sequence


class Call:
    """A step to run now. `sequence`: parameters that replace the request's own, or None."""

    __slots__ = ("inputs", "sequence", "step")

    def __init__(self, step: Step, inputs: dict[str, Tensor], sequence: Parameters | None) -> None:
        self.step = step
        self.inputs = inputs
        self.sequence = sequence


def held_inputs(layout: Layout, inputs: Mapping[str, Tensor]) -> dict[str, Held | Absent]:
    """The tensors that a request begins with, which `Signature.check_inputs` has accepted."""
    signature = layout.spec.signature
    assert signature is not None
    given: dict[str, Held | Absent] = {}
    for spec in signature.inputs:
        tensor = inputs.get(spec.name)
        if tensor is None:
            given[spec.name] = Absent.UNSENT
            continue
        if spec.reshape is not None:
            tensor = _reshape(tensor, spec.name, spec.dims, spec.reshape, signature.batched)
        given[spec.name] = Held(tensor, signature.batched)
    return given


def held_outputs(layout: Layout, step: Step, response: InferResponse) -> dict[str, Held | Absent]:
    """The tensors that the region after a decoupled step begins with, for one response."""
    found = _outputs_of(step, response)
    return {name: found.get(name, Absent.SKIPPED) for name in layout.given[step.leads_to]}


def missing_output(layout: Layout, name: str) -> HostlerError:
    """An output that the client asked for by name, and that this request does not have."""
    places = " and ".join(layout.steps[index].place for index in layout.producers[name])
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"output '{name}' does not exist for this request: {places} did not run, because of a "
        "condition; ask for outputs without naming this one",
    )


def misfits(layout: Layout, step: Step, inputs: Mapping[str, Tensor]) -> str:
    """Who made the inputs of this step that its model refuses; empty where it refuses none.

    For the end of an error message: the step that is told of is not the one to mend.
    """
    signature = layout.parts[step.index].signature
    if signature is None or not _refuses(signature, inputs):
        return ""
    links = [link for link in step.links if link.name in inputs]
    alone = [link for link in links if _refuses_one(signature, inputs, link.name)]
    told = []
    for tensor in dict.fromkeys(link.tensor for link in alone or links):
        places = [layout.steps[index].place for index in layout.producers.get(tensor, ())]
        source = "was made by " + " or ".join(places) if places else "came with the request"
        told.append(f"; '{tensor}' {source}")
    return "".join(told)


def _refuses_one(signature: Signature, inputs: Mapping[str, Tensor], name: str) -> bool:
    only = tuple(spec for spec in signature.inputs if spec.name == name)
    return _refuses(replace(signature, inputs=only), {name: inputs[name]})


def _refuses(signature: Signature, inputs: Mapping[str, Tensor]) -> bool:
    try:
        signature.check_inputs(inputs, "")
    except HostlerError:
        return True
    return False


class Progress:
    """One walk through one region.

    `steps`: those to run, of any region. `given`: what the region begins with.
    """

    __slots__ = ("_layout", "_left_out", "_open", "_queue", "_waiting", "tensors")

    def __init__(
        self, layout: Layout, region: int, steps: Set[int], given: Mapping[str, Held | Absent]
    ) -> None:
        self.tensors: dict[str, Held | Absent] = {}
        self._layout = layout
        self._left_out: set[str] = set()
        mine = [layout.steps[i] for i in sorted(steps) if layout.steps[i].region == region]
        self._waiting = {step.index: len(step.needs) for step in mine}
        self._open: dict[str, int] = {}
        for step in mine:
            if not step.decoupled:
                for tensor in step.outputs.values():
                    self._open[tensor] = self._open.get(tensor, 0) + 1
        self._queue: deque[Step] = deque()
        for name, value in given.items():
            self._know(name, value)

    def start(self) -> list[Call]:
        """The steps to run at once. Raises: INVALID_ARGUMENT for a condition without an answer."""
        return self._decide()

    def finish(self, step: Step, response: InferResponse) -> list[Call]:
        """Take what a step gave; returns the steps that can run now.

        Raises: INVALID_ARGUMENT where two steps gave the same tensor, or a model left out what a
        following step needs.
        """
        for name, value in _outputs_of(step, response).items():
            if isinstance(value, Held):
                self._open[name] -= 1
                if isinstance(self.tensors.get(name), Held):
                    raise self._twice(name)
                self._know(name, value)
            else:
                self._lack(name, value)
        return self._decide()

    def outputs(self, specs: Sequence[TensorSpec], *, named: bool) -> list[Tensor]:
        """The ensemble's outputs of these specs that exist.

        `named`: the client named them. Raises: INVALID_ARGUMENT then for one that was skipped.
        """
        signature = self._layout.spec.signature
        assert signature is not None
        tensors = []
        for spec in specs:
            held = self.tensors[spec.name]
            if isinstance(held, Held):
                inner = spec.dims if spec.reshape is None else spec.reshape
                tensor = _fitted(held, spec.name, inner, signature.batched)
                if spec.reshape is not None:
                    tensor = _reshape(tensor, spec.name, spec.reshape, spec.dims, signature.batched)
                tensors.append(tensor)
            elif named and held is Absent.SKIPPED:
                raise missing_output(self._layout, spec.name)
        return tensors

    def sequence(self, specs: Sequence[TensorSpec]) -> Parameters:
        """The parameters that came with these outputs."""
        for spec in specs:
            held = self.tensors[spec.name]
            if isinstance(held, Held) and held.sequence is not None:
                return held.sequence
        return {}

    # -- what is known ---------------------------------------------------------------------

    def _know(self, name: str, value: Held | Absent) -> None:
        if name in self.tensors:
            return
        self.tensors[name] = value
        for index in self._layout.consumers.get(name, ()):
            left = self._waiting.get(index)
            if left is not None:
                self._waiting[index] = left - 1
                if left == 1:
                    self._queue.append(self._layout.steps[index])

    def _lack(self, name: str, why: Absent) -> None:
        """One of the steps that could have given a tensor did not."""
        if why is Absent.OMITTED:
            self._left_out.add(name)
        self._open[name] -= 1
        if self._open[name] == 0:
            self._know(name, Absent.OMITTED if name in self._left_out else why)

    def _decide(self) -> list[Call]:
        calls = []
        while self._queue:
            step = self._queue.popleft()
            call = self._call(step)
            if call is not None:
                calls.append(call)
            elif not step.decoupled:
                for tensor in step.outputs.values():
                    self._lack(tensor, Absent.SKIPPED)
        return calls

    def _call(self, step: Step) -> Call | None:
        """What to ask the model of a step, or None to skip it."""
        if step.run_if:
            condition = self.tensors[step.run_if]
            if not isinstance(condition, Held) or _holds(step, condition) == step.negated:
                return None
        inputs: dict[str, Tensor] = {}
        sequence: Parameters | None = None
        for link in step.links:
            held = self.tensors[link.tensor]
            if isinstance(held, Held):
                inputs[link.name] = _fitted(held, link.name, link.dims, link.batched)
                sequence = sequence or held.sequence
            elif not link.optional:
                if held is Absent.SKIPPED:
                    return None
                raise self._omitted(step, link, held)
        return Call(step, inputs, sequence) if inputs else None

    def _omitted(self, step: Step, link: Link, why: Absent) -> HostlerError:
        steps = self._layout.producers.get(link.tensor, ())
        source = " or ".join(self._layout.steps[index].place for index in steps) or "the client"
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"{step.place} needs input '{link.name}', but there is no ensemble tensor "
            f"'{link.tensor}' of {source}: {why.value}",
        )

    def _twice(self, name: str) -> HostlerError:
        steps = self._layout.producers[name]
        places = " and ".join(self._layout.steps[index].place for index in steps)
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"ensemble tensor '{name}' was given twice in one request, by two of {places}; their "
            "conditions must exclude one another",
        )


def _outputs_of(step: Step, response: InferResponse) -> dict[str, Held | Absent]:
    parameters = response.parameters
    sequence = {key: parameters[key] for key in _SEQUENCE if key in parameters} or None
    found: dict[str, Held | Absent] = {}
    for tensor in response.outputs:
        name = step.outputs.get(tensor.name)
        if name is not None:
            found[name] = Held(tensor, step.gives_batched, sequence)
    for name in step.outputs.values():
        found.setdefault(name, Absent.OMITTED)
    return found


def _holds(step: Step, condition: Held) -> bool:
    """The one answer of a condition. Raises: INVALID_ARGUMENT where its elements disagree."""
    data = condition.tensor.data
    assert isinstance(data, np.ndarray)
    if data.size == 0 or data.any() != data.all():
        rows = "is empty" if data.size == 0 else "is true for some elements and false for others"
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{step.place}: its condition, ensemble tensor '{step.run_if}' of shape "
            f"{list(condition.tensor.shape)}, {rows}; a step runs for a whole request or not at "
            "all, so send rows that differ in it as separate requests",
        )
    return bool(data.all())


def _fitted(held: Held, name: str, dims: Sequence[int], batched: bool) -> Tensor:
    """The tensor under another name; a view.

    Between a model with a batch dimension and one without, it is added or taken away where only
    that makes the shape fit. Source: Triton core `EnsembleContext::ReshapeTensorDims`.
    """
    tensor = held.tensor
    shape = tensor.shape
    if held.batched != batched:
        if batched and fits(dims, shape):
            return _view(tensor, name, (1, *shape))
        if not batched and not fits(dims, shape) and shape[:1] == (1,):
            return _view(tensor, name, shape[1:])
    return Tensor(name, tensor.datatype, shape, tensor.data)


def _reshape(
    tensor: Tensor, name: str, dims: Sequence[int], target: Sequence[int], batched: bool
) -> Tensor:
    """From the shape `dims` to `target`, whose variable dimensions are the same in order."""
    rows, own = tensor.shape[:batched], tensor.shape[batched:]
    variable = iter([size for size, dim in zip(own, dims, strict=False) if dim < 0])
    shape = (*rows, *(next(variable, 1) if dim < 0 else dim for dim in target))
    return _view(tensor, name, shape)


def _view(tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    data = tensor.data
    if isinstance(data, np.ndarray):
        data = data.reshape(shape)
    return Tensor(name, tensor.datatype, shape, data)
