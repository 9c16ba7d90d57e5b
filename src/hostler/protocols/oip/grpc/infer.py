"""ModelInfer and ModelStreamInfer: messages <-> requests and responses.

Source: Triton `grpc_service.proto`; `infer_handler.cc` and `stream_infer_handler.cc` for what the
schema leaves open: outputs are always raw, each response of a stream says whether it is the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError

from hostler.core import (
    DATATYPES,
    Code,
    DataType,
    HostlerError,
    InferRequest,
    InferResponse,
    Parameters,
    Signature,
    Tensor,
)
from hostler.protocols.oip.binary import check_size, tensor_from_binary
from hostler.protocols.oip.classification import classify
from hostler.protocols.oip.encode import Part, selected
from hostler.protocols.oip.grpc.grpc_service_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from hostler.protocols.oip.grpc.tensors import tensor_from_contents
from hostler.protocols.oip.grpc.wire import delimited, split, varint
from hostler.protocols.oip.limits import (
    DIM_MAX,
    ID_CHARS_MAX,
    NAME_CHARS_MAX,
    PARAMETERS_MAX,
    RANK_MAX,
    TENSORS_MAX,
)
from hostler.protocols.oip.parameters import check_values, context_of, requested_outputs
from hostler.protocols.oip.schema import invalid
from hostler.protocols.oip.shared_memory import Regions, SharedOutput, read_shared, write_shared

__all__ = [
    "InferMessage",
    "decode_infer",
    "encode_infer",
    "parse_infer",
    "parse_version",
    "stream_error",
    "stream_response",
    "wants_empty_final",
]

_NONE: Final[Parameters] = {}
_RAW: Final = 7
_SPLIT_BYTES_MIN: Final = 32 * 1024
"""From this size on, taking the message apart by hand is quicker than protobuf's copies."""

_VERSION_DIGITS_MAX: Final = 18
_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
_FINAL: Final = "triton_final_response"


class InferMessage:
    """A ModelInferRequest that has been parsed and is not checked yet.

    `model`, `version`, `id`: as the client wrote them.
    """

    __slots__ = ("id", "message", "model", "raw", "version")

    def __init__(self, message: Any, raw: Sequence[bytes | memoryview]) -> None:
        self.message = message
        self.raw = raw
        self.model: str = message.model_name
        self.version: str = message.model_version
        self.id: str = message.id


def parse_infer(data: bytes) -> InferMessage:
    """Parse a ModelInferRequest; raw contents of a large one stay views of `data`.

    Raises: INVALID_ARGUMENT if it is none.
    """
    raw: Sequence[memoryview] | None = None
    if len(data) >= _SPLIT_BYTES_MIN:
        data, raw = split(data, _RAW)
    try:
        message = ModelInferRequest.FromString(data)
    except DecodeError:
        raise invalid("the message is not a ModelInferRequest: it is malformed") from None
    return InferMessage(message, message.raw_input_contents if raw is None else raw)


def parse_version(model: str, version: str) -> int | None:
    """A version from its text; None for the default. Raises: NOT_FOUND for any other word.

    Source of the words: Triton `common.cc`, GetModelVersionFromString.
    """
    if not version:
        return None
    if version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS_MAX:
        return int(version)
    raise HostlerError(
        Code.NOT_FOUND,
        f"Request for unknown model: '{model[:NAME_CHARS_MAX]}': failed to get model version from "
        f"specified version string '{version[:64]}'; versions are whole numbers",
    )


# -- requests --------------------------------------------------------------------------------


def decode_infer(asked: InferMessage, regions: Regions | None = None) -> InferRequest:
    """Read one inference request.

    Raw tensors are views of the message. `regions`: of shared memory, or None where it is not
    offered. Raises: INVALID_ARGUMENT saying what is wrong; as `shared_memory.place_of`.
    """
    message = asked.message
    if len(asked.id) > ID_CHARS_MAX:
        raise invalid(f"the id has {len(asked.id)} characters; {ID_CHARS_MAX} are the most")
    inputs = _inputs(message.inputs, asked.raw, regions, message.model_name)
    outputs = None
    if message.outputs:
        if len(message.outputs) > TENSORS_MAX:
            raise _too_many("outputs", len(message.outputs), TENSORS_MAX)
        named = ((_name(w.name, "output"), _parameters(w.parameters)) for w in message.outputs)
        outputs = requested_outputs(named, regions)
    parameters, context = _NONE, None
    if message.parameters:
        parameters = _parameters(message.parameters)
        context = context_of(parameters)
        if not isinstance(parameters.get(_EMPTY_FINAL, False), bool):
            raise invalid(
                f"invalid value type for '{_EMPTY_FINAL}' parameter, expected bool_param."
            )
    return InferRequest(
        inputs, id=asked.id, outputs=outputs, parameters=parameters, context=context
    )


