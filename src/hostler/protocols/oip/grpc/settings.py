"""TraceSetting and LogSettings: messages <-> names and values, checked by whoever keeps them.

Source: Triton `grpc_service.proto`, `extension_trace.md`, `extension_logging.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from hostler.protocols.oip.grpc import grpc_service_pb2 as pb
from hostler.protocols.oip.schema import invalid

__all__ = [
    "log_settings_answer",
    "parse_log_settings",
    "parse_trace_setting",
    "trace_setting_answer",
]

_BYTES_MAX: Final = 64 * 1024
"""There are some ten settings of short values; reading millions would hold up everybody else."""


def parse_trace_setting(data: bytes) -> tuple[str, dict[str, object]]:
    """The model, "" for all, and the settings to change: lists of strings, empty ones to clear.

    Raises: INVALID_ARGUMENT.
    """
    _check_size(data)
    try:
        message = pb.TraceSettingRequest.FromString(data)
    except DecodeError:
        raise invalid("the message is not a TraceSettingRequest: it is malformed") from None
    changes: dict[str, object] = {
        name: list(setting.value) for name, setting in message.settings.items()
    }
    return message.model_name, changes


def parse_log_settings(data: bytes) -> dict[str, object]:
    """The settings to change; one without a value stays as it is. Raises: INVALID_ARGUMENT."""
    _check_size(data)
    try:
        message = pb.LogSettingsRequest.FromString(data)
    except DecodeError:
        raise invalid("the message is not a LogSettingsRequest: it is malformed") from None
    return {name: _value(setting) for name, setting in message.settings.items()}


def _check_size(data: bytes) -> None:
    if len(data) > _BYTES_MAX:
        raise invalid(f"the settings take {len(data)} bytes; {_BYTES_MAX} are the most")


def _value(setting: Any) -> object:
    field = setting.WhichOneof("parameter_choice")
    return None if field is None else getattr(setting, field)


def trace_setting_answer(settings: Mapping[str, str | list[str]]) -> bytes:
    """TraceSettingResponse."""
    message = pb.TraceSettingResponse()
    for name, value in settings.items():
        message.settings[name].value.extend([value] if isinstance(value, str) else value)
    return bytes(message.SerializeToString())


def log_settings_answer(settings: Mapping[str, str | bool | int]) -> bytes:
    """LogSettingsResponse."""
    message = pb.LogSettingsResponse()
    for name, value in settings.items():
        if isinstance(value, bool):
            message.settings[name].bool_param = value
        elif isinstance(value, int):
            message.settings[name].uint32_param = value
        else:
            message.settings[name].string_param = value
    return bytes(message.SerializeToString())
