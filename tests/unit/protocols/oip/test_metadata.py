"""Health, metadata, index and statistics documents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostler.core import DATATYPES, ModelSpec, ResponseStats, Signature, Stats, TensorSpec
from hostler.protocols import oip


def spec(signature: Signature | None, platform: str = "onnxruntime_onnx") -> ModelSpec:
    return ModelSpec(
        name="m",
        version=2,
        directory=Path("m"),
        file=Path("m/2/model.onnx"),
        runtime="onnx",
        platform=platform,
        backend="onnxruntime",
        config={"name": "m", "max_batch_size": 8},
        signature=signature,
    )


def test_health_bodies() -> None:
    assert oip.live_body(True) == b'{"live":true}'
    assert oip.ready_body(False) == b'{"ready":false}'
    assert oip.model_ready_body("m", True) == b'{"name":"m","ready":true}'


def test_server_metadata_promises_only_what_exists() -> None:
    document = json.loads(oip.server_metadata("1.2.3"))
    assert document["name"] == "hostler"
    assert document["version"] == "1.2.3"
    assert document["extensions"] == list(oip.EXTENSIONS)
    assert {"generate", "sequence", "trace", "logging"} <= set(oip.EXTENSIONS)
    assert not {"cuda_shared_memory", "system_shared_memory"} & set(oip.EXTENSIONS)


@pytest.mark.parametrize(("batched", "shape"), [(True, [-1, 64]), (False, [64])])
def test_model_metadata_shows_the_batch_dimension(batched: bool, shape: list[int]) -> None:
    x, y = TensorSpec("x", DATATYPES["FP32"], (64,)), TensorSpec("y", DATATYPES["BYTES"], (-1,))
    document = json.loads(oip.model_metadata(spec(Signature((x,), (y,), batched)), [1, 2]))
    assert document == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": shape}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, -1] if batched else [-1]}],
    }


def test_a_model_without_platform_shows_its_backend() -> None:
    document = json.loads(oip.model_metadata(spec(None, platform=""), [2]))
    assert document["platform"] == "onnxruntime"
    assert document["inputs"] == document["outputs"] == []


def test_model_configuration_is_given_as_it_is() -> None:
    assert json.loads(oip.model_configuration(spec(None))) == {"name": "m", "max_batch_size": 8}


@dataclass
class Row:
    name: str
    version: int | str | None
    state: str
    reason: str = ""


def test_the_index_leaves_out_what_is_empty() -> None:
    rows = [Row("a", 1, "READY"), Row("b", None, "UNAVAILABLE", "bad \ud800"), Row("c", 0, "")]
    assert json.loads(oip.repository_index(rows)) == [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "b", "state": "UNAVAILABLE", "reason": "bad ?"},
        {"name": "c"},
    ]
    assert json.loads(oip.repository_index(rows, ready=True)) == [
        {"name": "a", "version": "1", "state": "READY"}
    ]
    assert oip.repository_index([]) == b"[]"


def duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def test_statistics_are_whole_numbers_of_nanoseconds() -> None:
    stats = Stats()
    stats.ran(3, 0.001, 0.002, 0.0005)
    stats.ran(1, 0.001, 0.001, 0.0)
    stats.succeed(0.25)
    stats.fail(0.5, "no")
    stats.queue_s = 0.125
    stats.last_inference_wall_s = 1700000000.1239
    (entry,) = json.loads(oip.model_statistics([("m", 2, stats)]))["model_stats"]

    assert entry == {
        "name": "m",
        "version": "2",
        "last_inference": 1700000000123,
        "inference_count": 4,
        "execution_count": 2,
        "inference_stats": {
            "success": duration(1, 250_000_000),
            "fail": duration(1, 500_000_000),
            "queue": duration(1, 125_000_000),
            "compute_input": duration(2, 2_000_000),
            "compute_infer": duration(2, 3_000_000),
            "compute_output": duration(2, 500_000),
            "cache_hit": duration(0, 0),
            "cache_miss": duration(0, 0),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": 1,
                "compute_input": duration(1, 1_000_000),
                "compute_infer": duration(1, 1_000_000),
                "compute_output": duration(1, 0),
            },
            {
                "batch_size": 3,
                "compute_input": duration(1, 1_000_000),
                "compute_infer": duration(1, 2_000_000),
                "compute_output": duration(1, 500_000),
            },
        ],
        "memory_usage": [],
    }


def test_statistics_of_the_cache_and_of_responses() -> None:
    stats = Stats()
    stats.cache_hit_count, stats.cache_hit_s = 3, 0.25
    stats.cache_miss_count, stats.cache_miss_s = 2, 0.5
    first = stats.responses[0] = ResponseStats()
    first.success_count, first.fail_count, first.infer_s = 3, 1, 0.4
    last = stats.responses[10] = ResponseStats()
    last.empty_count, last.infer_s = 2, 0.1
    (entry,) = json.loads(oip.model_statistics([("m", 1, stats)]))["model_stats"]
    assert entry["inference_stats"]["cache_hit"] == duration(3, 250_000_000)
    assert entry["inference_stats"]["cache_miss"] == duration(2, 500_000_000)
    none = duration(0, 0)
    assert entry["response_stats"] == {
        "0": {
            "compute_infer": duration(4, 400_000_000),
            "compute_output": duration(4, 0),
            "success": duration(3, 300_000_000),
            "fail": duration(1, 100_000_000),
            "empty_response": none,
            "cancel": none,
        },
        "10": {
            "compute_infer": none,
            "compute_output": none,
            "success": none,
            "fail": none,
            "empty_response": duration(2, 100_000_000),
            "cancel": none,
        },
    }


def test_statistics_of_an_unused_model_have_every_field() -> None:
    (entry,) = json.loads(oip.model_statistics([("m", 1, Stats())]))["model_stats"]
    assert len(entry["inference_stats"]) == 8
    assert entry["batch_stats"] == []
    assert json.loads(oip.model_statistics([])) == {"model_stats": []}
