"""Log and trace settings that clients change."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.telemetry import Config, RuntimeSettings, configure_logging, start_tracing

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
ON = Config(tracing=True, tracing_ratio=0.01)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log of a server as configured at first."""
    root, ours = logging.getLogger(), logging.getLogger("hostler")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers.clear()
    configure_logging(Config())
    stream = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def logged(stream: io.StringIO) -> list[str]:
    """The levels of our events that come through, of one of each."""
    stream.seek(0)
    stream.truncate()
    for name, level in LEVELS.items():
        logging.getLogger("hostler.gateway").log(level, "event.%s", name)
    text = stream.getvalue()
    return [name for name in LEVELS if f"event.{name}" in text]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", (1, True, True)),
        ("info", (0, True, True)),
        ("warning", (0, False, True)),
        ("error", (0, False, False)),
    ],
)
def test_at_first_they_are_as_configured(level: Any, expected: tuple[int, bool, bool]) -> None:
    config = Config(log_level=level, log_file="/var/log/hostler", log_format="json")
    assert RuntimeSettings(config).log_settings() == {
        "log_file": "/var/log/hostler",
        "log_info": expected[1],
        "log_warning": expected[2],
        "log_error": True,
        "log_verbose_level": expected[0],
        "log_format": "json",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["info", "warning", "error"]),
        ({"log_verbose_level": 1}, ["debug", "info", "warning", "error"]),
        ({"log_verbose_level": 7, "log_info": False}, ["debug", "warning", "error"]),
        ({"log_info": False}, ["warning", "error"]),
        ({"log_warning": False}, ["info", "error"]),
        ({"log_error": False}, ["info", "warning"]),
        ({"log_info": False, "log_warning": False}, ["error"]),
        ({"log_info": False, "log_warning": False, "log_error": False}, []),
        ({"log_info": None, "log_file": ""}, ["info", "warning", "error"]),
    ],
)
def test_levels_have_their_effect(
    log: io.StringIO, changes: dict[str, Any], expected: list[str]
) -> None:
    settings = RuntimeSettings(Config())
    assert logged(log) == ["info", "warning", "error"]
    shown = settings.update_log_settings(changes)
    assert shown == settings.log_settings()
    assert logged(log) == expected
    everything = {"log_info": True, "log_warning": True, "log_error": True}
    settings.update_log_settings(everything | {"log_verbose_level": 0})
    assert logged(log) == ["info", "warning", "error"]


def test_other_libraries_are_not_affected(log: io.StringIO) -> None:
    RuntimeSettings(Config()).update_log_settings({"log_warning": False, "log_error": False})
    logging.getLogger("elsewhere").warning("heard")
    assert "heard" in log.getvalue()


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("default", r"^\d\d:\d\d:\d\d\.\d{3} INFO    it"),
        ("ISO8601", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    it"),
        ("json", r'^{"ts":"\d{4}-.*"event":"it"}$'),
    ],
)
def test_formats(log: io.StringIO, form: str, pattern: str) -> None:
    settings = RuntimeSettings(Config())
    settings.update_log_settings({"log_format": "json"})
    assert settings.update_log_settings({"log_format": form})["log_format"] == form
    logging.getLogger("hostler.x").info("it")
    (line,) = log.getvalue().splitlines()
    assert re.search(pattern, line), line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_file": "/tmp/x"}, "log file location can not be updated"),
        ({"log_info": 1}, "'log_info' must be true or false, not 1"),
        ({"log_error": "yes"}, "'log_error' must be true or false"),
        ({"log_verbose_level": -1}, "must be a whole number >= 0, not -1"),
        ({"log_verbose_level": True}, "must be a whole number"),
        ({"log_verbose_level": 2**31}, "must be a whole number"),
        ({"log_format": "xml"}, "default, ISO8601, json"),
        ({"log_format": []}, "default, ISO8601, json"),
        ({"log_warnings": True}, "'log_warnings' cannot be changed here; those that can are"),
        ({"log_info": False, "nothing": 1}, "'nothing' cannot be changed"),
    ],
)
def test_wrong_log_settings_change_nothing(
    log: io.StringIO, changes: dict[str, Any], message: str
) -> None:
    settings = RuntimeSettings(Config())
    before = settings.log_settings()
    with pytest.raises(HostlerError, match=message) as caught:
        settings.update_log_settings(changes)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert settings.log_settings() == before
    assert logged(log) == ["info", "warning", "error"]


def shown(level: str, rate: str, count: str) -> dict[str, Any]:
    return {
        "trace_level": [level],
        "trace_rate": rate,
        "trace_count": count,
        "trace_mode": "opentelemetry",
    }


