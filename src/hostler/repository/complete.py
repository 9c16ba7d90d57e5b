"""What a package says and what the model says of itself, joined. Pure.

Source: Triton's auto-completed configuration (docs/user_guide/model_configuration.md) and the
checks of its ONNX Runtime backend (`CompareDimsSupported`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hostler.core import HostlerError, Inspection, ModelSpec, Signature, TensorSpec
from hostler.protocols.oip.model_config import (
    DYNAMIC_BATCHING,
    MODEL_INPUT,
    MODEL_OUTPUT,
    parse_json,
    to_json,
)
from hostler.repository.derive import data_type_of, derive, normalise, tensor_spec
from hostler.repository.image_rule import with_images
from hostler.repository.package import contradiction
from hostler.repository.platforms import PLATFORMS, stated_platform
from hostler.repository.sequences import check_sequence_graph, filled_names
from hostler.repository.shaping import batch_input_names, check_batch_inputs, is_flat, shaped

__all__ = ["complete"]

_TEMPLATES: Final = {"input": MODEL_INPUT, "output": MODEL_OUTPUT}


def complete(spec: ModelSpec, inspection: Inspection) -> ModelSpec:
    """Join a spec as `Repository` reads it with what its model says.

    What the package leaves out comes from the model. Where it does not state `max_batch_size` and
    all tensors have a variable first dimension, the model is batched: requests are joined up to
    `spec.rows_ceiling` rows, while one request may have any number (`signature.rows_max` 0).
    A model whose answers depend on the batch is joined only if the package has `dynamic_batching`.

    Raises: INVALID_ARGUMENT naming model, field and both values where the two contradict, or what
    to add where neither knows.
    """
    model, ceiling = spec.name, spec.rows_ceiling
    config: dict[str, Any] = dict(spec.config)
    if inspection.config is not None:
        config, ceiling = _own_config(spec, inspection.config), 0
    inputs, outputs = inspection.inputs, inspection.outputs
    asked = "dynamic_batching" in config or "sequence_batching" in config
    rows_completed = (
        bool(ceiling)
        and not config["max_batch_size"]
        and spec.auto_complete
        and _is_batched(config, inputs, outputs)
    )
    if rows_completed:
        config["max_batch_size"] = ceiling
        if not asked and not inspection.batch_dependent:
            config["dynamic_batching"] = dict(DYNAMIC_BATCHING)
    rows = config["max_batch_size"]
    for kind, graph in (("input", inputs), ("output", outputs)):
        config[kind] = _joined(spec, kind, config, graph, rows)
    if config["batch_input"]:
        check_batch_inputs(model, config, inputs)
    if "sequence_batching" in config:
        check_sequence_graph(model, config, inputs, outputs)
    if inputs is not None:
        _check_all_inputs(model, config, inputs)
    spec = derive(spec, config, rows_known=True)
    batching = spec.batching
    if inspection.batch_dependent and not asked:
        batching = replace(batching, rows_max=1)
    signature = Signature(
        tuple(tensor_spec(tensor, spec.labels) for tensor in config["input"]),
        tuple(tensor_spec(tensor, spec.labels) for tensor in config["output"]),
        batched=rows > 0,
        rows_max=0 if rows_completed else rows,
    )
    shaping, signature = shaped(model, config, signature, spec.runtime)
    if not spec.opaque:
        signature = with_images(model, config, spec.variables, signature, runtime=spec.runtime)
    return replace(spec, batching=batching, signature=signature, shaping=shaping)


def _own_config(spec: ModelSpec, document: Mapping[str, object]) -> dict[str, Any]:
    """What the model's `auto_complete_config` made of the config, read like a file."""
    source = f"auto_complete_config of model '{spec.name}'"
    config = to_json(parse_json(document, source))
    platform = stated_platform(spec.name, config)
    own = next(p for p in PLATFORMS if p.runtime == spec.runtime)
    if platform not in (None, own):
        raise contradiction(
            spec.name, "backend", f"{source} changed it from '{own.backend}'; leave it as it is"
        )
    return normalise(config, spec.name, own, spec.file.name)


def _is_batched(
    config: Mapping[str, Any],
    inputs: Sequence[TensorSpec] | None,
    outputs: Sequence[TensorSpec] | None,
) -> bool:
    """Whether the first dimension of everything is variable and not spoken of as a plain one."""
    if inputs is None or outputs is None:
        return False
    required = [tensor for tensor in inputs if not tensor.optional]
    if not required or any(tensor.dims[:1] != (-1,) for tensor in (*required, *outputs)):
        return False
    # Stated dims tell by their number whether the author counted the batch among them.
    for kind, graph in (("input", inputs), ("output", outputs)):
        ranks = {tensor.name: len(tensor.dims) for tensor in graph}
        for tensor in config[kind]:
            if ranks.get(tensor["name"]) == len(_framework_dims(tensor)):
                return False
    return True


def _framework_dims(tensor: Mapping[str, Any]) -> list[int]:
    """The dims that the framework sees: after `reshape`."""
    dims: list[int] = tensor["reshape"]["shape"] if "reshape" in tensor else tensor["dims"]
    return dims


