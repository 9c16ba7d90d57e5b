"""Whether a configuration can be meant, and whether this release serves it. Pure.

Source: Triton core `ValidateModelConfig`, `ValidateModelInput` and the comments of
model_config.proto. All functions take ModelConfig in its JSON form, raise INVALID_ARGUMENT for
contradictions and UNIMPLEMENTED for what is not served, naming the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hostler.core import element_count
from hostler.repository.package import contradiction, unserved
from hostler.repository.sequences import check_sequences, filled_names

__all__ = ["check_config", "check_served", "ignored_fields", "response_cached"]

INSTANCES_MAX: Final = 1024
"""Replicas of one group; each may be a process."""

PRIORITY_LEVELS_MAX: Final = 256
"""Classes of one queue; each may have a policy and is looked at when a batch is formed."""

WARMUP_RUNS_MAX: Final = 10_000
WARMUP_ELEMENTS_MAX: Final = 2**30
"""One warm-up tensor; a float32 one of this size is 4 GiB."""

_FORMAT_RANK: Final = 3
"""FORMAT_NHWC and FORMAT_NCHW speak of three dimensions beside the batch."""


def check_served(model: str, config: Mapping[str, Any]) -> None:
    """Refuse what would be computed wrongly if it were ignored."""
    for name, text in (("model_repository_agents", "repository agents are not served"),):
        if config.get(name):
            raise unserved(model, name, text)
    decoupled = config.get("model_transaction_policy", {}).get("decoupled")
    if decoupled and config["backend"] not in ("", "python"):  # "" until the model's file is found
        raise unserved(
            model,
            "model_transaction_policy.decoupled",
            f"backend '{config['backend']}' gives one response to each request; only a Python "
            "model can give any number of them",
        )
    if config.get("model_operations", {}).get("op_library_filename"):
        raise unserved(
            model, "model_operations.op_library_filename", "custom operators are not served"
        )
    for kind in ("input", "output"):
        for tensor in config[kind]:
            for name in ("is_shape_tensor", "is_non_linear_format_io"):
                if tensor.get(name):
                    raise unserved(model, f"{kind} '{tensor['name']}'.{name}", "is not served")
    for group in config["instance_group"]:
        if group.get("secondary_devices"):
            raise unserved(model, "instance_group.secondary_devices", "is not served")


def ignored_fields(config: Mapping[str, Any]) -> list[str]:
    """Fields that are accepted without effect: answers are right without them."""
    names = ("model_metrics", "cc_model_filenames", "metric_tags")
    ignored = [name for name in names if config.get(name)]
    if config.get("ensemble_scheduling") and response_cached(config):
        ignored.append("response_cache")  # the steps may use it, each for itself
    optimization = config.get("optimization", {})
    ignored.extend(
        f"optimization.{name}"
        for name in ("cuda", "eager_batching", "gather_kernel_buffer_threshold")
        if optimization.get(name)
    )
    if any(group.get("rate_limiter") for group in config["instance_group"]):
        ignored.append("instance_group.rate_limiter")
    if config["backend"] == "python":  # it sees each request of a batch as it came
        ignored.extend(name for name in ("batch_input", "batch_output") if config[name])
    return ignored


def response_cached(config: Mapping[str, Any]) -> bool:
    """Whether the package allows that equal requests are answered from the response cache."""
    return bool(config.get("response_cache", {}).get("enable"))


def check_config(model: str, config: Mapping[str, Any], *, rows_known: bool) -> None:
    """Refuse contradictions. `rows_known`: `max_batch_size` is stated or was completed."""
    if config["name"] != model:
        raise contradiction(
            model,
            "name",
            f"is '{config['name']}', but the package is called '{model}'; rename one or leave the "
            "field out",
        )
    if config["max_batch_size"] < 0:
        raise contradiction(
            model, "max_batch_size", f"is {config['max_batch_size']}; 0 (unbatched) or more"
        )
    _check_versions(model, config.get("version_policy", {}))
    for kind in ("input", "output"):
        _check_tensors(model, kind, config, rows_known=rows_known)
    if response_cached(config):
        _check_response_cache(model, config)
    if "dynamic_batching" in config:
        _check_dynamic_batching(model, config, rows_known=rows_known)
    if "sequence_batching" in config:
        check_sequences(model, config, rows_known=rows_known)
    for index, group in enumerate(config["instance_group"]):
        _check_instances(model, index, group)
    for warmup in config["model_warmup"]:
        _check_warmup(model, warmup, config, rows_known=rows_known)


def _check_response_cache(model: str, config: Mapping[str, Any]) -> None:
    # Source: Triton core `ValidateModelConfig`, which refuses the same two.
    for name, stated in (
        ("sequence_batching", config.get("sequence_batching")),
        (
            "model_transaction_policy.decoupled",
            config.get("model_transaction_policy", {}).get("decoupled"),
        ),
    ):
        if stated:
            raise contradiction(
                model,
                "response_cache.enable",
                f"is true, but an answer of a model with {name} is not told by its request alone; "
                "disable the response cache",
            )


def _check_versions(model: str, policy: Mapping[str, Any]) -> None:
    specific = policy.get("specific")
    if specific is None:
        return
    versions = specific["versions"]
    if not versions:
        raise contradiction(model, "version_policy.specific", "names no version")
    for version in versions:
        if version < 1:
            raise contradiction(
                model, "version_policy.specific", f"version {version} is not 1 or more"
            )


def _check_tensors(model: str, kind: str, config: Mapping[str, Any], *, rows_known: bool) -> None:
    seen: set[str] = set()
    for index, tensor in enumerate(config[kind]):
        name = tensor["name"]
        if not name:
            raise contradiction(model, f"{kind}[{index}].name", "is missing")
        place = f"{kind} '{name}'"
        if name in seen:
            raise contradiction(model, place, "is given twice; names must differ")
        seen.add(name)
        # A number is what JSON shows for an enum member that the schema does not have.
        if tensor["data_type"] == "TYPE_INVALID" or isinstance(tensor["data_type"], int):
            raise contradiction(
                model,
                f"{place}.data_type",
                f"is {tensor['data_type']}; set TYPE_FP32 or whatever the model takes",
            )
        dims = tensor["dims"]
        _check_dims(model, f"{place}.dims", dims)
        if rows_known and not dims and not config["max_batch_size"] and "reshape" not in tensor:
            raise contradiction(
                model, f"{place}.dims", "is empty; it must be set where max_batch_size is 0"
            )
        if tensor.get("format", "FORMAT_NONE") != "FORMAT_NONE" and len(dims) != _FORMAT_RANK:
            raise contradiction(
                model,
                f"{place}.format",
                f"{tensor['format']} needs {_FORMAT_RANK} dims, not {len(dims)}",
            )
        if "reshape" in tensor:
            _check_reshape(model, place, dims, tensor["reshape"]["shape"])


def _check_dims(model: str, place: str, dims: Sequence[int]) -> None:
    for dim in dims:
        if dim != -1 and dim < 1:
            raise contradiction(
                model, place, f"holds {dim}; 1 or more, or -1 for a variable dimension"
            )


def _check_reshape(model: str, place: str, dims: Sequence[int], shape: Sequence[int]) -> None:
    _check_dims(model, f"{place}.reshape.shape", shape)
    if _segments(dims) != _segments(shape):
        raise contradiction(
            model,
            f"{place}.reshape.shape",
            f"{list(shape)} does not hold the elements of dims {list(dims)}",
        )


def _segments(dims: Sequence[int]) -> list[int]:
    """Element counts between the variable dimensions, which alone may keep their place."""
    counts = [1]
    for dim in dims:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def _check_dynamic_batching(model: str, config: Mapping[str, Any], *, rows_known: bool) -> None:
    batching = config["dynamic_batching"]
    rows_max = config["max_batch_size"]
    for size in batching["preferred_batch_size"]:
        place = "dynamic_batching.preferred_batch_size"
        if size < 1:
            raise contradiction(model, place, f"{size} is not 1 or more")
        if rows_known and size > rows_max:
            raise contradiction(model, place, f"{size} is more than max_batch_size {rows_max}")
    levels = batching["priority_levels"]
    default = batching["default_priority_level"]
    if levels > PRIORITY_LEVELS_MAX:
        raise contradiction(
            model,
            "dynamic_batching.priority_levels",
            f"{levels} is more than the {PRIORITY_LEVELS_MAX} that are served",
        )
    if levels == 0 and default:
        raise contradiction(
            model,
            "dynamic_batching.default_priority_level",
            f"is {default}, but priority_levels is 0; set both or neither",
        )
    if levels and not 1 <= default <= levels:
        raise contradiction(
            model,
            "dynamic_batching.default_priority_level",
            f"is {default}; with priority_levels {levels} it must be 1 to {levels}",
        )
    for key in batching["priority_queue_policy"]:
        if not 1 <= int(key) <= levels:
            raise contradiction(
                model,
                "dynamic_batching.priority_queue_policy",
                f"level {key} does not exist: priority_levels is {levels}",
            )


def _check_instances(model: str, index: int, group: Mapping[str, Any]) -> None:
    place = f"instance_group[{index}]"
    count = group["count"]
    if not 0 <= count <= INSTANCES_MAX:
        raise contradiction(
            model, f"{place}.count", f"is {count}; 1 to {INSTANCES_MAX}, or 0 for the default"
        )
    if group["gpus"] and group["kind"] in ("KIND_CPU", "KIND_MODEL"):
        raise contradiction(
            model, f"{place}.gpus", f"is {group['gpus']}, but kind is {group['kind']}"
        )
    for gpu in group["gpus"]:
        if gpu < 0:
            raise contradiction(model, f"{place}.gpus", f"{gpu} is not a device number")
    if len(group["gpus"]) * max(1, count) > INSTANCES_MAX:
        raise contradiction(
            model, place, f"asks for more than {INSTANCES_MAX} replicas over its gpus"
        )


def _check_warmup(
    model: str, warmup: Mapping[str, Any], config: Mapping[str, Any], *, rows_known: bool
) -> None:
    place = f"model_warmup '{warmup['name']}'"
    rows, rows_max = warmup["batch_size"], config["max_batch_size"]
    if rows_known and rows > max(1, rows_max):
        raise contradiction(
            model, f"{place}.batch_size", f"is {rows}; max_batch_size is {rows_max}"
        )
    if warmup["count"] > WARMUP_RUNS_MAX:
        raise contradiction(
            model, f"{place}.count", f"is {warmup['count']}; at most {WARMUP_RUNS_MAX}"
        )
    inputs = {tensor["name"]: tensor for tensor in config["input"]}
    filled = filled_names(config, "input")
    for name, given in warmup["inputs"].items():
        where = f"{place}, input '{name}'"
        _check_warmup_input(model, where, given, max(1, rows))
        if inputs and name not in filled:
            _check_warmup_fits(model, where, given, inputs.get(name))
    for name, tensor in inputs.items():
        if not tensor["optional"] and name not in warmup["inputs"]:
            raise contradiction(model, place, f"lacks input '{name}', which the model needs")


def _check_warmup_input(model: str, place: str, given: Mapping[str, Any], rows: int) -> None:
    for dim in given["dims"]:
        if dim < 1:
            raise contradiction(model, f"{place}.dims", f"holds {dim}; exact sizes are needed")
    if element_count(given["dims"]) * rows > WARMUP_ELEMENTS_MAX:
        raise contradiction(model, f"{place}.dims", f"is more than {WARMUP_ELEMENTS_MAX} elements")
    # A number is what JSON shows for an enum member that the schema does not have.
    if given["data_type"] == "TYPE_INVALID" or isinstance(given["data_type"], int):
        raise contradiction(model, f"{place}.data_type", f"is {given['data_type']}")
    if not (given.get("zero_data") or given.get("random_data") or given.get("input_data_file")):
        raise contradiction(model, place, "set one of zero_data, random_data and input_data_file")


def _check_warmup_fits(
    model: str, place: str, given: Mapping[str, Any], tensor: Mapping[str, Any] | None
) -> None:
    if tensor is None:
        raise contradiction(model, place, "the model has no such input")
    if given["data_type"] != tensor["data_type"]:
        raise contradiction(
            model,
            f"{place}.data_type",
            f"is {given['data_type']}, but the input is {tensor['data_type']}",
        )
    dims, wanted = given["dims"], tensor["dims"]
    if len(dims) != len(wanted) or any(
        want not in (-1, got) for got, want in zip(dims, wanted, strict=True)
    ):
        raise contradiction(model, f"{place}.dims", f"is {dims}, but the input's dims are {wanted}")
