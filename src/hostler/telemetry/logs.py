"""Structured logs: the message is a dotted event name, `extra={"event": {...}}` its fields."""

from __future__ import annotations

import contextvars
import logging
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from hostler.core import Code, HostlerError
from hostler.telemetry.config import Config

__all__ = [
    "JsonFormatter",
    "LogLevels",
    "TextFormatter",
    "configure_logging",
    "request_id_var",
    "set_log_format",
    "set_log_levels",
]

request_id_var: Final = contextvars.ContextVar("hostler_request_id", default="")
"""The client's X-Request-Id, for whatever is logged in behalf of its request."""

_RESERVED: Final = frozenset(("ts", "level", "logger", "event", "request_id", "error"))


def configure_logging(config: Config) -> None:
    """Send the log of this process where the settings say, in place of what was set up before.

    Raises: INVALID_ARGUMENT if the log file cannot be written.
    """
    handler: logging.Handler
    if config.log_file:
        try:
            handler = logging.FileHandler(config.log_file, encoding="utf-8")
        except OSError as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"the log file {config.log_file} cannot be written: {error.strerror}; mend that "
                "or set telemetry.log_file to another",
            ) from None
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other libraries' chatter
    logging.getLogger("hostler").setLevel(config.log_level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, event, request_id, the fields, error.

    A field that bears one of these names gets an underscore behind it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        document: dict[str, Any] = {
            "ts": _iso8601(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        request_id = request_id_var.get()
        if request_id:
            document["request_id"] = request_id
        for name, value in _fields(record).items():
            document[f"{name}_" if name in _RESERVED else name] = value
        if record.exc_info:
            document["error"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:  # a lone surrogate, an integer beyond 64 bits
            safe = {name: _printable(value) for name, value in document.items()}
            return orjson.dumps(safe).decode()


class TextFormatter(logging.Formatter):
    """`12:00:00.123 INFO  model.loaded  model=digits seconds=0.12`, in local time.

    `iso8601`: with `2024-05-20T20:03:26.123Z` in front instead, which is UTC.
    """

    def __init__(self, *, iso8601: bool = False) -> None:
        super().__init__()
        self._iso8601 = iso8601

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        if self._iso8601:
            clock = _iso8601(record)
        else:
            seconds = time.strftime("%H:%M:%S", time.localtime(record.created))
            clock = f"{seconds}.{int(record.msecs):03d}"
        line = f"{clock} {record.levelname:<7} {record.getMessage()}"
        fields = dict(_fields(record))
        request_id = request_id_var.get()
        if request_id:
            fields["request_id"] = request_id
        if fields:
            line += "  " + " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        line = _printable(line)
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


@dataclass(frozen=True, slots=True)
class LogLevels:
    """Which of our events are logged, each by itself; `error` stands for worse ones too."""

    debug: bool
    info: bool
    warning: bool
    error: bool


class _Holes(logging.Filter):
    """Drops our events of levels that are off although less severe ones are on."""

    def __init__(self, levels: frozenset[int]) -> None:
        super().__init__()
        self._levels = levels

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        return record.levelno not in self._levels or not record.name.startswith("hostler")


def set_log_levels(levels: LogLevels) -> None:
    """Change what is logged from now on."""
    wanted = {
        logging.DEBUG: levels.debug,
        logging.INFO: levels.info,
        logging.WARNING: levels.warning,
        logging.ERROR: levels.error,
        logging.CRITICAL: levels.error,
    }
    least = min((level for level, on in wanted.items() if on), default=logging.CRITICAL + 1)
    logging.getLogger("hostler").setLevel(least)
    holes = frozenset(level for level, on in wanted.items() if level > least and not on)
    for handler in _our_handlers():
        for old in [each for each in handler.filters if isinstance(each, _Holes)]:
            handler.removeFilter(old)
        if holes:
            handler.addFilter(_Holes(holes))


def set_log_format(form: str) -> None:
    """Change the form of lines from now on: text, iso8601 (text with such times) or json."""
    formatter: logging.Formatter = JsonFormatter()
    if form != "json":
        formatter = TextFormatter(iso8601=form == "iso8601")
    for handler in _our_handlers():
        handler.setFormatter(formatter)


def _our_handlers() -> list[logging.Handler]:
    """Those that `configure_logging` has set up."""
    ours = (TextFormatter, JsonFormatter)
    return [each for each in logging.getLogger().handlers if isinstance(each.formatter, ours)]


def _iso8601(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "event", None)
    return fields if isinstance(fields, dict) else {}


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return repr(text) if not text or any(c.isspace() or c in "\"'=" for c in text) else text


def _printable(value: object) -> str:
    """What a terminal and UTF-8 can carry: no line breaks, no escape codes, no surrogates."""
    text = str(value).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