def test_trace_settings_at_first() -> None:
    assert RuntimeSettings(ON).trace_settings() == shown("TIMESTAMPS", "100", "-1")
    assert RuntimeSettings(Config()).trace_settings("m") == shown("OFF", "100", "-1")
    never = Config(tracing=True, tracing_ratio=0)
    assert RuntimeSettings(never).trace_settings() == shown("TIMESTAMPS", "0", "-1")
    rare = Config(tracing=True, tracing_ratio=5e-324)
    assert RuntimeSettings(rare).trace_settings() == shown("TIMESTAMPS", str(2**32 - 1), "-1")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trace_rate": "10"}, shown("TIMESTAMPS", "10", "-1")),
        ({"trace_rate": ["10"]}, shown("TIMESTAMPS", "10", "-1")),
        ({"trace_rate": 10}, shown("TIMESTAMPS", "10", "-1")),
        ({"trace_rate": "0"}, shown("TIMESTAMPS", "0", "-1")),
        ({"trace_count": "5"}, shown("TIMESTAMPS", "100", "5")),
        ({"trace_level": ["OFF"]}, shown("OFF", "100", "-1")),
        ({"trace_level": "OFF"}, shown("OFF", "100", "-1")),
        ({"trace_level": ["TIMESTAMPS"], "trace_count": "-1"}, shown("TIMESTAMPS", "100", "-1")),
        ({"trace_rate": None, "trace_count": [], "trace_level": None}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_trace_settings_change(changes: Any, expected: Any, model: str) -> None:
    settings = RuntimeSettings(ON)
    after = settings.update_trace_settings(changes, model)
    assert after == settings.trace_settings(model) == (expected or shown("TIMESTAMPS", "100", "-1"))
    others = settings.trace_settings("n")
    assert others == (after if not model else shown("TIMESTAMPS", "100", "-1"))
    cleared = dict.fromkeys(changes)
    assert settings.update_trace_settings(cleared, model) == shown("TIMESTAMPS", "100", "-1")
    assert not settings.sampler.by_model


def test_a_model_follows_the_others_in_what_it_does_not_set() -> None:
    settings = RuntimeSettings(ON)
    settings.update_trace_settings({"trace_rate": "3"}, "m")
    settings.update_trace_settings({"trace_rate": "7", "trace_level": "OFF"})
    assert settings.trace_settings("m") == shown("OFF", "3", "-1")
    assert settings.trace_settings() == shown("OFF", "7", "-1")
    settings.update_trace_settings({"trace_rate": None}, "m")
    assert settings.trace_settings("m") == shown("OFF", "7", "-1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace_file": "x"}, "trace file location can not be updated"),
        ({"log_frequency": "1"}, "'log_frequency' cannot be changed here"),
        ({"trace_level": ["TENSORS"]}, "spans hold no tensors"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, "Expect only one trace level 'OFF'"),
        ({"trace_level": 3}, "must be OFF or TIMESTAMPS"),
        ({"trace_rate": "x"}, "Unable to parse 'trace_rate', got: 'x'"),
        ({"trace_rate": "-1"}, "out of range"),
        ({"trace_rate": str(2**32)}, "out of range"),
        ({"trace_rate": "9" * 5000}, "Unable to parse"),
        ({"trace_rate": ["1", "2"]}, "Unable to parse"),
        ({"trace_count": "-2"}, "out of range"),
        ({"trace_count": True}, "Unable to parse"),
        ({"trace_rate": "5", "nothing": None}, "'nothing' cannot be changed here"),
    ],
)
def test_wrong_trace_settings_change_nothing(changes: Any, message: str) -> None:
    settings = RuntimeSettings(ON)
    with pytest.raises(HostlerError, match=message) as caught:
        settings.update_trace_settings(changes)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert settings.trace_settings() == shown("TIMESTAMPS", "100", "-1")


@pytest.mark.parametrize("changes", [{"trace_level": "TIMESTAMPS"}, {"trace_rate": "5"}])
def test_without_tracing_nothing_but_off_can_be_set(changes: Any) -> None:
    settings = RuntimeSettings(Config())
    with pytest.raises(HostlerError, match=r"telemetry\.tracing=true"):
        settings.update_trace_settings(changes)
    assert settings.update_trace_settings({"trace_level": ["OFF"]}) == shown("OFF", "100", "-1")


TRACEPARENT = {b"traceparent": b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"}


def test_what_is_set_decides_who_is_traced() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    settings = RuntimeSettings(ON)
    tracing = start_tracing(ON, memory.InMemorySpanExporter(), sampler=settings.sampler)
    assert tracing is not None

    def traced(count: int, model: str = "", headers: Any = None) -> int:
        return sum(tracing.start(headers or {}, model) is not None for _ in range(count))

    settings.update_trace_settings({"trace_rate": "1", "trace_count": "3"})
    assert traced(10) == 3
    assert settings.trace_settings()["trace_count"] == "0"
    assert traced(2, headers=TRACEPARENT) == 2, "the caller decides for itself"
    settings.update_trace_settings({"trace_count": "3"})
    assert traced(10) == 3
    settings.update_trace_settings({"trace_count": None, "trace_level": "OFF"})
    assert traced(5) == traced(5, headers=TRACEPARENT) == 0
    settings.update_trace_settings({"trace_level": "TIMESTAMPS"}, "m")
    assert (traced(5, "m"), traced(5, "n"), traced(5)) == (5, 0, 0)
    tracing.close()
    assert json.dumps(settings.trace_settings("m"))
