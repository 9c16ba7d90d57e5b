"""Metrics of endpoints: a row for each variant of each fleet that there is now.

`generation` tells the fleets of an endpoint apart while it is updated; add up over it for what
clients see. The series of a fleet end with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hostler.core import LATENCY_BOUNDS_S
from hostler.telemetry.custom import escaped
from hostler.telemetry.table import Metric, Sample, histogram, one

__all__ = ["ENDPOINT_METRICS", "EndpointRow", "EndpointTotals", "labelled_endpoints"]

_OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class EndpointTotals:
    """What all endpoints have in common.

    `captured`, `capture_dropped`: records of data capture. `copies_left_out`: for shadows.
    `archives_bytes`: of the disk cache.
    """

    captured: int = 0
    capture_dropped: int = 0
    capture_waiting_bytes: int = 0
    copies_left_out: int = 0
    archives_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One variant. Counts are since its fleet began; of what it does not have, they are absent.

    `share`: of the requests that name no variant, None for a shadow. `outcomes`: invocations by
    how they ended, each with one outcome. `shadow`: what became of copies: `compared`, `equal`,
    `failed` (where the production variant did not), `rows`, `rows_agreed`. `targets`: of its
    multi-model containers: `known`, `loaded`, `warm`, `cold`, `loads`, `load_failures`,
    `replacements`.
    """

    endpoint: str
    variant: str
    generation: int
    share: float | None
    in_flight: int
    outcomes: Mapping[str, int]
    model_errors: int
    latency_s: float
    latency_buckets: Sequence[int]
    shadow: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)


def _outcomes(row: EndpointRow) -> Iterator[Sample]:
    for outcome, count in row.outcomes.items():
        yield "", f'outcome="{outcome}"', count


def _target_requests(row: EndpointRow) -> Iterator[Sample]:
    for found in ("warm", "cold"):
        if found in row.targets:
            yield "", f'found="{found}"', row.targets[found]


def _target_loads(row: EndpointRow) -> Iterator[Sample]:
    for name, outcome in (("loads", "success"), ("load_failures", "failure")):
        if name in row.targets:
            yield "", f'outcome="{outcome}"', row.targets[name]


_OF_VARIANT: Final = ("endpoint", "variant", "generation")


def _of_shadow(name: str, of: str, about: str) -> Metric:
    return Metric(
        name, "counter", _OF_VARIANT, about, lambda row: one(row.shadow[of]) if row.shadow else ()
    )


def _of_targets(name: str, kind: str, of: str, about: str) -> Metric:
    return Metric(
        name, kind, _OF_VARIANT, about, lambda row: one(row.targets[of]) if row.targets else ()
    )


ENDPOINT_METRICS: Final = (
    Metric(
        "hostler_endpoint_invocations_total",
        "counter",
        (*_OF_VARIANT, "outcome"),
        "Invocations of endpoints that have ended, each with one outcome; a shadow's are copies.",
        _outcomes,
    ),
    Metric(
        "hostler_endpoint_model_errors_total",
        "counter",
        _OF_VARIANT,
        "Invocations that the model failed; they are client_error or server_error, too.",
        lambda row: one(row.model_errors),
    ),
    Metric(
        "hostler_endpoint_latency_seconds",
        "histogram",
        (*_OF_VARIANT, "le"),
        "From the choice of the variant to the end of the answer, failures included.",
        lambda row: histogram(LATENCY_BOUNDS_S, row.latency_buckets, row.latency_s),
    ),
    Metric(
        "hostler_endpoint_in_flight",
        "gauge",
        _OF_VARIANT,
        "Invocations that have not ended.",
        lambda row: one(row.in_flight),
    ),
    Metric(
        "hostler_endpoint_variant_share",
        "gauge",
        _OF_VARIANT,
        "Part of the invocations that name no variant, from 0 to 1.",
        lambda row: () if row.share is None else one(row.share),
    ),
    _of_shadow("hostler_shadow_compared_total", "compared", "Copies whose answers were compared."),
    _of_shadow("hostler_shadow_equal_total", "equal", "Of them, answers that were the same."),
    _of_shadow(
        "hostler_shadow_failed_total",
        "failed",
        "Of them, those that only the shadow has failed.",
    ),
    _of_shadow(
        "hostler_shadow_rows_total",
        "rows",
        "Rows of several numbers, such as probabilities, that were compared.",
    ),
    _of_shadow(
        "hostler_shadow_rows_agreed_total",
        "rows_agreed",
        "Of them, those whose largest number was in the same place.",
    ),
    _of_targets(
        "hostler_targets_known", "gauge", "known", "Target models that have been asked for."
    ),
    _of_targets("hostler_targets_loaded", "gauge", "loaded", "Target models in memory."),
    Metric(
        "hostler_target_requests_total",
        "counter",
        (*_OF_VARIANT, "found"),
        "Requests for target models: those that found theirs in memory (warm), and the others.",
        _target_requests,
    ),
    Metric(
        "hostler_target_loads_total",
        "counter",
        (*_OF_VARIANT, "outcome"),
        "Loads of target models, fetching included.",
        _target_loads,
    ),
    _of_targets(
        "hostler_target_replacements_total",
        "counter",
        "replacements",
        "Target models whose archive was replaced while they were in memory.",
    ),
)


def labelled_endpoints(rows: Sequence[EndpointRow], rows_max: int) -> list[tuple[str, EndpointRow]]:
    """Rows with their labels; those beyond `rows_max` summed up under the endpoint `other`."""
    return [
        (
            f'endpoint="{escaped(row.endpoint)}",variant="{escaped(row.variant)}",'
            f'generation="{row.generation or ""}"',
            row,
        )
        for row in _bounded(rows, rows_max)
    ]


def _bounded(rows: Sequence[EndpointRow], rows_max: int) -> Sequence[EndpointRow]:
    if len(rows) <= rows_max:
        return rows
    by_use = sorted(rows, key=lambda row: sum(row.outcomes.values()), reverse=True)
    kept, rest = by_use[: rows_max - 1], by_use[rows_max - 1 :]
    total = EndpointRow(
        endpoint=_OTHER,
        variant="",
        generation=0,
        share=None,
        in_flight=sum(row.in_flight for row in rest),
        outcomes=_added([row.outcomes for row in rest]),
        model_errors=sum(row.model_errors for row in rest),
        latency_s=sum(row.latency_s for row in rest),
        latency_buckets=[
            sum(column) for column in zip(*(r.latency_buckets for r in rest), strict=True)
        ],
        shadow=_added([row.shadow for row in rest]),
        targets=_added([row.targets for row in rest]),
    )
    return [*kept, total]


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for row in counts:
        for name, count in row.items():
            added[name] = added.get(name, 0) + count
    return added
