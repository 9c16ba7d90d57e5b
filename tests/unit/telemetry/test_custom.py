"""Metrics that models count themselves, read back with Prometheus' own parser."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from hostler.core import CustomMetrics
from hostler.telemetry import METRICS
from hostler.telemetry.custom import render_custom


def scraped(*changes: dict[str, Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    metrics = CustomMetrics()
    metrics.take([{"help": "a \\ b\nc", "labels": {}, **change} for change in changes])
    text = "\n".join([*render_custom(metrics, frozenset({"taken"})), ""])
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation == "a \\ b\nc"
        for sample in family.samples:
            samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return samples


def test_every_kind() -> None:
    none: frozenset[tuple[str, str]] = frozenset()
    labels = {"a": 'quo"te\\ and\nline', "b": "grüß"}
    histogram = {"kind": "histogram", "bounds": [0.5, 2], "counts": [1, 2, 3], "add": 9.5}
    assert scraped(
        {"name": "c_total", "kind": "counter", "add": 2, "labels": labels},
        {"name": "g", "kind": "gauge", "set": -1.5},
        {"name": "h", **histogram, "labels": {"m": "x"}},
        {"name": "taken", "kind": "gauge", "set": 1},
    ) == {
        ("c_total", frozenset(labels.items())): 2.0,
        ("g", none): -1.5,
        ("h_bucket", frozenset({("m", "x"), ("le", "0.5")})): 1.0,
        ("h_bucket", frozenset({("m", "x"), ("le", "2.0")})): 3.0,
        ("h_bucket", frozenset({("m", "x"), ("le", "+Inf")})): 6.0,
        ("h_sum", frozenset({("m", "x")})): 9.5,
        ("h_count", frozenset({("m", "x")})): 6.0,
    }


def test_the_servers_own_names_are_known() -> None:
    assert "hostler_requests_total" in {metric.name for metric in METRICS}
