"""Metrics that models count themselves, as Prometheus reads them.

Source: Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostler.core import CustomFamily, CustomMetrics, CustomSeries

__all__ = ["escaped", "render_custom"]


def escaped(value: str) -> str:
    """A label's value, or a line of help, between its quotes."""
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def render_custom(metrics: CustomMetrics, taken: frozenset[str]) -> list[str]:
    """Lines of all families, except of those whose names are `taken`. May run in any thread."""
    lines: list[str] = []
    for family in metrics.families():
        if family.name in taken:
            continue
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {family.name} {text.encode('utf-8', 'replace').decode()}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, series in list(family.series.items()):
            pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
            lines.extend(_samples(family, pairs, series))
    return lines


def _samples(family: CustomFamily, pairs: str, series: CustomSeries) -> Iterator[str]:
    name = family.name
    labels = f"{{{pairs}}}" if pairs else ""
    if family.kind != "histogram":
        yield f"{name}{labels} {series.value}"
        return
    so_far = 0
    for bound, count in zip((*family.bounds, "+Inf"), tuple(series.counts), strict=True):
        so_far += count
        inner = f'{pairs},le="{bound}"' if pairs else f'le="{bound}"'
        yield f"{name}_bucket{{{inner}}} {so_far}"
    yield f"{name}_sum{labels} {series.value}"
    yield f"{name}_count{labels} {so_far}"
