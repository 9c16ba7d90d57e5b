"""Variants of an endpoint configuration: checks, and the fleet that they become. Pure.

Accepted, shown again and without effect on one's own machines: InstanceType beyond that it must be
one of AWS's, AcceleratorType, VolumeSizeInGB, CoreDumpConfig, EnableSSMAccess, RoutingConfig,
ManagedInstanceScaling, InferenceAmiVersion, CapacityReservationConfig, AcceleratorPartitionLayouts,
VariantInstanceProvisionTimeoutInSeconds, MemorySizeInMB of ServerlessConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from hostler.control.operations.containers import containers_of
from hostler.control.operations.desk import refused
from hostler.control.records import ContainerRecord, Document, FleetRecord, VariantRecord

__all__ = ["check_instances", "check_variants", "check_weights", "fleet_of", "model_names"]

_MEMORY_STEP: Final = 1024
_WITHOUT_SERVERLESS: Final = ("InstanceType", "InitialInstanceCount", "ManagedInstanceScaling")


def check_variants(request: Document, instances_max: int) -> None:
    """Refuse what ProductionVariants and ShadowProductionVariants cannot mean.

    Raises: INVALID_ARGUMENT.
    """
    production = request["ProductionVariants"]
    shadows = request.get("ShadowProductionVariants") or []
    names = [variant["VariantName"] for variant in (*production, *shadows)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refused(f"VariantName '{twice}' is given to more than one variant.")
    if shadows and (len(production) > 1 or len(shadows) > 1):
        raise refused(
            "ShadowProductionVariants may have one variant, beside one in ProductionVariants."
        )
    for variant in (*production, *shadows):
        _check_variant(variant, instances_max)
    check_weights({v["VariantName"]: v.get("InitialVariantWeight", 1.0) for v in production})


def _check_variant(variant: Document, instances_max: int) -> None:
    name = variant["VariantName"]
    if not variant.get("ModelName"):
        raise refused(f"Variant '{name}' has no ModelName; inference components are not served.")
    if variant.get("InstancePools"):
        raise refused(f"Variant '{name}': InstancePools is not served; give InstanceType.")
    serverless = variant.get("ServerlessConfig")
    if serverless is None:
        for member in ("InstanceType", "InitialInstanceCount"):
            if not variant.get(member):
                raise refused(f"Variant '{name}' needs {member}, or ServerlessConfig.")
        check_instances(name, variant["InitialInstanceCount"], instances_max)
        return
    for member in _WITHOUT_SERVERLESS:
        if variant.get(member) is not None:
            raise refused(f"Variant '{name}' cannot have both ServerlessConfig and {member}.")
    memory = serverless["MemorySizeInMB"]
    if memory % _MEMORY_STEP:
        raise refused(
            f"Variant '{name}': MemorySizeInMB {memory} must be a multiple of {_MEMORY_STEP}."
        )
    provisioned, most = serverless.get("ProvisionedConcurrency"), serverless["MaxConcurrency"]
    if provisioned is not None and provisioned > most:
        raise refused(
            f"Variant '{name}': ProvisionedConcurrency {provisioned} must be at most "
            f"MaxConcurrency {most}."
        )


def check_instances(variant: str, count: int, most: int) -> None:
    """Refuse more instances than the setting allows. Raises: INVALID_ARGUMENT."""
    if count > most:
        raise refused(
            f"Variant '{variant}': {count} instances; at most {most} (setting "
            "control.instances_max)."
        )


def check_weights(weights: Mapping[str, float]) -> None:
    """One of the variants must get requests. Raises: INVALID_ARGUMENT."""
    if not any(weight > 0 for weight in weights.values()):
        names = ", ".join(f"'{name}'" for name in weights)
        raise refused(f"The weights of all variants ({names}) are 0: one must be more.")


def model_names(config: Document) -> list[str]:
    """The models that a configuration uses, each once."""
    variants = (*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ()))
    return list(dict.fromkeys(variant["ModelName"] for variant in variants))


def fleet_of(config: Document, model: Callable[[str], Document]) -> FleetRecord:
    """A fleet of an endpoint configuration. `model`: a model's document by its name.

    Its generation is given by `rollout`.
    """
    return FleetRecord(
        generation=1,
        config_name=config["EndpointConfigName"],
        variants=_records(config["ProductionVariants"], model),
        shadows=_records(config.get("ShadowProductionVariants") or (), model),
        capture=config.get("DataCaptureConfig"),
        asynchronous=config.get("AsyncInferenceConfig"),
    )


def _records(
    variants: Iterable[Document], model: Callable[[str], Document]
) -> tuple[VariantRecord, ...]:
    return tuple(_record(variant, model(variant["ModelName"])) for variant in variants)


def _record(variant: Document, model: Document) -> VariantRecord:
    name = variant["ModelName"]
    execution = model.get("InferenceExecutionConfig") or {}
    return VariantRecord(
        name=variant["VariantName"],
        definition=variant,
        containers=tuple(
            ContainerRecord(model=name, definition=container) for container in containers_of(model)
        ),
        weight=variant.get("InitialVariantWeight", 1.0),
        instances=variant.get("InitialInstanceCount", 1),
        direct=execution.get("Mode") == "Direct",
    )