def _joined(
    spec: ModelSpec,
    kind: str,
    config: Mapping[str, Any],
    graph: Sequence[TensorSpec] | None,
    rows: int,
) -> list[Mapping[str, Any]]:
    stated = config[kind]
    if stated:
        if graph is not None:
            by_name = {tensor.name: tensor for tensor in graph}
            for item in stated:
                found = _check_tensor(spec.name, kind, item, by_name)
                if is_flat(kind, item, config, spec.runtime):
                    _check_flat(spec.name, kind, found)
                else:
                    _check_shape(spec.name, kind, item, found, rows)
        return list(stated)
    if not spec.auto_complete:
        raise contradiction(
            spec.name,
            kind,
            "is missing and repository.auto_complete is off; list it in config.pbtxt",
        )
    if graph is None:
        raise contradiction(spec.name, kind, _what_to_add(spec, kind))
    completed: list[Mapping[str, Any]] = []
    made = filled_names(config, kind).union(batch_input_names(config) if kind == "input" else ())
    for tensor in graph:
        # Weights that may be replaced count as optional inputs; whoever wants them lists them.
        if tensor.optional or tensor.name in made:
            continue
        if rows:
            _check_batch_dimension(spec.name, f"{kind} '{tensor.name}'", tensor.dims, rows)
        completed.append(_tensor_json(kind, tensor, batched=rows > 0))
    if not completed:
        raise contradiction(spec.name, kind, "the model has none, so there is nothing to serve")
    return completed


def _what_to_add(spec: ModelSpec, kind: str) -> str:
    text = (
        "is missing and the model does not tell it; add to config.pbtxt: "
        f'{kind} [{{ name: "..." data_type: TYPE_FP32 dims: [ ... ] }}]'
    )
    if spec.runtime == "python":
        text += f", or call add_{kind} in auto_complete_config of {spec.file.name}"
    return text


def _tensor_json(kind: str, tensor: TensorSpec, *, batched: bool) -> dict[str, object]:
    word = "STRING" if tensor.datatype.is_bytes else tensor.datatype.name
    dims = tensor.dims[1:] if batched else tensor.dims
    return {
        **_TEMPLATES[kind],
        "name": tensor.name,
        "data_type": f"TYPE_{word}",
        "dims": list(dims),
    }


def _check_tensor(
    model: str,
    kind: str,
    tensor: Mapping[str, Any],
    graph: Mapping[str, TensorSpec],
) -> TensorSpec:
    """What the model says of a stated tensor, once name, datatype and need agree."""
    name = tensor["name"]
    place = f"{kind} '{name}'"
    found = graph.get(name)
    if found is None:
        names = ", ".join(f"'{other}'" for other in graph) or "none"
        raise contradiction(model, place, f"the model has no such {kind}; it has {names}")
    # What is no datatype at all is refused when the whole config is checked.
    if not isinstance(tensor["data_type"], int) and tensor["data_type"] != "TYPE_INVALID":
        datatype = data_type_of(tensor["data_type"])
        if datatype is not found.datatype:
            raise contradiction(
                model,
                f"{place}.data_type",
                f"is {datatype.name} in the configuration, but {found.datatype.name} in the model",
            )
    if tensor.get("optional") and not found.optional:
        raise contradiction(
            model, f"{place}.optional", "is true in the configuration, but the model needs it"
        )
    return found


def _check_flat(model: str, kind: str, found: TensorSpec) -> None:
    """Inputs that come end to end have one dimension; an output may have any number."""
    if kind == "input" and found.dims not in ((), (-1,)):
        raise contradiction(
            model,
            f"input '{found.name}'.allow_ragged_batch",
            f"the model's shape {list(found.dims)} is not [-1]: requests are joined end to end, so "
            "export it with one variable dimension, or see padding.input in docs/batching.md",
        )


def _check_shape(
    model: str, kind: str, tensor: Mapping[str, Any], found: TensorSpec, rows: int
) -> None:
    place = f"{kind} '{found.name}'"
    # Frameworks show a shape of unknown rank as an empty one, which says nothing.
    if not found.dims:
        return
    if rows:
        _check_batch_dimension(model, place, found.dims, rows)
    _check_dims(model, place, _framework_dims(tensor), found.dims, batched=rows > 0)


def _check_batch_dimension(model: str, place: str, dims: Sequence[int], rows: int) -> None:
    if dims[:1] != (-1,) and dims:
        raise contradiction(
            model,
            place,
            f"max_batch_size is {rows}, but the model's shape {list(dims)} has the fixed first "
            f"dimension {dims[0]}; set max_batch_size to 0 or export it with a variable one",
        )


def _check_dims(
    model: str, place: str, stated: Sequence[int], graph: Sequence[int], *, batched: bool
) -> None:
    own = graph[1:] if batched else graph
    if len(stated) == len(own) and all(
        want in (-1, got) for got, want in zip(stated, own, strict=True)
    ):
        return
    note = " without its batch dimension" if batched else ""
    raise contradiction(
        model,
        f"{place}.dims",
        f"{list(stated)} in the configuration does not fit {list(own)} in the model{note}",
    )


def _check_all_inputs(model: str, config: Mapping[str, Any], graph: Sequence[TensorSpec]) -> None:
    names = {tensor["name"] for tensor in config["input"]}
    known = names.union(batch_input_names(config), filled_names(config, "input"))
    missing = [t.name for t in graph if not t.optional and t.name not in known]
    if missing:
        raise _missing_inputs(model, missing, len(names))


def _missing_inputs(model: str, missing: Sequence[str], count: int) -> HostlerError:
    listed = ", ".join(f"'{name}'" for name in missing)
    return contradiction(
        model, "input", f"lists {count}, but the model also needs {listed}; add it or list none"
    )
