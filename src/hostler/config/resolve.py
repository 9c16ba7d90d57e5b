"""Layers of given values -> one tree of frozen settings that knows where each value is from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

import msgspec
import yaml

from hostler.config.describe import Setting
from hostler.config.layers import Given
from hostler.config.quantities import parse_bytes, parse_seconds
from hostler.core import Code, HostlerError

__all__ = ["Resolved", "build", "value_of"]

Root = TypeVar("Root", bound=msgspec.Struct)

_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_QUANTITIES: Final[Mapping[str, Callable[[str], float]]] = {
    "bytes": parse_bytes,
    "s": parse_seconds,
}


@dataclass(frozen=True, slots=True)
class Resolved(Generic[Root]):
    """Settings, and for each one that is not at its default, by name, where it was set."""

    settings: Root
    sources: Mapping[str, str]

    def value(self, name: str) -> object:
        """The value of `room.field`."""
        room, _, field = name.partition(".")
        return getattr(getattr(self.settings, room), field)

    def source(self, name: str) -> str:
        """`default`, or the file and line, variable or flag that set it."""
        return self.sources.get(name, "default")


def build(root: type[Root], known: Mapping[str, Setting], given: Iterable[Given]) -> Resolved[Root]:
    """Put given values, the weakest layer first, over the defaults.

    Raises: INVALID_ARGUMENT naming the setting, its value, what is allowed and the source.
    """
    values: dict[str, dict[str, object]] = {}
    sources: dict[str, str] = {}
    for item in given:
        setting = known[item.name]
        values.setdefault(setting.room, {})[setting.field] = value_of(setting, item)
        sources[item.name] = item.source
    defaults = root()
    rooms: dict[str, object] = {}
    for room, changes in values.items():
        try:
            rooms[room] = msgspec.structs.replace(getattr(defaults, room), **changes)
        except ValueError as error:  # a room's own check of fields that belong together
            set_by = ", ".join(sources[f"{room}.{field}"] for field in changes)
            raise HostlerError(Code.INVALID_ARGUMENT, f"{set_by}: {room}: {error}") from None
    return Resolved(msgspec.structs.replace(defaults, **rooms), sources)


def value_of(setting: Setting, given: Given) -> object:
    """A given value in the setting's own type and unit. Raises: INVALID_ARGUMENT."""
    try:
        plain = _plain(setting, given)
        value: object = msgspec.convert(plain, setting.type, strict=False, dec_hook=_decode)
    except ValueError:  # msgspec.ValidationError is one
        raise _refusal(setting, given) from None
    if isinstance(value, float) and math.isnan(value):
        raise _refusal(setting, given)
    return value


def _plain(setting: Setting, given: Given) -> object:
    """What msgspec can take: text turned into numbers, flags and lists; YAML's types checked."""
    value, kind = given.value, setting.plain
    if setting.optional and (value is None or (given.is_text and str(value).lower() in _NONE)):
        return None
    if isinstance(value, str):
        return _from_text(setting, value)
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise ValueError
        return value
    if kind in (str, Path):  # `host: 0` is a slip, not text
        raise ValueError
    return value


_NONE: Final = ("", "none", "null")


def _from_text(setting: Setting, text: str) -> object:
    kind = setting.plain
    if kind is bool:
        if text.strip().lower() not in _FLAGS:
            raise ValueError
        return _FLAGS[text.strip().lower()]
    if kind in (int, float):
        if setting.unit in _QUANTITIES:
            number = _QUANTITIES[setting.unit](text)
            return int(number) if kind is int and number == int(number) else number
        return float(text) if kind is float else int(text)
    if get_origin(kind) in (tuple, list, frozenset, set):
        return _list_from_text(get_args(kind)[0], text)
    if get_origin(kind) is dict:
        return _yaml(text)
    return text


def _list_from_text(kind: Any, text: str) -> object:
    if text.lstrip().startswith("["):
        return _yaml(text)
    items = [item.strip() for item in text.split(",") if item.strip()]
    return items if kind is str else [_yaml(item) for item in items]


def _yaml(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise ValueError(f"{value!r} is no {kind.__name__}")


def _refusal(setting: Setting, given: Given) -> HostlerError:
    shown = repr(given.value) if isinstance(given.value, str) else given.value
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"{given.source}: {setting.name} is {shown}, but {setting.allowed} is expected",
    )
