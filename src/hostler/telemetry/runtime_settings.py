"""What the server tells about itself, changed while it runs: log and trace settings.

The door for every wire, plain words in and out: `log_settings()`, `update_log_settings(changes)`,
`trace_settings(model)`, `update_trace_settings(changes, model)`. `changes` maps names to values as
a client sent them; what cannot be done is INVALID_ARGUMENT, and then nothing has been changed. A
trace setting is a string or a list of strings, and either is taken for the other where it fits
(gRPC has lists alone); None or an empty list means "as if it had never been set".
Whether a model exists is the caller's to check. Loop thread only.

Source: Triton `extension_logging.md`, `extension_trace.md` (in its mode "opentelemetry"); first
words of errors are those of `http_server.cc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.telemetry.config import Config
from hostler.telemetry.logs import LogLevels, set_log_format, set_log_levels
from hostler.telemetry.traces import Sampler

__all__ = ["RuntimeSettings"]

LogValue = str | bool | int
TraceValue = str | list[str]

_FORMATS: Final = {"default": "text", "ISO8601": "iso8601", "json": "json"}
_FLAGS: Final = ("log_info", "log_warning", "log_error")
_VERBOSE_MAX: Final = 2**31 - 1
_RATE_MAX: Final = 2**32 - 1
_COUNT_MAX: Final = 2**31 - 1
_TRACE_NAMES: Final = ("trace_level", "trace_rate", "trace_count")
_LOG_NAMES: Final = (*_FLAGS, "log_verbose_level", "log_format")


class RuntimeSettings:
    """The settings of one server, at first as configured.

    `sampler`: give it to `start_tracing`, so that trace settings have an effect.
    """

    def __init__(self, config: Config) -> None:
        self.sampler = Sampler(config.tracing_ratio)
        self._config = config
        self._own: dict[str, dict[str, Any]] = {}  # by model, "" for all of them
        order = ["debug", "info", "warning", "error"]
        least = order.index(config.log_level)
        self._log: dict[str, LogValue] = {
            "log_file": config.log_file,
            "log_info": least <= 1,
            "log_warning": least <= 2,
            "log_error": True,
            "log_verbose_level": int(least == 0),
            "log_format": "json" if config.log_format == "json" else "default",
        }

    # -- logs ------------------------------------------------------------------------------

    def log_settings(self) -> dict[str, LogValue]:
        """All log settings as they are now."""
        return dict(self._log)

    def update_log_settings(self, changes: Mapping[str, object]) -> dict[str, LogValue]:
        """Change some; gives all. Raises: INVALID_ARGUMENT."""
        wanted = dict(self._log)
        for name, value in changes.items():
            if value is not None:
                wanted[name] = self._log_value(name, value)
        if wanted != self._log:
            self._log = wanted
            set_log_levels(
                LogLevels(
                    debug=bool(wanted["log_verbose_level"]),
                    info=bool(wanted["log_info"]),
                    warning=bool(wanted["log_warning"]),
                    error=bool(wanted["log_error"]),
                )
            )
            set_log_format(_FORMATS[str(wanted["log_format"])])
        return self.log_settings()

    def _log_value(self, name: str, value: object) -> LogValue:
        if name == "log_file":
            if value != self._log["log_file"]:
                raise _invalid(
                    "log file location can not be updated through network protocol; set "
                    "telemetry.log_file and start the server anew"
                )
            return str(value)
        if name in _FLAGS:
            if not isinstance(value, bool):
                raise _invalid(f"log setting '{name}' must be true or false, not {_shown(value)}")
            return value
        if name == "log_verbose_level":
            if type(value) is not int or not 0 <= value <= _VERBOSE_MAX:
                raise _invalid(
                    f"log setting 'log_verbose_level' must be a whole number >= 0, not "
                    f"{_shown(value)}; 0 is none, and every other number logs all there is"
                )
            return value
        if name == "log_format":
            if not isinstance(value, str) or value not in _FORMATS:
                raise _invalid(
                    f"invalid argument for log_format, got: {_shown(value)}; one of "
                    f"{', '.join(_FORMATS)} is expected"
                )
            return value
        raise _unknown("log setting", name, _LOG_NAMES)

    # -- traces ----------------------------------------------------------------------------

    def trace_settings(self, model: str = "") -> dict[str, TraceValue]:
        """All trace settings of a model, or of models without their own."""
        sampler = self.sampler.of(model)
        rate = round(min(1 / sampler.ratio, _RATE_MAX)) if sampler.ratio else 0
        return {
            "trace_level": ["TIMESTAMPS"] if self._config.tracing and sampler.on else ["OFF"],
            "trace_rate": str(rate),
            "trace_count": str(sampler.remaining),
            "trace_mode": "opentelemetry",
        }

    def update_trace_settings(
        self, changes: Mapping[str, object], model: str = ""
    ) -> dict[str, TraceValue]:
        """Change some, of a model or of all without their own; gives all. Raises: INVALID_ARGUMENT.

        Settings that a model does not have of its own follow those of all.
        """
        own = dict(self._own.get(model, {}))
        for name, value in changes.items():
            if value is None or value == []:
                _check_trace_name(name)
                own.pop(name, None)
            else:
                own[name] = _trace_value(name, value)
                self._check_effect(name, value)
        if own:
            self._own[model] = own
        else:
            self._own.pop(model, None)
        renewed = "trace_count" in changes
        if model:
            self._apply(model, renewed=renewed)
        else:
            self._apply_to_all(renewed=renewed)
        return self.trace_settings(model)

    def _apply_to_all(self, *, renewed: bool) -> None:
        own, sampler = self._own.get("", {}), self.sampler
        sampler.on = own.get("trace_level", True)
        sampler.ratio = own.get("trace_rate", self._config.tracing_ratio)
        if renewed:
            sampler.remaining = own.get("trace_count", -1)
        for model in self._own:
            if model:
                self._apply(model, renewed=False)

    def _apply(self, model: str, *, renewed: bool) -> None:
        own, general = self._own.get(model), self.sampler
        if own is None:
            general.by_model.pop(model, None)
            return
        sampler = general.by_model.get(model)
        if sampler is None:
            sampler = general.by_model[model] = Sampler(general.ratio)
            sampler.remaining = own.get("trace_count", general.remaining)
        elif renewed:
            sampler.remaining = own.get("trace_count", general.remaining)
        sampler.on = own.get("trace_level", general.on)
        sampler.ratio = own.get("trace_rate", general.ratio)

    def _check_effect(self, name: str, value: object) -> None:
        if not self._config.tracing and value not in ("OFF", ["OFF"]):
            raise _invalid(
                f"'{name}' would have no effect, since tracing is switched off: start the server "
                "with telemetry.tracing=true and the extra hostler[tracing]"
            )


def _trace_value(name: str, value: object) -> bool | float | int:
    """A level as on or off, a rate as a ratio, a count as it is."""
    _check_trace_name(name)
    if name == "trace_level":
        return _level(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    number = _whole(name, value)
    if name == "trace_rate":
        if not 0 <= number <= _RATE_MAX:
            raise _invalid(
                f"Unable to parse 'trace_rate', value is out of range [ 0, {_RATE_MAX} ], "
                f"got: {number}; N traces one request of N, 0 none"
            )
        return 1 / number if number else 0.0
    if not -1 <= number <= _COUNT_MAX:
        raise _invalid(
            f"Unable to parse 'trace_count', value is out of range [ -1, {_COUNT_MAX} ], "
            f"got: {number}; -1 is without end"
        )
    return number


def _level(value: object) -> bool:
    levels = [value] if isinstance(value, str) else value
    if levels == ["OFF"]:
        return False
    if isinstance(levels, list) and "OFF" in levels:
        raise _invalid("Expect only one trace level 'OFF' is specified")
    if levels != ["TIMESTAMPS"]:
        raise _invalid(
            f"trace setting 'trace_level' must be OFF or TIMESTAMPS, not {_shown(value)}: "
            "spans hold no tensors"
        )
    return True


def _check_trace_name(name: str) -> None:
    if name == "trace_file":
        raise _invalid(
            "trace file location can not be updated through network protocol: spans go to the "
            "collector of telemetry.tracing_endpoint, and to no file"
        )
    if name not in _TRACE_NAMES:
        raise _unknown("trace setting", name, _TRACE_NAMES)


def _whole(name: str, value: object) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) < 20:
        try:
            return int(value)
        except ValueError:
            pass
    raise _invalid(f"Unable to parse '{name}', got: {_shown(value)}; a whole number is expected")


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> HostlerError:
    return _invalid(
        f"{kind} {_shown(name)} cannot be changed here; those that can are {', '.join(known)}"
    )


def _shown(value: object) -> str:
    return repr(value)[:64]


def _invalid(message: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, message)
