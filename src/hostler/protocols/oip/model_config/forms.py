"""The three forms of ModelConfig and the ways between them. Importing this imports protobuf."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor

from hostler.core import Code, HostlerError
from hostler.protocols.oip.model_config.model_config_pb2 import ModelConfig

__all__ = ["parse_json", "parse_text", "states_max_batch_size", "to_json"]

_UNSTATED: Final = -(2**31)
"""A `max_batch_size` that no text needs to set: the smallest int32."""


def parse_text(text: str, source: str) -> ModelConfig:
    """See the door."""
    config = ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise _text_error(error, source) from None
    except (RecursionError, UnicodeError, ValueError, OverflowError) as error:
        raise HostlerError(Code.INVALID_ARGUMENT, f"{source}: {_one_line(error)}") from None
    return config


def states_max_batch_size(text: str, source: str) -> bool:
    """See the door."""
    # proto3 keeps no presence for a plain integer: merge over a value that only the text changes.
    config = ModelConfig(max_batch_size=_UNSTATED)
    try:
        text_format.Merge(text, config)
    except text_format.ParseError as error:
        raise _text_error(error, source) from None
    return bool(config.max_batch_size != _UNSTATED)


def parse_json(config: Mapping[str, object] | str, source: str) -> ModelConfig:
    """See the door."""
    try:
        document = json.loads(config) if isinstance(config, str) else config
        if not isinstance(document, Mapping):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"{source}: a JSON object is expected, not {type(document).__name__}",
            )
        message = ModelConfig()
        json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        # The library lists every field there is, in another spelling than the schema's.
        reason = str(error).replace("hostler_oip.", "").partition(" Available Fields")[0]
        raise HostlerError(Code.INVALID_ARGUMENT, f"{source}: {_one_line(reason)}") from None
    except json.JSONDecodeError as error:
        raise HostlerError(Code.INVALID_ARGUMENT, f"{source}: not JSON: {error}") from None
    except (RecursionError, ValueError, TypeError, AttributeError, OverflowError) as error:
        # The library checks few of the types that a dict may hold before it uses them.
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{source}: not a ModelConfig: {_one_line(error)}"
        ) from None
    return message


def to_json(config: ModelConfig) -> dict[str, object]:
    """See the door."""
    return _message(config)


def _message(message: Any) -> dict[str, object]:
    document: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        name = field.name
        # `has_presence` is true for messages and members of a oneof: shown only when set.
        if field.has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            document[name] = {str(key): _value(entry, value[key]) for key in sorted(value)}
        elif _is_repeated(field):
            document[name] = [_value(field, item) for item in value]
        else:
            document[name] = _value(field, value)
    return document


def _is_repeated(field: Any) -> bool:
    # `label` is deprecated since protobuf 6.31 and `is_repeated` newer than that.
    repeated = getattr(field, "is_repeated", None)
    return field.label == FieldDescriptor.LABEL_REPEATED if repeated is None else bool(repeated)


def _value(field: Any, value: Any) -> object:
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        member = field.enum_type.values_by_number.get(value)
        # proto3 keeps numbers of enums that it does not know; JSON shows them as they are.
        return value if member is None else member.name
    return value


def _text_error(error: text_format.ParseError, source: str) -> HostlerError:
    line, column = error.GetLine(), error.GetColumn()
    message = str(error)
    if line is None:
        place = source
    else:
        place = f"{source}:{line}:{column}"
        message = message.removeprefix(f"{line}:{column} : ")
    message = message.replace("hostler_oip.", "")
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"{place}: {_one_line(message)}",
        details={"file": source, "line": line, "column": column},
    )


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())
    return text.encode("utf-8", "replace").decode()[:500]
