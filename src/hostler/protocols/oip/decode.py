"""The inference request: JSON, JSON followed by binary tensors, or one raw tensor.

Source: open-inference-protocol `inference_rest.md`; Triton `extension_binary_data.md`,
`extension_schedule_policy.md`, `extension_classification.md`.
"""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import UNSET

from hostler.core import (
    DATATYPES,
    BytesArray,
    DataType,
    HostlerError,
    InferRequest,
    Parameters,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip.binary import check_size, tensor_from_binary
from hostler.protocols.oip.parameters import check_values, context_of, requested_outputs
from hostler.protocols.oip.schema import Body, WireInput, WireOutput, invalid, parse_request
from hostler.protocols.oip.shared_memory import Regions, read_shared
from hostler.protocols.oip.values import tensor_from_json

__all__ = ["decode_request", "parse_json_size"]

_NONE: Final[Parameters] = {}
_BYTES: Final = DATATYPES["BYTES"]


def parse_json_size(header: str | bytes | None, body_bytes: int) -> int | None:
    """Read `Inference-Header-Content-Length`: the length of the JSON part, or None without it.

    Raises: INVALID_ARGUMENT unless it is a whole number from 0 to `body_bytes`.
    """
    if header is None:
        return None
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    text = text.strip()
    # int() alone would take signs, underscores and other scripts' digits.
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= body_bytes:
        return int(text)
    raise invalid(
        f"Inference-Header-Content-Length is '{text[:32]}', but must be a number of bytes from 0 "
        f"to the length of the body, {body_bytes}"
    )


def decode_request(
    body: Body, json_size: int | None, signature: Signature, regions: Regions | None = None
) -> InferRequest:
    """Read one inference request.

    `body`: uncompressed; binary tensors are views of it, so nobody may write to it any more.
    `json_size`: length of the JSON in front of binary tensors; None when all is JSON, 0 when all
    is the one input of `signature`, which is consulted for nothing else.
    `regions`: of shared memory, or None where it is not offered.
    Parameters of inputs are checked, but not carried: a Tensor has none.
    Raises: INVALID_ARGUMENT saying what is wrong; as `shared_memory.place_of` and `Region.read`.
    """
    if json_size is None:
        message, tail = parse_request(body), None
    elif json_size == 0:
        return _decode_raw(memoryview(body).toreadonly(), signature)
    else:
        view = memoryview(body).toreadonly()
        if not 0 < json_size <= len(view):
            raise invalid(f"the JSON of {json_size} bytes is not within a body of {len(view)}")
        message, tail = parse_request(view[:json_size]), _Tail(view[json_size:])

    inputs: dict[str, Tensor] = {}
    for wire in message.inputs:
        datatype = DATATYPES.get(wire.datatype)
        if datatype is None:
            raise _datatype_error(wire)
        if wire.name in inputs:
            raise invalid(f"input '{wire.name}' is given more than once")
        shape = tuple(wire.shape)
        if wire.parameters is None and wire.data is not UNSET:
            inputs[wire.name] = tensor_from_json(wire.name, datatype, shape, wire.data)
        else:
            inputs[wire.name] = _tensor_with_parameters(wire, datatype, tail, regions)
    if tail is not None:
        tail.check_used_up()

    parameters, context = _NONE, None
    if message.parameters:
        parameters = message.parameters
        context = context_of(parameters)
    return InferRequest(
        inputs,
        id=message.id or "",
        outputs=_outputs_of(message.outputs, regions) if message.outputs else None,
        parameters=parameters,
        context=context,
    )


class _Tail:
    """The binary tensors behind the JSON, taken in the order of the inputs that use them."""

    __slots__ = ("position", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.position = 0

    def take(self, name: str, size: int) -> memoryview:
        start, self.position = self.position, self.position + size
        if self.position > len(self.view):
            raise invalid(
                f"binary data of input '{name}' should be {size} bytes, but only "
                f"{len(self.view) - start} are left in the body"
            )
        return self.view[start : self.position]

    def check_used_up(self) -> None:
        if self.position != len(self.view):
            raise invalid(
                f"{len(self.view)} bytes of binary data follow the JSON, but the inputs declare "
                f"{self.position} in binary_data_size"
            )


def _tensor_with_parameters(
    wire: WireInput, datatype: DataType, tail: _Tail | None, regions: Regions | None
) -> Tensor:
    shape = tuple(wire.shape)
    parameters = wire.parameters or _NONE
    check_values(parameters)
    size = parameters.get("binary_data_size")
    if "shared_memory_region" in parameters:
        if size is not None or wire.data is not UNSET:
            raise invalid(
                f"input '{wire.name}' has 'shared_memory_region' and also 'data' or "
                "binary_data_size; send one"
            )
        return read_shared(wire.name, datatype, shape, parameters, regions)
    if size is None:
        if wire.data is UNSET:
            raise invalid(f"input '{wire.name}' has neither 'data' nor binary_data_size")
        return tensor_from_json(wire.name, datatype, shape, wire.data)
    if wire.data is not UNSET:
        raise invalid(f"input '{wire.name}' has both 'data' and binary_data_size; send one")
    if type(size) is not int or size < 0:
        raise invalid(f"binary_data_size of input '{wire.name}' must be a number of bytes, >= 0")
    if tail is None:
        raise invalid(
            f"input '{wire.name}' has binary_data_size, but the request lacks the header "
            f"Inference-Header-Content-Length"
        )
    check_size(wire.name, datatype, shape, size)
    return tensor_from_binary(wire.name, datatype, shape, tail.take(wire.name, size))


def _decode_raw(body: memoryview, signature: Signature) -> InferRequest:
    """The whole body is the only input, of one row. Source: Triton, "Raw Binary Request"."""
    if len(signature.inputs) != 1:
        raise invalid(
            f"a body without JSON needs a model of exactly one input; this one has "
            f"{len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    row = (1,) if signature.batched else ()
    if spec.datatype.is_bytes:
        if any(dim not in (-1, 1) for dim in spec.dims):
            raise invalid(
                f"a body without JSON is one BYTES element, but input '{spec.name}' has the shape "
                f"{list(spec.dims)}"
            )
        shape = row + (1,) * len(spec.dims)
        tensor = Tensor(spec.name, _BYTES, shape, BytesArray.from_items([bytes(body)]))
    else:
        shape = row + _raw_dims(spec, len(body))
        tensor = tensor_from_binary(spec.name, spec.datatype, shape, body)
    return InferRequest({spec.name: tensor}, parameters={"binary_data_output": True})


def _raw_dims(spec: TensorSpec, size: int) -> tuple[int, ...]:
    variable = spec.dims.count(-1)
    if variable > 1:
        raise invalid(
            f"a body without JSON needs an input of at most one variable dimension, but "
            f"'{spec.name}' has the shape {list(spec.dims)}"
        )
    known = prod(dim for dim in spec.dims if dim != -1) * spec.datatype.itemsize
    extent = size // known if variable and known else 1
    if (variable and not known) or extent * known != size:
        raise invalid(
            f"the body of {size} bytes is not a whole {spec.datatype.name} tensor of shape "
            f"{list(spec.dims)} for input '{spec.name}'"
        )
    return tuple(extent if dim == -1 else dim for dim in spec.dims)


def _outputs_of(wires: list[WireOutput], regions: Regions | None) -> list[RequestedOutput]:
    return requested_outputs(((wire.name, wire.parameters) for wire in wires), regions)


def _datatype_error(wire: WireInput) -> HostlerError:
    return invalid(
        f"input '{wire.name}' has the unknown datatype {wire.datatype[:32]!r}; one of "
        f"{', '.join(DATATYPES)} is expected"
    )
