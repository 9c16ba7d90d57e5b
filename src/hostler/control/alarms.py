"""Alarms without CloudWatch: what an AlarmName means here. Pure.

An alarm that AutoRollbackConfiguration names is either defined in the setting `control.alarms`, or
its name is itself an expression. Grammar, with any white space between words:

    METRIC COMPARISON NUMBER[UNIT] [for DURATION] [min COUNT]

    METRIC      error_rate         part of the requests that ended in 5xx of the server
                model_error_rate   part of the requests that the model failed (424)
                errors             number of the former
                model_errors       number of the latter
                p50_latency        a quantile of the time requests took: p1_latency to p99_latency,
                                   or p99.9_latency
                invocations_per_instance   requests a minute for each instance (scaling only)
                concurrency_per_instance   requests at the same time for each instance (likewise)
    COMPARISON  >  >=  <  <=
    UNIT        % for rates; us, ms, s or m for latencies; without one: a ratio, or seconds
    DURATION    of the window that is looked at, which ends now: 1s to 15m (default 60s)
    COUNT       requests that the window must hold at least, else nothing is known (default 10)

    error_rate > 5%        model_error_rate > 1% for 30s        p99_latency > 250ms for 1m min 100
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hostler.control.records import Document
from hostler.core import LATENCY_BOUNDS_S, Code, HostlerError

__all__ = [
    "Alarm",
    "Window",
    "alarm_named",
    "check_alarms",
    "check_table",
    "evaluate",
    "parse",
    "value_of",
]

WINDOW_S: Final = 60.0
WINDOW_S_MAX: Final = 900.0  # so far back serving counts by the second
REQUESTS_MIN: Final = 10
_LATENCY_S_MAX: Final = LATENCY_BOUNDS_S[-1]

_PATTERN: Final = re.compile(
    r"\s*(?P<metric>[a-z0-9_.]+)\s*(?P<comparison>>=|<=|>|<)\s*"
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|us|ms|s|m)?"
    r"(?:\s+for\s+(?P<length>\d+(?:\.\d+)?)\s*(?P<length_unit>s|m))?"
    r"(?:\s+min\s+(?P<count>\d{1,9}))?\s*"
)
_QUANTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)_latency")
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_RATES: Final = ("error_rate", "model_error_rate")
_COUNTS: Final = ("errors", "model_errors")
_LOADS: Final = ("invocations_per_instance", "concurrency_per_instance")
_GRAMMAR: Final = (
    "write METRIC COMPARISON NUMBER[UNIT] [for DURATION] [min REQUESTS], such as "
    "'error_rate > 5%', 'model_error_rate > 1% for 30s' or 'p99_latency > 250ms for 1m min 100'; "
    f"metrics: {', '.join((*_RATES, *_COUNTS))}, p50_latency (any quantile)"
)


class Window(Protocol):
    """What one variant did in the seconds that end now."""

    @property
    def invocations(self) -> int:
        """Requests that ended."""
        ...

    @property
    def errors_5xx(self) -> int:
        """Of them, those that the server failed."""
        ...

    @property
    def model_errors(self) -> int:
        """Of them, those that the model failed."""
        ...

    def quantile_s(self, q: float) -> float:
        """Of the time that requests took; `q`: 0 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition over a window. `threshold`: a ratio, a number or seconds, as `metric` has it.

    `text`: the expression. `name`: as the client calls it.
    """

    name: str
    text: str
    metric: str
    comparison: str
    threshold: float
    window_s: float = WINDOW_S
    requests_min: int = REQUESTS_MIN

    def breached(self, value: float) -> bool:
        """Whether the value is on the wrong side of the threshold."""
        return _COMPARISONS[self.comparison](value, self.threshold)


def parse(text: str, name: str = "", *, scaling: bool = False) -> Alarm:
    """An alarm from its expression. `scaling`: loads per instance are allowed, too.

    Raises: INVALID_ARGUMENT that says how expressions are written.
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise _refused(name or text, text, "is not an alarm expression")
    metric, unit = found["metric"], found["unit"] or ""
    problem = _problem(metric, unit, scaling)
    if problem:
        raise _refused(name or text, text, problem)
    threshold = float(found["number"])
    if unit == "%":
        threshold /= 100
    elif unit:
        threshold *= _SECONDS[unit]
    if metric.endswith("_latency") and not _can_tell(threshold, found["comparison"]):
        raise _refused(
            name or text,
            text,
            f"has a latency of {threshold:g} s, but what takes longer than "
            f"{_LATENCY_S_MAX:g} s is counted as {_LATENCY_S_MAX:g} s",
        )
    window_s = WINDOW_S
    if found["length"]:
        window_s = float(found["length"]) * _SECONDS[found["length_unit"]]
    if not 1 <= window_s <= WINDOW_S_MAX:
        raise _refused(name or text, text, f"looks at {window_s:g} s; it must be 1 s to 15 m")
    count = REQUESTS_MIN if found["count"] is None else int(found["count"])
    return Alarm(
        name or text, text.strip(), metric, found["comparison"], threshold, window_s, count
    )


