"""Ragged inputs and padding: ModelConfig in its JSON form -> `core.Shaping`. Pure.

Source: Triton core `ValidateBatchIO`, onnxruntime_backend's checks of ragged inputs. Padding is our
own, written as `parameters` so that the configuration stays Triton's:

    padding.input.NAME    longest, or ascending buckets such as 16,32,64; then perhaps value=0
    padding.output.NAME   the padded input whose variable dimensions it is cut back to, or none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from hostler.core import (
    DATATYPES,
    BatchInput,
    DataType,
    PaddedInput,
    Shaping,
    Signature,
    TensorSpec,
)
from hostler.repository.package import contradiction

__all__ = ["batch_input_names", "check_batch_inputs", "is_flat", "shaped"]

_PADDING: Final = "padding."
_INPUT: Final = "padding.input."
_OUTPUT: Final = "padding.output."

_BUCKETS_MAX: Final = 64
_BUCKET_MAX: Final = 1 << 24
"""Elements in one dimension: 16 million is longer than any sequence a model takes."""

_DATATYPES: Final = {"TYPE_INT32": DATATYPES["INT32"], "TYPE_FP32": DATATYPES["FP32"]}
"""Of batch inputs. Source: model_config.proto, BatchInput.data_type."""

_BOOLS: Final = {"0": False, "1": True, "false": False, "true": True}


def is_flat(kind: str, tensor: Mapping[str, Any], config: Mapping[str, Any], runtime: str) -> bool:
    """Whether the framework sees this input or output with its requests end to end."""
    if runtime == "python":
        return False  # it sees each request as it came
    if kind == "input":
        return bool(tensor.get("allow_ragged_batch"))
    return any(tensor["name"] in item["target_name"] for item in config["batch_output"])


def batch_input_names(config: Mapping[str, Any]) -> list[str]:
    """Inputs of the model that the server makes: no client sends them."""
    return [name for item in config["batch_input"] for name in item["target_name"]]


def check_batch_inputs(
    model: str, config: Mapping[str, Any], graph: Sequence[TensorSpec] | None
) -> None:
    """Hold `batch_input` against the inputs that the model itself names, where it does."""
    by_name = None if graph is None else {tensor.name: tensor for tensor in graph}
    for item in config["batch_input"]:
        for name in item["target_name"]:
            place = f"batch_input '{name}'"
            if any(tensor["name"] == name for tensor in config["input"]):
                raise contradiction(model, place, "is in input too; clients do not send it")
            if by_name is None:
                continue
            found = by_name.get(name)
            if found is None:
                listed = ", ".join(f"'{other}'" for other in by_name) or "none"
                raise contradiction(model, place, f"the model has no such input; it has {listed}")
            if _DATATYPES.get(item["data_type"]) is not found.datatype:
                raise contradiction(
                    model,
                    f"{place}.data_type",
                    f"is {item['data_type']}, but the model takes {found.datatype.name}",
                )


def shaped(
    model: str, config: Mapping[str, Any], signature: Signature, runtime: str
) -> tuple[Shaping | None, Signature]:
    """What a completed configuration says of shapes, and the signature that knows of it.

    Python models get ragged requests side by side, so their batch inputs have no use.
    Raises: INVALID_ARGUMENT naming the model and the field or parameter.
    """
    parameters = {
        key: item["string_value"]
        for key, item in config["parameters"].items()
        if key.startswith(_PADDING)
    }
    ragged = [tensor["name"] for tensor in config["input"] if tensor.get("allow_ragged_batch")]
    if not (parameters or ragged or config["batch_input"] or config["batch_output"]):
        return None, signature
    if runtime == "ensemble":
        if parameters:
            place = f"parameters.{next(iter(parameters))}"
            raise contradiction(model, place, "belongs in the config.pbtxt of the step's model")
        return None, signature  # its steps join their requests, each as its own package says
    _check_whole(model, config, parameters, ragged)
    batch_inputs = _batch_inputs(model, config, signature)
    scattered = _scattered(model, config, signature)
    padded = _padded_inputs(model, parameters, signature, ragged)
    cut = _cut_outputs(model, parameters, signature, padded)
    shaping = Shaping(padded=padded, cut=cut)
    if runtime != "python":
        shaping = Shaping(padded, cut, frozenset(ragged), batch_inputs, scattered)
    joining = {*ragged, *(rule.name for rule in padded)}
    signature = Signature(
        tuple(replace(spec, joins_any=spec.name in joining) for spec in signature.inputs),
        signature.outputs,
        batched=signature.batched,
        rows_max=signature.rows_max,
    )
    return shaping if padded or shaping.joins else None, signature


def _check_whole(
    model: str, config: Mapping[str, Any], parameters: Mapping[str, str], ragged: Sequence[str]
) -> None:
    fields = {
        "allow_ragged_batch": bool(ragged),
        "batch_input": bool(config["batch_input"]),
        "batch_output": bool(config["batch_output"]),
    }
    said = next((name for name, present in fields.items() if present), None)
    if said is not None and not config["max_batch_size"]:
        raise contradiction(
            model, said, "needs max_batch_size of 1 or more: there are no batches without"
        )
    said = said or f"parameters.{next(iter(parameters))}"
    if config.get("sequence_batching") is not None:
        raise contradiction(
            model, said, "does not go together with sequence_batching; leave out one of the two"
        )
    for tensor in config["input"]:
        if tensor["name"] in ragged and "reshape" in tensor:
            raise contradiction(
                model,
                f"input '{tensor['name']}'.reshape",
                "does not go together with allow_ragged_batch: the model sees one dimension",
            )


def _batch_inputs(
    model: str, config: Mapping[str, Any], signature: Signature
) -> tuple[BatchInput, ...]:
    rules = []
    seen: set[str] = set()
    for index, item in enumerate(config["batch_input"]):
        place = f"batch_input[{index}]"
        if isinstance(item["kind"], int):
            raise contradiction(model, f"{place}.kind", f"{item['kind']} is not known")
        if item["data_type"] not in _DATATYPES:
            raise contradiction(
                model, f"{place}.data_type", f"is {item['data_type']}; TYPE_INT32 or TYPE_FP32"
            )
        names = tuple(item["target_name"])
        if not names:
            raise contradiction(model, f"{place}.target_name", "names no input of the model")
        for name in names:
            if name in seen:
                raise contradiction(model, f"{place}.target_name", f"'{name}' is given twice")
            seen.add(name)
        source = _source(model, place, item, signature)
        datatype = _DATATYPES[item["data_type"]]
        rules.append(BatchInput(item["kind"], names, datatype, source.name))
    return tuple(rules)


def _scattered(model: str, config: Mapping[str, Any], signature: Signature) -> dict[str, str]:
    scattered: dict[str, str] = {}
    for index, item in enumerate(config["batch_output"]):
        place = f"batch_output[{index}]"
        if isinstance(item["kind"], int):
            raise contradiction(model, f"{place}.kind", f"{item['kind']} is not known")
        source = _source(model, place, item, signature)
        if not item["target_name"]:
            raise contradiction(model, f"{place}.target_name", "names no output of the model")
        for name in item["target_name"]:
            output = signature.output(name)
            where = f"{place}.target_name"
            if output is None:
                raise contradiction(model, where, f"the model has no output '{name}'")
            if name in scattered:
                raise contradiction(model, where, f"'{name}' is given twice")
            if output.reshape is not None:
                raise contradiction(model, where, f"output '{name}' has a reshape; leave out one")
            variable = [place for place, dim in enumerate(output.dims) if dim < 0]
            if variable and variable[-1] >= len(source.dims):
                raise contradiction(
                    model,
                    where,
                    f"output '{name}' has dims {list(output.dims)}, whose variable ones have no "
                    f"fellow in dims {list(source.dims)} of input '{source.name}'",
                )
            scattered[name] = source.name
    return scattered


def _source(model: str, place: str, item: Mapping[str, Any], signature: Signature) -> TensorSpec:
    sources = item["source_input"]
    where = f"{place}.source_input"
    if len(sources) != 1:
        raise contradiction(model, where, f"names {len(sources)} inputs; {item['kind']} needs 1")
    found = signature.input(sources[0])
    if found is None:
        raise contradiction(
            model, where, f"'{sources[0]}' is not an input; there are {_listed(signature.inputs)}"
        )
    if found.optional:
        raise contradiction(model, where, f"'{sources[0]}' is optional, so it may not be there")
    return found


def _padded_inputs(
    model: str, parameters: Mapping[str, str], signature: Signature, ragged: Sequence[str]
) -> tuple[PaddedInput, ...]:
    rules = []
    for key, text in parameters.items():
        place = f"parameters.{key}"
        if not key.startswith((_INPUT, _OUTPUT)):
            raise contradiction(
                model, place, f"is not known; {_INPUT}NAME or {_OUTPUT}NAME is expected"
            )
        if not key.startswith(_INPUT):
            continue
        name = key.removeprefix(_INPUT)
        spec = signature.input(name)
        if spec is None:
            raise contradiction(
                model, place, f"the model has no such input; it has {_listed(signature.inputs)}"
            )
        if name in ragged:
            raise contradiction(model, place, "the input has allow_ragged_batch; leave out one")
        if min(spec.dims, default=0) >= 0:
            raise contradiction(
                model, place, f"the input's dims {list(spec.dims)} hold no variable dimension (-1)"
            )
        rules.append(_padded_input(model, place, text, spec))
    return tuple(rules)


def _padded_input(model: str, place: str, text: str, spec: TensorSpec) -> PaddedInput:
    sizes, _, value = text.strip().partition(" ")
    buckets: tuple[int, ...] = ()
    if sizes != "longest":
        words = sizes.split(",")
        if not all(word.isascii() and word.isdigit() for word in words):
            raise contradiction(
                model,
                place,
                f"is '{text}'; 'longest' or ascending sizes such as '16,32,64' are expected, and "
                "then, if wanted, ' value=0'",
            )
        buckets = tuple(int(word[:18]) for word in words)
        if len(buckets) > _BUCKETS_MAX:
            raise contradiction(
                model, place, f"lists {len(buckets)} sizes; at most {_BUCKETS_MAX} are served"
            )
        rising = all(low < high for low, high in pairwise(buckets))
        if buckets[0] < 1 or buckets[-1] > _BUCKET_MAX or not rising:
            raise contradiction(
                model, place, f"is '{text}'; sizes must rise, from 1 to {_BUCKET_MAX} at most"
            )
    value = value.strip()
    if value and not value.startswith("value="):
        raise contradiction(
            model, place, f"'{value}' is not known; 'value=0' or so may follow the sizes"
        )
    try:
        return PaddedInput(spec.name, buckets, _value(value.removeprefix("value="), spec.datatype))
    except (ValueError, OverflowError):
        raise contradiction(
            model, place, f"'{value}' is no value of the input's datatype {spec.datatype.name}"
        ) from None


def _value(text: str, datatype: DataType) -> float | int | bytes:
    """An element as `Tensor` holds it. Raises: ValueError, OverflowError."""
    if datatype.is_bytes:
        return text.encode()
    if datatype.name == "BF16":
        # The upper half of a float32, rounded to the nearest; NaN and infinities stay so.
        bits = int(np.float32(text or "0").view(np.uint32))
        exact = not np.isfinite(float(text or "0"))
        return bits >> 16 if exact else (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    if datatype.name == "BOOL":
        found = _BOOLS.get(text.lower() or "0")
        if found is None:
            raise ValueError(text)
        return found
    kind = datatype.numpy.kind
    if kind == "f":
        return float(text or "0")
    number = int(text or "0")
    limits = np.iinfo(datatype.numpy)  # type: ignore[type-var]
    if not limits.min <= number <= limits.max:
        raise OverflowError(text)
    return number


def _cut_outputs(
    model: str,
    parameters: Mapping[str, str],
    signature: Signature,
    padded: Sequence[PaddedInput],
) -> dict[str, str]:
    cut: dict[str, str] = {}
    names = [rule.name for rule in padded]
    for key, text in parameters.items():
        if not key.startswith(_OUTPUT):
            continue
        place, name, source = f"parameters.{key}", key.removeprefix(_OUTPUT), text.strip()
        output = signature.output(name)
        if output is None:
            raise contradiction(
                model, place, f"the model has no such output; it has {_listed(signature.outputs)}"
            )
        if source == "none":
            continue
        if source not in names:
            raise contradiction(
                model, place, f"'{source}' is not a padded input; one of {names} or none"
            )
        given = signature.input(source)
        assert given is not None
        theirs, ours = _variable_count(given), _variable_count(output)
        if not 1 <= ours <= theirs:
            raise contradiction(
                model,
                place,
                f"dims {list(output.dims)} have {ours} variable dimensions; 1 to {theirs} can "
                f"follow those of input '{source}', {list(given.dims)}",
            )
        cut[name] = source
    _check_all_said(model, parameters, signature, names)
    return cut


def _check_all_said(
    model: str, parameters: Mapping[str, str], signature: Signature, padded: Sequence[str]
) -> None:
    """A shape that depends on who else was in the batch must be asked for in so many words."""
    for output in signature.outputs:
        key = f"{_OUTPUT}{output.name}"
        if padded and _variable_count(output) and key not in parameters:
            raise contradiction(
                model,
                f"parameters.{key}",
                f"is missing: the output's dims {list(output.dims)} are variable and inputs are "
                f"padded; set it to the input that it is cut back to, such as '{padded[0]}', or "
                "to 'none' to leave it as long as the batch",
            )


def _variable_count(spec: TensorSpec) -> int:
    return sum(dim < 0 for dim in spec.dims)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs) or "none"
