"""ModelConfig in its JSON form -> the parts of a ModelSpec. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hostler.core import (
    DATATYPES,
    Batching,
    DataType,
    InstanceGroup,
    ModelSpec,
    QueuePolicy,
    TensorSpec,
    Warmup,
    WarmupInput,
)
from hostler.protocols.oip.model_config import INSTANCE_GROUP
from hostler.repository.checks import check_config, check_served, response_cached
from hostler.repository.ensembles import ENSEMBLE, ensemble_plan
from hostler.repository.package import contradiction
from hostler.repository.platforms import Platform
from hostler.repository.sequences import IDLE_DEFAULT_US, sequencing_of

__all__ = ["data_type_of", "derive", "normalise", "tensor_spec"]

_MICROSECOND_S: Final = 1e-6

_KINDS: Final = {"KIND_AUTO": "auto", "KIND_CPU": "cpu", "KIND_GPU": "gpu", "KIND_MODEL": "auto"}

_PROVIDERS: Final = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Triton's accelerator names. Source: onnxruntime_backend README. Others are given in full."""


def normalise(
    config: Mapping[str, Any], model: str, platform: Platform, filename: str
) -> dict[str, Any]:
    """The config with the defaults that Triton writes into it, in the schema's order.

    Source: Triton core `NormalizeModelConfig`, `NormalizeInstanceGroup`.
    """
    ensemble = platform.runtime == ENSEMBLE
    groups = config["instance_group"] or [{**INSTANCE_GROUP, "count": 1}][ensemble:]
    latest = {"latest": {"num_versions": 1}}
    fresh: dict[str, Any] = {
        "name": config["name"] or model,
        "platform": config["platform"] or platform.config_platform,
        "backend": config["backend"] or platform.backend,
        "runtime": config["runtime"],
        "version_policy": config.get("version_policy") or latest,
    }
    fresh.update((key, value) for key, value in config.items() if key not in fresh)
    fresh["default_model_filename"] = config["default_model_filename"] or (
        "" if ensemble else filename
    )
    fresh["instance_group"] = [
        # A negative count stays as it is, for the check to refuse.
        {**group, "name": group["name"] or f"{model}_{index}", "count": group["count"] or 1}
        for index, group in enumerate(groups)
    ]
    sequences = config.get("sequence_batching")
    if sequences is not None:
        idle_us = sequences["max_sequence_idle_microseconds"] or IDLE_DEFAULT_US
        fresh["sequence_batching"] = {**sequences, "max_sequence_idle_microseconds": idle_us}
    return fresh


def derive(spec: ModelSpec, config: Mapping[str, Any], *, rows_known: bool) -> ModelSpec:
    """The spec with everything that a normalised config says, signature excepted.

    `rows_known`: `max_batch_size` is stated or was completed. Raises: INVALID_ARGUMENT,
    UNIMPLEMENTED naming model and field.
    """
    check_served(spec.name, config)
    check_config(spec.name, config, rows_known=rows_known)
    return replace(
        spec,
        config=config,
        batching=_batching(config),
        sequencing=sequencing_of(config, spec.initial_states),
        instances=_instances(config["instance_group"]),
        warmup=tuple(_warmup(item, config, spec.directory) for item in config["model_warmup"]),
        options=_options(spec.name, config),
        decoupled=bool(config.get("model_transaction_policy", {}).get("decoupled")),
        ensemble=ensemble_plan(spec.name, config),
        cached=config["platform"] != ENSEMBLE and response_cached(config),
    )


def data_type_of(name: str) -> DataType:
    """The datatype that the config calls `TYPE_<name>`; BYTES is TYPE_STRING there."""
    word = name.removeprefix("TYPE_")
    return DATATYPES["BYTES" if word == "STRING" else word]


