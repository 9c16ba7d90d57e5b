"""The answer to a scrape, read back with Prometheus' own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hostler.core import LATENCY_BOUNDS_S, Stats
from hostler.telemetry import (
    METRICS,
    EndpointRow,
    EndpointTotals,
    ModelRow,
    ServerRow,
    render_metrics,
)


def server(**fields: Any) -> ServerRow:
    values: dict[str, Any] = {
        "version": "1.2.3",
        "ready": True,
        "models_loaded": 1,
        "models_registered": 2,
        "memory_budget_bytes": 1 << 40,
        "memory_used_bytes": 5,
        "loads": 6,
        "evictions": 7,
        "connections": 8,
        "connections_total": 9,
        "connections_refused_total": 10,
        "requests_in_flight": 11,
        "bodies_held_bytes": 12,
        "responses": {200: 3, 404: 1},
        "rpcs_in_flight": 13,
        "rpcs": {("ModelInfer", "OK"): 4},
        "refusals": 14,
        "endpoints": EndpointTotals(15, 16, 17, 18, 19),
    }
    return ServerRow(**(values | fields))


def model(name: str, version: str = "1", requests: int = 0) -> ModelRow:
    stats = Stats()
    for _ in range(requests):
        stats.succeed(0.002)
    return ModelRow(name, version, True, 100, stats)


def endpoint(name: str, requests: int = 1, **fields: Any) -> EndpointRow:
    buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
    buckets[2] = requests
    values: dict[str, Any] = {
        "variant": "blue",
        "generation": 3,
        "share": 0.25,
        "in_flight": 2,
        "outcomes": {"success": requests, "server_error": 0},
        "model_errors": 1,
        "latency_s": 0.002 * requests,
        "latency_buckets": buckets,
        "shadow": dict.fromkeys(("compared", "equal", "failed", "rows", "rows_agreed"), 1),
        "targets": {
            "known": 1, "loaded": 2, "warm": 3, "cold": 4, "loads": 5, "load_failures": 6,
            "replacements": 7,
        },
    }  # fmt: skip
    return EndpointRow(name, **(values | fields))


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(
    models: list[ModelRow],
    models_max: int = 1000,
    endpoints: list[EndpointRow] | None = None,
    **fields: Any,
) -> Samples:
    text = render_metrics(models, server(**fields), models_max, endpoints=endpoints or []).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "each sample once"
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_every_metric_of_the_table_is_there_with_its_labels() -> None:
    text = render_metrics([model("m")], server(), 10, endpoints=[endpoint("e")]).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels == set(metric.labels)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Any) -> None:
    assert metric.name.startswith(("hostler_", "nv_"))
    if metric.name.startswith("hostler_"):
        assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".") or metric.help.endswith("1.")


def test_outcomes_exclude_one_another() -> None:
    row = model("m", requests=5)
    stats = row.stats
    for _ in range(6):
        stats.fail(1.0, "so")
    stats.expired, stats.cancelled, stats.rejected = 1, 2, 4
    samples = scrape([row])
    outcomes = {
        outcome: value(samples, "hostler_requests_total", model="m", version="1", outcome=outcome)
        for outcome in ("success", "failure", "expired", "cancelled", "rejected")
    }
    assert outcomes == {
        "success": 5, "failure": 3, "expired": 1, "cancelled": 2, "rejected": 4,
    }  # fmt: skip
    name = "hostler_request_failure_seconds_total"
    assert value(samples, name, model="m", version="1") == 6.0


def test_latency_histogram() -> None:
    row = ModelRow("m", "1", True, 0, Stats())
    for seconds in (0.0001, 0.0005, 0.003, 100.0):
        row.stats.succeed(seconds)
    samples = scrape([row])
    name = "hostler_request_duration_seconds"
    buckets = {
        bound: value(samples, f"{name}_bucket", model="m", version="1", le=str(bound))
        for bound in (*LATENCY_BOUNDS_S, "+Inf")
    }
    assert (buckets[0.0005], buckets[0.0025], buckets[0.005]) == (2, 2, 3)
    assert (buckets[30.0], buckets["+Inf"]) == (3, 4)
    assert value(samples, f"{name}_count", model="m", version="1") == 4
    assert value(samples, f"{name}_sum", model="m", version="1") == pytest.approx(100.0036)


def test_batch_histogram() -> None:
    row = ModelRow("m", "1", True, 0, Stats())
    for rows in (1, 1, 3, 300):
        row.stats.ran(rows, 0.1, 0.2, 0.3)
    samples = scrape([row])
    at = {
        le: value(samples, "hostler_batch_rows_bucket", model="m", version="1", le=le)
        for le in ("1", "2", "4", "256", "+Inf")
    }
    assert at == {"1": 2, "2": 2, "4": 3, "256": 3, "+Inf": 4}
    assert value(samples, "hostler_batch_rows_sum", model="m", version="1") == 305
    assert value(samples, "hostler_rows_total", model="m", version="1") == 305
    name = "hostler_compute_infer_seconds_total"
    assert value(samples, name, model="m", version="1") == pytest.approx(0.8)


def test_the_cache_and_the_names_that_triton_has_for_things() -> None:
    row = model("m", requests=3)
    stats = row.stats
    stats.ran(8, 0.001, 0.002, 0.003)
    stats.fail(1.0, "so")
    stats.queue_s, stats.queue_depth = 0.5, 4
    stats.cache_hit_count, stats.cache_hit_s = 2, 0.0000015
    stats.cache_miss_count, stats.cache_miss_s = 5, 0.25
    samples = scrape([row, model("other one")])
    # The parser gives every counter the suffix that Triton's lack.
    found = {
        name.removesuffix("_total"): value
        for (name, labels), value in samples.items()
        if name.startswith(("nv_", "hostler_cache")) and ("model", "m") in labels
    }
    assert found == {
        "nv_inference_request_success": 3,
        "nv_inference_request_failure": 1,
        "nv_inference_count": 8,
        "nv_inference_exec_count": 1,
        "nv_inference_request_duration_us": 6000,
        "nv_inference_queue_duration_us": 500_000,
        "nv_inference_compute_input_duration_us": 1000,
        "nv_inference_compute_infer_duration_us": 2000,
        "nv_inference_compute_output_duration_us": 3000,
        "nv_inference_pending_request_count": 4,
        "nv_cache_num_hits_per_model": 2,
        "nv_cache_num_misses_per_model": 5,
        "nv_cache_hit_duration_per_model": 2,
        "nv_cache_miss_duration_per_model": 250_000,
        "hostler_cache_hits": 2,
        "hostler_cache_misses": 5,
        "hostler_cache_seconds": 0.25,
    }


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é", "\ud800"])
def test_labels_are_escaped(name: str) -> None:
    expected = name.encode("utf-8", "replace").decode()
    assert value(scrape([model(name)]), "hostler_model_loaded", model=expected, version="1") == 1


def test_label_sets_are_bounded() -> None:
    rows = [model(f"m{index}", requests=index) for index in range(10)]
    for row in rows:
        row.stats.ran(2, 0, 0, 0)
        row.stats.cache_hit_count = 1
    samples = scrape(rows, models_max=4)
    names = {dict(labels)["model"] for _, labels in samples if "model" in dict(labels)}
    assert names == {"m9", "m8", "m7", "other"}
    rest = {"model": "other", "version": ""}
    assert value(samples, "hostler_requests_total", outcome="success", **rest) == 21
    assert value(samples, "hostler_request_duration_seconds_count", **rest) == 21
    assert value(samples, "hostler_batch_rows_count", **rest) == 7
    assert value(samples, "hostler_model_memory_bytes", **rest) == 700
    assert value(samples, "nv_cache_num_hits_per_model_total", **rest) == 7


def test_the_server_and_its_process() -> None:
    samples = scrape([])
    assert value(samples, "hostler_memory_budget_bytes") == 1 << 40
    assert value(samples, "hostler_info", version="1.2.3") == 1
    assert value(samples, "hostler_responses_total", status="404") == 1
    assert value(samples, "hostler_access_refusals_total") == 14
    assert value(samples, "hostler_capture_records_written_total") == 15
    assert value(samples, "hostler_capture_records_dropped_total") == 16
    assert value(samples, "hostler_shadow_left_out_total") == 18
    assert value(samples, "hostler_archive_cache_bytes") == 19
    assert value(samples, "process_resident_memory_bytes") > 0


OF_BLUE = {"endpoint": "e", "variant": "blue", "generation": "3"}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("hostler_endpoint_invocations_total", {"outcome": "success"}, 4),
        ("hostler_endpoint_invocations_total", {"outcome": "server_error"}, 0),
        ("hostler_endpoint_model_errors_total", {}, 1),
        ("hostler_endpoint_latency_seconds_bucket", {"le": "0.001"}, 0),
        ("hostler_endpoint_latency_seconds_bucket", {"le": "0.0025"}, 4),
        ("hostler_endpoint_latency_seconds_sum", {}, 0.008),
        ("hostler_endpoint_in_flight", {}, 2),
        ("hostler_endpoint_variant_share", {}, 0.25),
        ("hostler_target_requests_total", {"found": "warm"}, 3),
        ("hostler_target_requests_total", {"found": "cold"}, 4),
        ("hostler_target_loads_total", {"outcome": "failure"}, 6),
    ],
)
def test_endpoints(name: str, labels: dict[str, str], expected: float) -> None:
    samples = scrape([], endpoints=[endpoint("e", 4)])
    assert value(samples, name, **OF_BLUE, **labels) == pytest.approx(expected)


def test_what_a_variant_does_not_have_is_not_shown() -> None:
    samples = scrape([], endpoints=[endpoint("e", share=None, shadow={}, targets={})])
    shown = {name for name, labels in samples if ("endpoint", "e") in labels}
    assert not [name for name in shown if "share" in name or "target" in name or "shadow" in name]
    assert "hostler_endpoint_in_flight" in shown


def test_label_sets_of_endpoints_are_bounded() -> None:
    rows = [endpoint(f"e{index}", index) for index in range(10)]
    rows[2] = endpoint("e2", 2, shadow={}, targets={})
    samples = scrape([], models_max=4, endpoints=rows)
    names = {dict(labels)["endpoint"] for _, labels in samples if "endpoint" in dict(labels)}
    assert names == {"e9", "e8", "e7", "other"}
    rest = {"endpoint": "other", "variant": "", "generation": ""}
    assert value(samples, "hostler_endpoint_invocations_total", outcome="success", **rest) == 21
    assert value(samples, "hostler_endpoint_latency_seconds_count", **rest) == 21
    assert value(samples, "hostler_endpoint_in_flight", **rest) == 14
    assert value(samples, "hostler_targets_loaded", **rest) == 12


def test_a_server_without_endpoints_says_nothing_of_them() -> None:
    text = render_metrics([], server(), 10).decode()
    assert "hostler_endpoint_" not in text