def _can_tell(threshold_s: float, comparison: str) -> bool:
    """Whether a quantile, which never exceeds the highest bound, can be on either side."""
    if comparison in (">", "<="):
        return threshold_s < _LATENCY_S_MAX
    return threshold_s <= _LATENCY_S_MAX


def _problem(metric: str, unit: str, scaling: bool) -> str:
    if metric in _RATES:
        return "" if unit in ("", "%") else f"gives {metric} in '{unit}'; use % or a ratio"
    if metric in _COUNTS or (scaling and metric in _LOADS):
        return "" if not unit else f"gives {metric} a unit, '{unit}'; it is a number"
    quantile = _QUANTILE.fullmatch(metric)
    if quantile is not None and float(quantile[1]) > 0:
        return "gives a latency in %" if unit == "%" else ""
    return f"names the metric '{metric}', which is not known"


def _refused(name: str, text: str, problem: str) -> HostlerError:
    said = f"alarm '{name}'" if name == text else f"alarm '{name}': '{text}'"
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"{said} {problem}, and there is no such name in the setting control.alarms; {_GRAMMAR}"
        if name == text
        else f"{said} {problem}; {_GRAMMAR}",
    )


def alarm_named(name: str, table: Mapping[str, str]) -> Alarm:
    """The alarm a client means. `table`: the setting `control.alarms`.

    Raises: INVALID_ARGUMENT where the name is neither in the table nor an expression.
    """
    return parse(table.get(name, name), name)


def check_table(table: Mapping[str, str]) -> None:
    """Refuse the setting `control.alarms` where an expression is none. Raises: INVALID_ARGUMENT."""
    for name, text in table.items():
        parse(text, name, scaling=True)


def check_alarms(deployment: Document | None, table: Mapping[str, str]) -> None:
    """Refuse a DeploymentConfig with an alarm that means nothing here. Raises: INVALID_ARGUMENT."""
    rollback: Mapping[str, Any] = (deployment or {}).get("AutoRollbackConfiguration") or {}
    for alarm in rollback.get("Alarms") or ():
        alarm_named(str(alarm.get("AlarmName", "")), table)


def value_of(alarm: Alarm, window: Window) -> float | None:
    """What its metric is now; None while there are too few requests, or for a load."""
    requests = window.invocations
    if requests < alarm.requests_min or alarm.metric in _LOADS:
        return None
    match alarm.metric:
        case "errors":
            return float(window.errors_5xx)
        case "model_errors":
            return float(window.model_errors)
        case "error_rate":
            return window.errors_5xx / requests if requests else 0.0
        case "model_error_rate":
            return window.model_errors / requests if requests else 0.0
    found = _QUANTILE.fullmatch(alarm.metric)
    assert found is not None
    return window.quantile_s(float(found[1]) / 100) if requests else 0.0


def evaluate(alarm: Alarm, windows: Mapping[str, Window]) -> str:
    """Why the alarm fires, or "". `windows`: of each variant by name, `alarm.window_s` long.

    It fires when one variant breaches it.
    """
    for variant, window in windows.items():
        value = value_of(alarm, window)
        if value is not None and alarm.breached(value):
            said = "" if alarm.name == alarm.text else f" ({alarm.text})"
            return (
                f"alarm '{alarm.name}'{said}: variant '{variant}' had {_shown(alarm, value)} in "
                f"{window.invocations} requests of the last {alarm.window_s:g} s"
            )
    return ""


def _shown(alarm: Alarm, value: float) -> str:
    if alarm.metric in _RATES:
        return f"{alarm.metric} {value:.1%}"
    if alarm.metric.endswith("_latency"):
        return f"{alarm.metric} {value * 1000:.1f} ms"
    return f"{alarm.metric} {value:g}"
