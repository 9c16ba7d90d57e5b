"""A model's configuration under a choice of settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostler.analysis.ask import Ask
from hostler.analysis.choices import Choice, Facts
from hostler.core import Code, HostlerError, ModelSpec

__all__ = ["THREADS_PARAMETER", "completed_rows", "config_of", "facts_of"]

THREADS_PARAMETER: Final = {"onnx": "intra_op_thread_count", "torch": "INTRA_OP_THREAD_COUNT"}
"""Triton's words, by runtime."""


def facts_of(spec: ModelSpec, ask: Ask, request_rows: int, cores: int) -> Facts:
    """What a completed spec says of what can be tuned.

    Raises: UNIMPLEMENTED for a model whose requests belong to sequences.
    """
    if spec.sequencing is not None:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            f"model '{ask.model}' serves sequences; only models whose requests stand alone can be "
            "profiled",
        )
    parameter = THREADS_PARAMETER.get(spec.runtime)
    stated = spec.options.get(parameter or "", "")
    return Facts(
        runtime=spec.runtime,
        rows_max=spec.batching.rows_max,
        instances=spec.instance_count,
        threads=int(stated) if stated.isdigit() and int(stated) else None,
        tunable=spec.ensemble is None,
        threaded=parameter is not None,
        request_rows=request_rows,
        cores=cores,
    )


def completed_rows(spec: ModelSpec) -> bool:
    """Whether the package leaves `max_batch_size` to the server."""
    signature = spec.signature
    return signature is not None and signature.batched and signature.rows_max == 0


def config_of(choice: Choice, spec: ModelSpec) -> dict[str, Any]:
    """ModelConfig JSON of this one version under a choice.

    Left out: warm-ups, whose batches may not fit, and the response cache, which would answer in the
    model's place.
    """
    config: dict[str, Any] = dict(spec.config)
    config["version_policy"] = {"specific": {"versions": [spec.version]}}
    config["model_warmup"] = []
    config.pop("response_cache", None)
    if choice.instances is not None:
        first: Mapping[str, Any] = config["instance_group"][0]
        config["instance_group"] = [{**first, "count": choice.instances}]
    parameter = THREADS_PARAMETER.get(spec.runtime)
    if choice.threads is not None and parameter is not None:
        threads = {parameter: {"string_value": str(choice.threads)}}
        config["parameters"] = {**config["parameters"], **threads}
    if choice.rows_max is None and completed_rows(spec):
        del config["max_batch_size"]  # so that it is completed again, in the same way
        config.pop("dynamic_batching", None)
    if choice.rows_max is not None:
        config["max_batch_size"] = choice.rows_max
        batching = config.get("dynamic_batching")
        if batching is not None:
            sizes = [s for s in batching["preferred_batch_size"] if s <= choice.rows_max]
            config["dynamic_batching"] = {**batching, "preferred_batch_size": sizes}
    return config
