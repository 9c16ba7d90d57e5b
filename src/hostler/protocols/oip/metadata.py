"""What the server and its models say of themselves: health, metadata, index, statistics.

Source: open-inference-protocol `inference_rest.md`; Triton `extension_model_repository.md`,
`extension_statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import orjson

from hostler.core import ModelSpec, ResponseStats, Signature, Stats, TensorSpec

__all__ = [
    "EXTENSIONS",
    "IndexRow",
    "extensions",
    "live_body",
    "model_configuration",
    "model_metadata",
    "model_ready_body",
    "model_statistics",
    "ready_body",
    "repository_index",
    "server_metadata",
]

EXTENSIONS: Final = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    "generate",
)
"""Only what exists: clients take a name here for a promise. See `extensions`."""


class IndexRow(Protocol):
    """One version of a model as the index shows it; `version` is 0 or "" where there is none."""

    @property
    def name(self) -> str:
        """The model."""
        ...

    @property
    def version(self) -> int | str | None:
        """The version."""
        ...

    @property
    def state(self) -> str:
        """READY, UNAVAILABLE, LOADING, UNLOADING or UNKNOWN."""
        ...

    @property
    def reason(self) -> str:
        """Why it is in that state, or ""."""
        ...


def live_body(live: bool) -> bytes:
    """Body of `/v2/health/live`."""
    return orjson.dumps({"live": live})


def ready_body(ready: bool) -> bytes:
    """Body of `/v2/health/ready`."""
    return orjson.dumps({"ready": ready})


def model_ready_body(name: str, ready: bool) -> bytes:
    """Body of a model's `ready` route."""
    return orjson.dumps({"name": name, "ready": ready})


def extensions(*, shared_memory: bool) -> tuple[str, ...]:
    """What this server promises. `shared_memory`: clients may register regions of it."""
    return (*EXTENSIONS, "system_shared_memory") if shared_memory else EXTENSIONS


def server_metadata(
    version: str, promised: Sequence[str] = EXTENSIONS, name: str = "hostler"
) -> bytes:
    """Body of `/v2`. `version`: the server's own. `promised`: its `extensions`. `name`: its own."""
    return orjson.dumps({"name": name, "version": version, "extensions": promised})


def model_metadata(spec: ModelSpec, versions: Sequence[int]) -> bytes:
    """Body of a model's own route. `versions`: those that answer, of which `spec` is one."""
    signature = spec.signature or Signature((), ())
    return orjson.dumps(
        {
            "name": spec.name,
            "versions": [str(version) for version in versions],
            # A package without a platform shows its backend. Source: Triton `tritonserver.cc`.
            "platform": spec.platform or spec.backend,
            "inputs": [_tensor_metadata(signature, tensor) for tensor in signature.inputs],
            "outputs": [_tensor_metadata(signature, tensor) for tensor in signature.outputs],
        }
    )


def _tensor_metadata(signature: Signature, tensor: TensorSpec) -> dict[str, object]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.name,
        "shape": signature.metadata_shape(tensor),
    }


def model_configuration(spec: ModelSpec) -> bytes:
    """Body of a model's `config` route: Triton's ModelConfig in its JSON form."""
    return orjson.dumps(dict(spec.config))


def repository_index(rows: Iterable[IndexRow], *, ready: bool = False) -> bytes:
    """Body of the repository index. `ready`: only the versions that are READY."""
    return orjson.dumps([_index_row(row) for row in rows if not ready or row.state == "READY"])


def _index_row(row: IndexRow) -> dict[str, str]:
    document = {"name": row.name}
    if row.version:
        document["version"] = str(row.version)
    if row.state:
        document["state"] = row.state
    if row.reason:
        # User code may have put anything into its message.
        document["reason"] = row.reason.encode("utf-8", "replace").decode()
    return document


def model_statistics(rows: Iterable[tuple[str, int, Stats]]) -> bytes:
    """Body of the statistics routes: one entry for each `(name, version, stats)`."""
    return orjson.dumps({"model_stats": [_statistics(*row) for row in rows]})


def _statistics(name: str, version: int, stats: Stats) -> dict[str, Any]:
    answered, runs = stats.success_count, stats.execution_count
    return {
        "name": name,
        "version": str(version),
        "last_inference": int(stats.last_inference_wall_s * 1e3),
        "inference_count": stats.inference_count,
        "execution_count": runs,
        "inference_stats": {
            "success": _duration(answered, stats.success_s),
            "fail": _duration(stats.fail_count, stats.fail_s),
            "queue": _duration(answered, stats.queue_s),
            # Compute seconds are summed over runs, so runs are what they must be divided by.
            "compute_input": _duration(runs, stats.input_s),
            "compute_infer": _duration(runs, stats.infer_s),
            "compute_output": _duration(runs, stats.output_s),
            "cache_hit": _duration(stats.cache_hit_count, stats.cache_hit_s),
            "cache_miss": _duration(stats.cache_miss_count, stats.cache_miss_s),
        },
        "response_stats": {
            str(position): _response_statistics(response)
            for position, response in sorted(stats.responses.items())
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(batch.count, batch.input_s),
                "compute_infer": _duration(batch.count, batch.infer_s),
                "compute_output": _duration(batch.count, batch.output_s),
            }
            for rows, batch in sorted(stats.batches.items())
        ],
        "memory_usage": [],
    }


def _response_statistics(response: ResponseStats) -> dict[str, Any]:
    """Of the responses at one position; they share the seconds by their numbers."""
    counts = {
        "success": response.success_count,
        "fail": response.fail_count,
        "empty_response": response.empty_count,
        "cancel": response.cancel_count,
    }
    each_s = response.infer_s / (sum(counts.values()) or 1)
    computed = response.success_count + response.fail_count
    return {
        "compute_infer": _duration(computed, computed * each_s),
        "compute_output": _duration(computed, 0.0),
        **{outcome: _duration(count, count * each_s) for outcome, count in counts.items()},
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
