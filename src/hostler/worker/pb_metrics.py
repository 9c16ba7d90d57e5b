"""Metrics of a model's own: part of `pb_utils`.

Values live here, in the worker; what has changed goes to the server with the next result, or a
moment later where no run ends. The server adds up what its workers send.
Source: Triton's python_backend README, "Custom Metrics"; `metric.cc`; core's `metric_family.cc`.
"""

from __future__ import annotations

import bisect
import enum
import math
import re
import threading
from typing import Any, Callable, Sequence

from .model_config import TritonModelException

__all__ = ["METRICS", "Metric", "MetricFamily", "MetricKind", "Registry"]

FAMILIES_MAX = 100
SERIES_MAX = 1000
BUCKETS_MAX = 200
TEXT_CHARS_MAX = 500
LABELS_MAX = 32
FAMILY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,199}")
RESERVED = ("hostler_", "process_")


class MetricKind(enum.Enum):
    """What a family counts."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Series:
    """One metric: a family's name and its labels. Guarded by the registry's lock.

    `change`: what the server does not know yet: the sum of increments; the value where `was_set`.
    `counts`: of observations by bucket, `change` their sum.
    """

    __slots__ = ("bounds", "change", "changed", "counts", "family", "labels", "value", "was_set")

    def __init__(self, family: Family, labels: dict[str, str], bounds: tuple[float, ...]) -> None:
        self.family = family
        self.labels = labels
        self.bounds = bounds
        self.value = 0.0
        self.change = 0.0
        self.was_set = False
        self.changed = True  # a metric is shown from its creation on
        self.counts = [0] * (len(bounds) + 1)


class Family:
    """What all metrics of one name share."""

    __slots__ = ("description", "kind", "name", "series")

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self.name = name
        self.description = description
        self.kind = kind
        self.series: dict[tuple[tuple[str, str], ...], Series] = {}


class Registry:
    """All metrics of this worker, and what of them the server does not know yet. Any thread.

    `on_change`: called when something is to be sent where nothing was before.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._families: dict[str, Family] = {}
        self._changed: list[Series] = []

    def family(self, name: str, description: str, kind: MetricKind) -> Family:
        """The family of this name. Raises: TritonModelException."""
        if not isinstance(name, str) or not FAMILY_NAME.fullmatch(name):
            raise _refused("MetricFamily", "'{}' is no name for a metric".format(name))
        if name.startswith(RESERVED):
            raise _refused("MetricFamily", "'{}' begins like metrics of the server".format(name))
        if not isinstance(kind, MetricKind):
            raise _refused("MetricFamily", "Unsupported kind passed to MetricFamily constructor.")
        with self._lock:
            family = self._families.get(name)
            if family is None:
                if len(self._families) >= FAMILIES_MAX:
                    text = "a model may have {} metric families".format(FAMILIES_MAX)
                    raise _refused("MetricFamily", text)
                family = Family(name, str(description)[:TEXT_CHARS_MAX], kind)
                self._families[name] = family
        if family.kind is not kind:
            text = "'{}' exists as a {}".format(name, family.kind.value)
            raise _refused("MetricFamily", text)
        return family

    def series(self, family: Family, labels: dict[str, str], bounds: Sequence[float]) -> Series:
        """The metric with these labels. Raises: TritonModelException."""
        key = tuple(sorted(labels.items()))
        fresh = None
        with self._lock:
            series = family.series.get(key)
            if series is None:
                if len(family.series) >= SERIES_MAX:
                    text = "family '{}' may have {} metrics".format(family.name, SERIES_MAX)
                    raise _refused("Metric", text)
                series = fresh = Series(family, dict(labels), tuple(bounds))
                family.series[key] = series
                tell = not self._changed
                self._changed.append(series)
        if fresh is not None and tell and self.on_change is not None:
            self.on_change()
        return series

    def add(self, series: Series, value: float) -> None:
        """Increment."""
        with self._lock:
            series.value += value
            series.change += value
            tell = self._note(series)
        if tell is not None:
            tell()

    def set(self, series: Series, value: float) -> None:
        """Set."""
        with self._lock:
            series.value = value
            series.was_set = True
            tell = self._note(series)
        if tell is not None:
            tell()

    def observe(self, series: Series, value: float) -> None:
        """Count an observation in its bucket."""
        with self._lock:
            series.counts[bisect.bisect_left(series.bounds, value)] += 1
            series.change += value
            tell = self._note(series)
        if tell is not None:
            tell()

    def take_changes(self) -> list[dict[str, Any]]:
        """What the server should be told, in its own words; told once."""
        if not self._changed:
            return []
        with self._lock:
            changed, self._changed = self._changed, []
            return [_told(series) for series in changed]

    def _note(self, series: Series) -> Callable[[], None] | None:
        if series.changed:
            return None
        series.changed = True
        self._changed.append(series)
        return self.on_change if len(self._changed) == 1 else None


