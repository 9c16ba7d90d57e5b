"""The generate extension: one flat JSON object each way, mapped by the names of tensors.

Source: Triton `extension_generate.md`; `http_server.cc`, GenerateRequestClass;
open-inference-protocol `generate_rest.yaml`, whose requests and responses are those of a model
with a BYTES input `text_input` and a BYTES output `text_output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
import orjson

from hostler.core import (
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip.json_form import dump_floats, json_data
from hostler.protocols.oip.limits import ID_CHARS_MAX, NAME_CHARS_MAX, PARAMETERS_MAX
from hostler.protocols.oip.parameters import context_of
from hostler.protocols.oip.schema import Body, invalid, parse_json
from hostler.protocols.oip.values import tensor_from_json

__all__ = ["NOT_ONE_RESPONSE", "decode_generate", "encode_generate"]

NOT_ONE_RESPONSE: Final = (
    "generate expects model to produce exactly 1 response, use generate stream for model that "
    "generates various number of responses"
)
"""The message for a model that sent none or several. Source: Triton `http_server.cc`."""

_NESTED: Final = "parameters"


def decode_generate(body: Body, signature: Signature) -> InferRequest:
    """Read one generate request.

    A key that names an input is that tensor: a value or a flat list. All others are request
    parameters, except `id`. The members of `parameters` are read in the same way. Values fill the
    innermost variable dimension of the input's shape, further variable ones are 1; the batch
    dimension is one of them.
    Raises: INVALID_ARGUMENT saying what is wrong.
    """
    document = parse_json(body, "the generate request") if len(body) else {}
    if not isinstance(document, dict):
        raise invalid("the generate request must be a JSON object")
    if signature.input(_NESTED) is not None and isinstance(document.get(_NESTED), dict):
        raise invalid(
            f"Keyword '{_NESTED}' for nested schema also given as input tensor name; ask this "
            f"model through infer"
        )
    inputs: dict[str, Tensor] = {}
    parameters: dict[str, Any] = {}
    request_id = ""
    for key, value in document.items():
        if key == "id" and signature.input(key) is None:
            request_id = _id_of(value)
        elif key == _NESTED and signature.input(key) is None:
            for name, nested in _members(value):
                _put(inputs, parameters, signature, name, nested)
        else:
            _put(inputs, parameters, signature, key, value)
    if len(parameters) > PARAMETERS_MAX:
        raise invalid(
            f"the generate request has {len(parameters)} parameters; {PARAMETERS_MAX} is the limit"
        )
    context = context_of(parameters) if parameters else None
    return InferRequest(inputs, id=request_id, parameters=parameters, context=context)


def encode_generate(
    response: InferResponse, request_id: str, name: str, version: int | str
) -> bytes:
    """Write one generate response: `id` where there is one, model, parameters, then outputs.

    An output of one element is that element, any other a flat list. Of two members of one name
    the first stands.
    Raises: INVALID_ARGUMENT for an output without a JSON form; MODEL_ERROR for parameters without.
    """
    document: dict[str, Any] = {"id": request_id} if request_id else {}
    document["model_name"] = name
    document["model_version"] = str(version)
    for key, parameter in response.parameters.items():
        document.setdefault(key, parameter)
    for tensor in response.outputs:
        data = json_data(tensor)
        document.setdefault(tensor.name, data[0] if len(data) == 1 else data)
    try:
        text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"null" in text:  # orjson's word for NaN and infinities; or the word is in some string
            literal = {key: _with_literals(value) for key, value in document.items()}
            text = orjson.dumps(literal, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise HostlerError(
            Code.MODEL_ERROR, f"the response of model '{name}' has no JSON form: {error}"
        ) from None
    return text


def _id_of(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > ID_CHARS_MAX:
        raise invalid(f"Unable to parse 'id': a string of at most {ID_CHARS_MAX} characters")
    return value


def _members(value: object) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise invalid(f"Expected JSON object for keyword: '{_NESTED}'")
    return list(value.items())


def _put(
    inputs: dict[str, Tensor],
    parameters: dict[str, Any],
    signature: Signature,
    key: str,
    value: object,
) -> None:
    spec = signature.input(key)
    if key in inputs or key in parameters:
        raise invalid(
            f"{'parameter' if spec is None else 'input'} '{key[:64]}' already exists in request"
        )
    if spec is not None:
        inputs[key] = _tensor(spec, signature.metadata_shape(spec), value)
        return
    if len(key) > NAME_CHARS_MAX:
        raise invalid(f"a parameter's name exceeds {NAME_CHARS_MAX} characters")
    if not isinstance(value, str | int | float | bool):
        raise invalid(
            f"parameter '{key[:64]}' has invalid type. It should be either 'int', 'float', 'bool', "
            f"or 'string'; no input of the model has this name"
        )
    parameters[key] = value


def _tensor(spec: TensorSpec, dims: Sequence[int], value: object) -> Tensor:
    values = value if isinstance(value, list) else [value]
    kinds = set(map(type, values))
    if list in kinds or dict in kinds:
        raise invalid(f"input '{spec.name}' must be one value or a flat list of values")
    if bool in kinds and spec.datatype.name != "BOOL":
        # Packing would take it for 0 or 1.
        raise invalid(f"input '{spec.name}' is {spec.datatype.name}, but is given a boolean")
    shape = _filled(spec.name, dims, len(values))
    return tensor_from_json(spec.name, spec.datatype, shape, values)


def _filled(name: str, dims: Sequence[int], count: int) -> tuple[int, ...]:
    """The shape of `count` values. Source: Triton `http_server.cc`, ExactMappingInput."""
    known = prod(dim for dim in dims if dim != -1)
    rest, left = divmod(count, known) if known else (0, count)
    shape = list(dims)
    for index in reversed(range(len(shape))):
        if shape[index] == -1:
            shape[index], rest = rest, 1
    if left or (known and rest != 1):
        raise invalid(
            f"The schema can not convert input '{name}' to tensor with proper shape: {count} "
            f"values do not fill {list(dims)}"
        )
    return tuple(shape)


def _with_literals(value: object) -> object:
    """What orjson would write as null, as the literal that Triton writes."""
    if isinstance(value, float | np.floating):
        value = np.array([value])
        return orjson.Fragment(dump_floats(value)[1:-1])
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return orjson.Fragment(dump_floats(value))
    return value