def wants_empty_final(request: InferRequest) -> bool:
    """Whether a stream that ends without a last response is to say so with an empty one."""
    return bool(request.parameters.get(_EMPTY_FINAL, False))


def _inputs(
    wires: Sequence[Any], raw: Sequence[bytes | memoryview], regions: Regions | None, model: str
) -> dict[str, Tensor]:
    if len(wires) > TENSORS_MAX:
        raise _too_many("inputs", len(wires), TENSORS_MAX)
    inputs: dict[str, Tensor] = {}
    used, available = 0, len(raw)
    for wire in wires:
        name, datatype, shape = _described(wire)
        if name in inputs:
            raise invalid(f"input '{name}' is given more than once")
        shared = _shared(wire, name) if wire.parameters else None
        if shared is not None:
            inputs[name] = read_shared(name, datatype, shape, shared, regions)
        elif not available:
            inputs[name] = tensor_from_contents(name, datatype, shape, wire.contents)
        elif wire.HasField("contents"):
            # Source: Triton `infer_handler.cc`, InferGRPCToInput.
            raise invalid(
                f"contents field must not be specified when using raw_input_contents for '{name}' "
                f"for model '{model[:NAME_CHARS_MAX]}'"
            )
        else:
            if used < available:
                data = raw[used]
                check_size(name, datatype, shape, len(data), "the size in raw_input_contents")
                inputs[name] = tensor_from_binary(name, datatype, shape, memoryview(data))
            used += 1
    if used != available:
        raise invalid(
            f"expected tensor data for {used} inputs in raw_input_contents (those that are not in "
            f"shared memory), but got {available}"
        )
    return inputs


def _described(wire: Any) -> tuple[str, DataType, tuple[int, ...]]:
    """Name, datatype and shape of an input."""
    name = _name(wire.name, "input")
    datatype = DATATYPES.get(wire.datatype)
    if datatype is None:
        raise invalid(
            f"input '{name}' has the unknown datatype {wire.datatype[:32]!r}; one of "
            f"{', '.join(DATATYPES)} is expected"
        )
    shape = tuple(wire.shape[: RANK_MAX + 1])
    if len(shape) > RANK_MAX or (shape and (min(shape) < 0 or max(shape) > DIM_MAX)):
        raise invalid(
            f"input '{name}' has the shape {list(shape)}; at most {RANK_MAX} "
            f"dimensions from 0 to {DIM_MAX} are expected"
        )
    return name, datatype, shape


def _shared(wire: Any, name: str) -> Parameters | None:
    """The parameters of an input, where they say that it stands in shared memory."""
    parameters = _parameters(wire.parameters)
    check_values(parameters)
    if "shared_memory_region" not in parameters:
        return None
    if wire.HasField("contents"):
        raise invalid(
            f"unexpected 'content' provided when using shared memory for input tensor '{name}'"
        )
    return parameters


def _name(name: str, what: str) -> str:
    if 0 < len(name) <= NAME_CHARS_MAX:
        return name
    raise invalid(f"the name of an {what} must have 1 to {NAME_CHARS_MAX} characters")


def _too_many(what: str, count: int, count_max: int) -> HostlerError:
    return invalid(f"the request has {count} {what}; {count_max} are the most")


def _parameters(wires: Any) -> dict[str, Any]:
    """A map of InferParameter as plain values."""
    if len(wires) > PARAMETERS_MAX:
        raise _too_many("parameters in one place", len(wires), PARAMETERS_MAX)
    parameters: dict[str, Any] = {}
    for key, wire in wires.items():
        field = wire.WhichOneof("parameter_choice")
        if field is None or len(key) > NAME_CHARS_MAX:
            raise invalid(
                f"parameter '{key[:64]}' must have a value, and a name of {NAME_CHARS_MAX} "
                f"characters at most"
            )
        parameters[key] = getattr(wire, field)
    return parameters


