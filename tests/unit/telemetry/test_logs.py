"""Log lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.core import HostlerError
from hostler.telemetry import Config, configure_logging, request_id_var
from hostler.telemetry.logs import JsonFormatter, TextFormatter


def record(message: str, event: Any = None, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("hostler.serving", logging.INFO, "f.py", 1, message, (), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    if event is not None:
        made.event = event
    made.__dict__.update(fields)
    return made


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("hostler")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (None, {}),
        ({"model": "digits", "seconds": 0.5}, {"model": "digits", "seconds": 0.5}),
        ({"level": 3}, {"level_": 3}),
        ({"path": Path("/x")}, {"path": "/x"}),
        ({1: 2}, {"1": 2}),
        ({"text": "a\nb"}, {"text": "a\nb"}),
        ("no mapping", {}),
    ],
)
def test_json(event: Any, expected: dict[str, Any]) -> None:
    line = JsonFormatter().format(record("model.loaded", event))
    assert "\n" not in line
    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "hostler.serving",
        "event": "model.loaded",
        **expected,
    }


@pytest.mark.parametrize("value", ["\ud800", 1 << 80, {"a": {"\udfff"}}])
def test_json_takes_whatever_it_is_given(value: Any) -> None:
    document = json.loads(JsonFormatter().format(record("x", {"value": value})))
    assert document["value"]


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (None, "INFO    model.loaded"),
        ({"model": "digits", "seconds": 0.1234567}, "model.loaded  model=digits seconds=0.123457"),
        ({"why": "two words"}, "why='two words'"),
        ({"why": ""}, "why=''"),
        ({"why": "\x1b[31mred"}, r"why=\x1b[31mred"),
        ({"why": "a\nINFO forged"}, r"why='a\nINFO forged'"),
    ],
)
def test_text(event: Any, end: str) -> None:
    line = TextFormatter().format(record("model.loaded", event))
    assert line.endswith(end)
    assert line[8:13] == ".250 "


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_request_ids_and_tracebacks(formatter: logging.Formatter) -> None:
    token = request_id_var.set("abc")
    try:
        raise ValueError("so it is")
    except ValueError:
        line = formatter.format(record("x", exc_info=sys.exc_info()))
    finally:
        request_id_var.reset(token)
    assert "abc" in line
    assert "Traceback" in line
    assert "so it is" in line


@pytest.mark.usefixtures("_restored_logging")
def test_the_log_goes_to_a_file(tmp_path: Path) -> None:
    config = Config(log_file=str(tmp_path / "log"), log_format="json", log_level="info")
    configure_logging(config)
    configure_logging(config)  # replaces, does not double
    logging.getLogger("hostler.serving").info("model.loaded", extra={"event": {"model": "m"}})
    logging.getLogger("hostler.serving").debug("hidden")
    logging.getLogger("other").info("hidden")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["model"] == "m"


@pytest.mark.usefixtures("_restored_logging")
def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Config())
    logging.getLogger("hostler").warning("x.y")
    captured = capsys.readouterr()
    assert (captured.out, captured.err.endswith("WARNING x.y\n")) == ("", True)


@pytest.mark.usefixtures("_restored_logging")
def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostlerError, match=r"log_file"):
        configure_logging(Config(log_file=str(tmp_path)))
