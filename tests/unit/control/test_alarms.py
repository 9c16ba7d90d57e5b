from __future__ import annotations

from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.hosting import FakeWindow

from hostler.control import Config, Control
from hostler.control.alarms import (
    Alarm,
    alarm_named,
    check_alarms,
    check_table,
    evaluate,
    parse,
    value_of,
)
from hostler.core import Code, HostlerError

PARSED = [
    ("error_rate > 5%", ("error_rate", ">", 0.05, 60.0, 10)),
    ("error_rate>=0.25", ("error_rate", ">=", 0.25, 60.0, 10)),
    (" model_error_rate > 1% for 30s ", ("model_error_rate", ">", 0.01, 30.0, 10)),
    ("p99_latency > 250ms for 1m", ("p99_latency", ">", 0.25, 60.0, 10)),
    ("p99.9_latency > 2 s for 15m min 1000", ("p99.9_latency", ">", 2.0, 900.0, 1000)),
    ("p50_latency > 800us", ("p50_latency", ">", 0.0008, 60.0, 10)),
    ("p50_latency > 3", ("p50_latency", ">", 3.0, 60.0, 10)),
    ("errors > 3 min 0", ("errors", ">", 3.0, 60.0, 0)),
]


@pytest.mark.parametrize(("text", "wanted"), PARSED)
def test_expressions(text: str, wanted: tuple[str, str, float, float, int]) -> None:
    alarm = parse(text)
    metric, comparison, threshold, window_s, requests_min = wanted
    assert (alarm.metric, alarm.comparison) == (metric, comparison)
    assert alarm.threshold == pytest.approx(threshold)
    assert (alarm.window_s, alarm.requests_min) == (window_s, requests_min)


WRONG = [
    "",
    "MyAlarm",
    "error_rate",
    "error_rate > ",
    "error_rate > 5% for ever",
    "error_rate > 5ms",
    "errors > 5%",
    "p99_latency > 5%",
    "p0_latency > 5ms",
    "p100_latency > 5ms",
    "cpu > 5%",
    "error_rate > 5% for 16m",
    "error_rate > 5% for 0s",
    "error_rate > 5% min 1 and more",
    "error_rate > -5%",
    "invocations_per_instance > 5",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_none_teaches_the_grammar(text: str) -> None:
    with pytest.raises(HostlerError, match="METRIC COMPARISON NUMBER") as raised:
        parse(text)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("condition", ["> 30s", ">= 31s", "> 1m", "< 45", "<= 30s"])
def test_latencies_that_cannot_be_told_apart_are_refused(condition: str) -> None:
    with pytest.raises(HostlerError, match="what takes longer than 30 s is counted as 30 s"):
        parse(f"p99_latency {condition}")
    parse("p99_latency > 29.9s")
    parse("p99_latency >= 30s")
    parse("errors > 31")


def test_loads_are_for_scaling() -> None:
    assert parse("invocations_per_instance > 5", scaling=True).metric == "invocations_per_instance"


def test_a_name_is_looked_up_before_it_is_read() -> None:
    table = {"bad": "error_rate > 7%", "worse": "nonsense"}
    assert alarm_named("bad", table) == Alarm("bad", "error_rate > 7%", "error_rate", ">", 0.07)
    assert alarm_named("error_rate > 1%", table).threshold == 0.01
    with pytest.raises(HostlerError, match="alarm 'worse': 'nonsense' is not"):
        alarm_named("worse", table)
    with pytest.raises(HostlerError, match=r"no such name in the setting control\.alarms"):
        alarm_named("unknown", table)


def test_alarms_of_a_deployment_are_checked() -> None:
    check_alarms(None, {})
    check_alarms({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "error_rate > 1%"}]}}, {})
    with pytest.raises(HostlerError, match="alarm 'x'"):
        check_alarms({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "x"}]}}, {})


def test_the_setting_is_checked_whole() -> None:
    check_table({"a": "error_rate > 1%", "b": "concurrency_per_instance > 3"})
    with pytest.raises(HostlerError, match="alarm 'b': 'cpu > 3' names the metric 'cpu'"):
        check_table({"a": "error_rate > 1%", "b": "cpu > 3"})


WINDOW = FakeWindow(invocations=100, errors_5xx=6, model_errors=20, latency_s=1.0)
VALUES = [
    ("error_rate > 5%", 0.06, True),
    ("error_rate > 6%", 0.06, False),
    ("error_rate >= 6%", 0.06, True),
    ("model_error_rate > 19%", 0.2, True),
    ("errors > 6", 6.0, False),
    ("errors <= 6", 6.0, True),
    ("model_errors > 19", 20.0, True),
    ("p99_latency > 980ms", 0.99, True),
    ("p50_latency > 980ms", 0.5, False),
    ("error_rate > 5% min 101", None, False),
]


@pytest.mark.parametrize(("text", "value", "fires"), VALUES)
def test_values(text: str, value: float | None, fires: bool) -> None:
    alarm = parse(text)
    assert value_of(alarm, WINDOW) == pytest.approx(value)
    assert bool(evaluate(alarm, {"A": FakeWindow(), "B": WINDOW})) is fires


def test_without_requests_nothing_fires() -> None:
    for text in ("error_rate >= 0% min 0", "p99_latency >= 0 min 0"):
        assert value_of(parse(text), FakeWindow()) == 0.0
    assert evaluate(parse("error_rate >= 0%"), {"A": FakeWindow()}) == ""
    assert evaluate(parse("error_rate > 0%"), {}) == ""


def test_why_it_fires() -> None:
    alarm = parse("error_rate > 5% for 30s", "bad")
    assert evaluate(alarm, {"B": WINDOW}) == (
        "alarm 'bad' (error_rate > 5% for 30s): variant 'B' had error_rate 6.0% in 100 requests of "
        "the last 30 s"
    )
    assert "p99_latency 990.0 ms" in evaluate(parse("p99_latency > 1ms"), {"B": WINDOW})
    assert "errors 6 in" in evaluate(parse("errors > 1"), {"B": WINDOW})


def test_a_server_with_a_wrong_alarm_does_not_start() -> None:
    def never(*_: object) -> Any:
        raise AssertionError

    with pytest.raises(HostlerError, match="alarm 'bad'"):
        Control(Config(alarms={"bad": "nonsense"}), never, never, FakeClock(), never)
