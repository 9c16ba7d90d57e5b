"""Requests, responses, and the batches that rooms hand to one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hostler.core.context import Context
from hostler.core.errors import HostlerError
from hostler.core.tensor import Tensor

__all__ = ["Batch", "InferRequest", "InferResponse", "Parameters", "RequestedOutput", "Sink"]

Parameters = Mapping[str, str | int | float | bool]
"""Request, tensor or response parameters as the wires carry them."""

EMPTY: Parameters = {}


class RequestedOutput:
    """An output that the client named, with its parameters (how it wants it encoded)."""

    __slots__ = ("name", "parameters")

    def __init__(self, name: str, parameters: Parameters = EMPTY) -> None:
        self.name = name
        self.parameters = parameters


class InferRequest:
    """One question to one model.

    `id`: the client's, "" for none. `inputs`: by name. `outputs`: what the client named, or None
    for all. `parameters`: all of the request's, reserved ones included. `rows` and `join_key` are
    set by `Signature.check_inputs` before the scheduler sees the request.
    """

    __slots__ = ("context", "id", "inputs", "join_key", "outputs", "parameters", "rows")

    def __init__(
        self,
        inputs: dict[str, Tensor],
        *,
        id: str = "",
        outputs: Sequence[RequestedOutput] | None = None,
        parameters: Parameters = EMPTY,
        context: Context | None = None,
    ) -> None:
        self.inputs = inputs
        self.id = id
        self.outputs = outputs
        self.parameters = parameters
        self.context = context if context is not None else Context()
        self.rows = 1
        self.join_key: object = None


class InferResponse:
    """One answer: output tensors in the model's order (or the requested order), and parameters.

    `final`: its request has no further answers; a stream may also end without a last answer.
    """

    __slots__ = ("final", "outputs", "parameters")

    def __init__(self, outputs: Sequence[Tensor], parameters: Parameters = EMPTY) -> None:
        self.outputs = outputs
        self.parameters = parameters
        self.final = True


class Batch:
    """Requests that run together.

    `requests`: in order; all share one `join_key`. `rows`: their sum. `stackable`: whether tensors
    have a batch dimension to join along (a batch of an unbatched model holds one request).
    `expected_s`: what the scheduler thinks the run will take, in seconds; infinity when unknown.
    `outstanding`: the most requests that were waiting or running since the batch before.
    """

    __slots__ = ("expected_s", "outstanding", "requests", "rows", "stackable")

    def __init__(
        self, requests: Sequence[InferRequest], *, stackable: bool, expected_s: float
    ) -> None:
        self.requests = requests
        self.rows = sum([request.rows for request in requests])
        self.stackable = stackable
        self.expected_s = expected_s
        self.outstanding = len(requests)

    def output_names(self) -> list[str] | None:
        """The union of what the requests want, in first-seen order; None when one wants all."""
        names: dict[str, None] = {}
        for request in self.requests:
            if request.outputs is None:
                return None
            for output in request.outputs:
                names[output.name] = None
        return list(names)


class Sink(Protocol):
    """Where a replica puts answers. Loop thread only."""

    def send(
        self,
        index: int,
        result: InferResponse | HostlerError | None,
        final: bool = True,
        taken: Callable[[], None] | None = None,
    ) -> None:
        """Give request `index` of the batch a response or its error.

        A request may have many responses; the one with `final` is its last. An error is final.
        None with `final` ends a request without a further response. `taken`: called once, when
        the response has left the memory of this process or nobody wants it any more; a replica
        that sends many grants itself credit by it.
        """
        ...

    def timings(self, input_s: float, infer_s: float, output_s: float) -> None:
        """Report, at most once and before the last final, how the run spent its seconds."""
        ...

    def idle(self) -> None:
        """The replica takes another batch from now on, though answers of this one will follow.

        Without this call it is free when every request of the batch is final.
        """
        ...
