"""What models count themselves: added up here from what their workers send, for scrapes to read.

Values outlive workers and loads of their model. Source: Triton's custom metrics (python_backend
README, core `metric_family.cc`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["CustomFamily", "CustomMetrics", "CustomSeries"]

_FAMILY_NAME: Final = re.compile(r"(?!hostler_|process_)[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,199}")
_TEXT_CHARS_MAX: Final = 500
_LABELS_MAX: Final = 32
_BOUNDS_MAX: Final = 200
_KINDS: Final = ("counter", "gauge", "histogram")


class CustomSeries:
    """One metric of a family.

    `value`: of a counter or gauge, or the sum of a histogram's observations. `counts`: of those,
    by bucket; the last one has no upper bound.
    """

    __slots__ = ("counts", "value")

    def __init__(self, buckets: int) -> None:
        self.value = 0.0
        self.counts = [0] * buckets


class CustomFamily:
    """Metrics of one name. `kind`: counter, gauge or histogram, this one with `bounds`.

    `series`: by labels, sorted by name.
    """

    __slots__ = ("bounds", "help", "kind", "name", "series")

    def __init__(self, name: str, kind: str, text: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.kind = kind
        self.help = text
        self.bounds = bounds
        self.series: dict[tuple[tuple[str, str], ...], CustomSeries] = {}


class CustomMetrics:
    """All families of all models. Changed on the loop thread, read in any.

    `families_max`, `series_max` (of one family): user code names them, so they are bounded; what
    is beyond is left out.
    """

    def __init__(self, families_max: int = 500, series_max: int = 1000) -> None:
        self._families: dict[str, CustomFamily] = {}
        self._families_max = families_max
        self._series_max = series_max
        self._left_out: set[str] = set()

    def families(self) -> list[CustomFamily]:
        """All there are, by name."""
        return [family for _, family in sorted(self._families.items())]

    def take(self, changes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """Add what a worker has counted; gives what was left out and why, once a family.

        A change has `name`, `kind`, `help`, `labels`, and either `add` or `set`; one of a histogram
        has `bounds`, `counts` and in `add` the sum. Raises: ValueError, KeyError, TypeError for
        what makes no sense.
        """
        refusals: list[tuple[str, str]] = []
        for change in changes:
            family = self._family(change)
            if isinstance(family, str):
                self._leave_out(change["name"], family, refusals)
                continue
            series = self._series(family, change["labels"])
            if series is None:
                why = f"it has {self._series_max} label sets"
                self._leave_out(family.name, why, refusals)
                continue
            if "set" in change:
                series.value = _number(change["set"])
            else:
                series.value += _number(change["add"])
            if family.kind == "histogram":
                for index, count in enumerate(change["counts"]):
                    series.counts[index] += int(count)
        return refusals

    def _family(self, change: Mapping[str, Any]) -> CustomFamily | str:
        """The family of a change, or why it is left out."""
        name, kind = change["name"], change["kind"]
        bounds = tuple(_number(bound) for bound in change.get("bounds", ()))
        if kind == "histogram" and len(change["counts"]) != len(bounds) + 1:
            raise ValueError(f"counts of histogram {name!r}")
        family = self._families.get(name)
        if family is None:
            if not _FAMILY_NAME.fullmatch(name) or kind not in _KINDS or len(bounds) > _BOUNDS_MAX:
                raise ValueError(f"metric family {name!r} of kind {kind!r}")
            if len(self._families) >= self._families_max:
                return f"there are {self._families_max} families"
            text = str(change["help"])[:_TEXT_CHARS_MAX]
            family = self._families[name] = CustomFamily(name, kind, text, bounds)
        elif family.kind != kind:
            return f"there is a {family.kind} of this name"
        elif family.bounds != bounds:
            return "there is a histogram of this name with other buckets"
        return family

    def _series(self, family: CustomFamily, labels: Mapping[str, str]) -> CustomSeries | None:
        key = tuple(sorted(labels.items()))
        series = family.series.get(key)
        if series is not None:
            return series
        for name, value in key:
            if not _LABEL_NAME.fullmatch(name) or len(value) > _TEXT_CHARS_MAX:
                raise ValueError(f"label {name!r} of metric {family.name!r}")
        if len(key) > _LABELS_MAX:
            raise ValueError(f"{len(key)} labels of metric {family.name!r}")
        if len(family.series) >= self._series_max:
            return None
        series = family.series[key] = CustomSeries(len(family.bounds) + 1)
        return series

    def _leave_out(self, name: str, why: str, refusals: list[tuple[str, str]]) -> None:
        if name not in self._left_out and len(self._left_out) < self._families_max:
            self._left_out.add(name)
            refusals.append((name, why))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} in a metric")
    return number