def tensor_spec(tensor: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> TensorSpec:
    """One checked input or output of a config."""
    reshape = tensor.get("reshape")
    return TensorSpec(
        tensor["name"],
        data_type_of(tensor["data_type"]),
        tuple(tensor["dims"]),
        optional=tensor.get("optional", False),
        reshape=None if reshape is None else tuple(reshape["shape"]),
        labels=labels.get(tensor["name"], ()) if tensor.get("label_filename") else (),
    )


def _batching(config: Mapping[str, Any]) -> Batching:
    rows_max = max(1, config["max_batch_size"])
    oldest = config.get("sequence_batching", {}).get("oldest")
    stated = config.get("dynamic_batching")
    if oldest is not None:
        preferred = tuple(sorted(set(oldest["preferred_batch_size"])))
        return Batching(
            rows_max=rows_max,
            tuned=not preferred,
            preferred=preferred,
            delay_s=oldest["max_queue_delay_microseconds"] * _MICROSECOND_S,
            preserve_ordering=oldest["preserve_ordering"],
        )
    if stated is None:
        return Batching(rows_max=rows_max)
    preferred = tuple(sorted(set(stated["preferred_batch_size"])))
    return Batching(
        rows_max=rows_max,
        tuned=not preferred,
        preferred=preferred,
        delay_s=stated["max_queue_delay_microseconds"] * _MICROSECOND_S,
        preserve_ordering=stated["preserve_ordering"],
        priority_levels=stated["priority_levels"],
        default_priority=stated["default_priority_level"],
        default_policy=_policy(stated.get("default_queue_policy")),
        policies={
            int(level): _policy(policy) for level, policy in stated["priority_queue_policy"].items()
        },
    )


def _policy(stated: Mapping[str, Any] | None) -> QueuePolicy:
    if stated is None:
        return QueuePolicy()
    return QueuePolicy(
        timeout_s=stated["default_timeout_microseconds"] * _MICROSECOND_S,
        delay_on_timeout=stated["timeout_action"] == "DELAY",
        timeout_override=stated["allow_timeout_override"],
        size_max=stated["max_queue_size"],
    )


def _instances(groups: Sequence[Mapping[str, Any]]) -> tuple[InstanceGroup, ...]:
    """`count` is replicas on each device of the group, so every device becomes a group."""
    instances: list[InstanceGroup] = []
    for group in groups:
        count = max(1, group["count"])
        kind = _KINDS.get(group["kind"], "auto")
        if group["gpus"]:
            instances.extend(InstanceGroup(count, "gpu", (gpu,)) for gpu in group["gpus"])
        else:
            instances.append(InstanceGroup(count, kind))
    return tuple(instances)


def _warmup(item: Mapping[str, Any], config: Mapping[str, Any], directory: Path) -> Warmup:
    inputs = []
    for name, given in sorted(item["inputs"].items()):
        file = given.get("input_data_file") or None
        source = "file" if file else "random" if given.get("random_data") else "zero"
        inputs.append(
            WarmupInput(
                name,
                data_type_of(given["data_type"]),
                tuple(given["dims"]),
                source=source,
                file=None if file is None else directory / "warmup" / file,
            )
        )
    rows = max(1, item["batch_size"]) if config["max_batch_size"] else 0
    return Warmup(item["name"], rows, tuple(inputs), count=max(1, item["count"]))


def _options(model: str, config: Mapping[str, Any]) -> dict[str, str]:
    options = {key: item["string_value"] for key, item in config["parameters"].items()}
    optimization = config.get("optimization", {})
    # Level 0 is the schema's default and means that nothing was said.
    level = optimization.get("graph", {}).get("level", 0)
    if level:
        options.setdefault("graph_optimization_level", str(level))
    accelerators = optimization.get("execution_accelerators", {})
    providers: list[str] = []
    for kind in ("gpu_execution_accelerator", "cpu_execution_accelerator"):
        for item in accelerators.get(kind, ()):
            provider = _PROVIDERS.get(item["name"], item["name"])
            if not provider.endswith("ExecutionProvider"):
                raise contradiction(
                    model,
                    f"optimization.execution_accelerators.{kind}",
                    f"'{item['name']}' is unknown; one of {', '.join(_PROVIDERS)}, or the full "
                    "name of an execution provider of ONNX Runtime",
                )
            providers.append(provider)
            for key, value in item["parameters"].items():
                options[f"execution_provider.{provider}.{key}"] = value
    if providers:
        options.setdefault("execution_providers", ",".join(dict.fromkeys(providers)))
    return options