# -- responses -------------------------------------------------------------------------------


def encode_infer(
    response: InferResponse,
    request: InferRequest,
    name: str,
    version: int,
    signature: Signature,
    *,
    final: bool | None = None,
) -> list[Part]:
    """Write one ModelInferResponse, in pieces; tensors are views of their memory.

    `final`: said in the parameters of a stream's response; None for a call with one response.
    Outputs come in the order of `request.outputs`, else as they are in `response`; those that the
    client wants in shared memory are put there. Raises: INVALID_ARGUMENT for classes of strings or
    a place in shared memory that is too small; MODEL_ERROR for a requested output that the model
    did not give, or parameters that the wire cannot carry.
    """
    parts: list[Part] = [_head(name, version)]
    if request.id:
        parts.append(delimited(3, request.id.encode()))
    if response.parameters:
        parts.append(_response_parameters(response.parameters, name))
    if final is not None:
        parts.append(_final(final))
    tails: list[Part] = []
    if request.outputs is None:
        for tensor in response.outputs:
            parts.append(_output(tensor.name, tensor.datatype.name, tensor.shape))
            raw = tensor.wire()
            tails += (b"\x32", varint(len(raw)), raw)
        return parts + tails
    for tensor, output in selected(response.outputs, request.outputs):
        if isinstance(output, SharedOutput):
            placed = write_shared(tensor, output.place)
            parts.append(_shared_output(tensor, placed))
            # Clients take the entry at an output's own position, so that there must be one.
            tails.append(b"\x32\x00")
            continue
        classes = output.parameters.get("classification")
        if classes is not None:
            tensor = classify(tensor, int(classes), signature)  # noqa: PLW2901 - what is sent
        parts.append(_output(tensor.name, tensor.datatype.name, tensor.shape))
        raw = tensor.wire()
        tails += (b"\x32", varint(len(raw)), raw)
    return parts + tails


def stream_response(parts: Iterable[Part]) -> list[Part]:
    """A ModelStreamInferResponse that holds a response of `encode_infer`, in pieces."""
    inner = list(parts)
    return [b"\x12", varint(sum(map(len, inner))), *inner]


def stream_error(message: str, asked: InferMessage | None) -> bytes:
    """A ModelStreamInferResponse with the error of one request; the stream goes on."""
    text = message.encode("utf-8", "replace").decode()
    answer = ModelStreamInferResponse(error_message=text)
    response = answer.infer_response
    if asked is not None:
        response.id = asked.id
        response.model_name = asked.model
        response.model_version = asked.version
    response.parameters[_FINAL].bool_param = True
    return bytes(answer.SerializeToString())


# Everything that repeats from response to response is kept as it was written the first time.


@lru_cache(maxsize=1024)
def _head(name: str, version: int) -> bytes:
    message = ModelInferResponse(model_name=name, model_version=str(version))
    return bytes(message.SerializeToString())


@lru_cache(maxsize=1024)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    output = ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
    return delimited(5, output.SerializeToString())


@lru_cache(maxsize=2)
def _final(final: bool) -> bytes:
    message = ModelInferResponse()
    message.parameters[_FINAL].bool_param = final
    return bytes(message.SerializeToString())


def _shared_output(tensor: Tensor, placed: Parameters) -> bytes:
    output = ModelInferResponse.InferOutputTensor(
        name=tensor.name, datatype=tensor.datatype.name, shape=tensor.shape
    )
    for key, value in placed.items():
        output.parameters[key].CopyFrom(_parameter(value))
    return delimited(5, output.SerializeToString())


def _response_parameters(parameters: Parameters, model: str) -> bytes:
    message = ModelInferResponse()
    try:
        for key, value in parameters.items():
            message.parameters[key].CopyFrom(_parameter(value))
        return bytes(message.SerializeToString())
    except (ValueError, TypeError) as error:
        raise HostlerError(
            Code.MODEL_ERROR, f"the response of model '{model}' has a wrong parameter: {error}"
        ) from None


def _parameter(value: object) -> InferParameter:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        if value >= 2**63:
            return InferParameter(uint64_param=value)
        return InferParameter(int64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    if isinstance(value, str):
        return InferParameter(string_param=value)
    raise TypeError(f"{type(value).__name__} is no parameter's type")