def _told(series: Series) -> dict[str, Any]:
    family = series.family
    told: dict[str, Any] = {
        "name": family.name,
        "help": family.description,
        "kind": family.kind.value,
        "labels": series.labels,
    }
    if family.kind is MetricKind.HISTOGRAM:
        told["bounds"] = series.bounds
        told["counts"] = series.counts
        told["add"] = series.change
        series.counts = [0] * (len(series.bounds) + 1)
    elif series.was_set:
        told["set"] = series.value
    else:
        told["add"] = series.change
    series.change = 0.0
    series.was_set = series.changed = False
    return told


METRICS = Registry()
"""Of this process, which has one model."""


class MetricFamily:
    """Metrics of one name. Making a family again gives the same one, if its kind is the same."""

    COUNTER = MetricKind.COUNTER
    GAUGE = MetricKind.GAUGE
    HISTOGRAM = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self._family = METRICS.family(name, description, kind)

    def Metric(
        self, labels: dict[str, str] | None = None, buckets: list[float] | None = None
    ) -> Metric:
        """The metric with these labels; a histogram needs ascending `buckets`."""
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        for name, value in (labels or {}).items():
            good = isinstance(name, str) and isinstance(value, str)
            if not good or not LABEL_NAME.fullmatch(name) or len(value) > TEXT_CHARS_MAX:
                raise _refused("Metric", "label {!r}: {!r}".format(name, value)[:TEXT_CHARS_MAX])
        if labels is not None and len(labels) > LABELS_MAX:
            raise _refused("Metric", "it may have {} labels".format(LABELS_MAX))
        bounds = _bounds(buckets, self._family.kind)
        return Metric(METRICS.series(self._family, dict(labels or {}), bounds))


class Metric:
    """One counter, gauge or histogram; `MetricFamily.Metric` makes it."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def increment(self, value: float) -> None:
        """Add to a counter, which only rises, or to a gauge."""
        number = self._number(value, "increment")
        kind = self._kind()
        if kind is MetricKind.HISTOGRAM:
            raise self._unsupported("increment", "Increment")
        if kind is MetricKind.COUNTER and number < 0.0:
            raise TritonModelException(
                "Failed to increment metric value: TRITONSERVER_METRIC_KIND_COUNTER can only be "
                "incremented monotonically by non-negative values."
            )
        METRICS.add(self._series, number)

    def set(self, value: float) -> None:
        """Set a gauge."""
        number = self._number(value, "set")
        if self._kind() is not MetricKind.GAUGE:
            raise self._unsupported("set", "Set")
        METRICS.set(self._series, number)

    def observe(self, value: float) -> None:
        """Count an observation of a histogram."""
        number = self._number(value, "observe")
        if self._kind() is not MetricKind.HISTOGRAM:
            raise self._unsupported("observe", "Observe")
        METRICS.observe(self._series, number)

    def value(self) -> float:
        """What this worker has counted, or set a gauge to."""
        if self._kind() is MetricKind.HISTOGRAM:
            raise self._unsupported("get", "Value")
        return self._series.value

    def _kind(self) -> MetricKind:
        return self._series.family.kind

    def _number(self, value: float, doing: str) -> float:
        number = float(value)
        if not math.isfinite(number):
            raise TritonModelException(
                "Failed to {} metric value: {} is not a finite number".format(doing, number)
            )
        return number

    def _unsupported(self, doing: str, what: str) -> TritonModelException:
        return TritonModelException(
            "Failed to {} metric value: TRITONSERVER_METRIC_KIND_{} does not support {}".format(
                doing, self._kind().name, what
            )
        )


def _bounds(buckets: list[float] | None, kind: MetricKind) -> list[float]:
    if kind is not MetricKind.HISTOGRAM:
        if buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        return []
    if buckets is None:
        raise TritonModelException("Failed to create metric. Missing required buckets.")
    if not isinstance(buckets, list):
        raise TritonModelException("Failed to create metric. Buckets must be a list.")
    bounds = [float(bound) for bound in buckets]
    rising = bounds == sorted(set(bounds))
    if not rising or not all(map(math.isfinite, bounds)) or not 0 < len(bounds) <= BUCKETS_MAX:
        raise _refused("Metric", "buckets are 1 to {} rising numbers".format(BUCKETS_MAX))
    return bounds


def _refused(what: str, text: str) -> TritonModelException:
    return TritonModelException("Error when creating {}: {}".format(what, text))
