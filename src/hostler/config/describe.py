"""What settings there are: the rooms' structs, flattened to a table. Pure."""

from __future__ import annotations

import difflib
import enum
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

__all__ = ["Setting", "nearest", "settings_of"]

_BOUNDS: Final = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
_KINDS: Final = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of one room's Config.

    `name`: `room.field`, as YAML, flags and messages have it. `type`: the annotation, its range
    included. `unit`: s, bytes, count, ratio, path, flag, text or
    secret (text that is not shown). `allowed`: the values that pass,
    in words.
    """

    name: str
    type: Any
    unit: str
    default: object
    description: str
    allowed: str

    @property
    def room(self) -> str:
        """The part before the dot."""
        return self.name.partition(".")[0]

    @property
    def field(self) -> str:
        """The part after the dot."""
        return self.name.partition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"HOSTLER_{self.room}__{self.field}".upper()

    @property
    def plain(self) -> Any:
        """The type without its range, and without None where it is optional."""
        inner = _unwrap(self.type)[0]
        return next((a for a in _alternatives(inner) if a is not type(None)), inner)

    @property
    def optional(self) -> bool:
        """Whether `none` is a value."""
        return type(None) in _alternatives(_unwrap(self.type)[0])


def settings_of(root: type[msgspec.Struct]) -> dict[str, Setting]:
    """Every setting below a struct of room structs, by name, in the order of the fields."""
    found: dict[str, Setting] = {}
    for room, struct in typing.get_type_hints(root).items():
        hints = typing.get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            name = f"{room}.{field.name}"
            found[name] = _setting(name, hints[field.name], field)
    return found


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant, or None."""
    known = list(words)
    by_field: Mapping[str, str] = {name.rpartition(".")[2]: name for name in reversed(known)}
    if word in by_field:  # `port` for `gateway.port`
        return by_field[word]
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return close[0] if close else None


def _setting(name: str, annotation: Any, field: msgspec.structs.FieldInfo) -> Setting:
    plain, meta = _unwrap(annotation)
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    else:
        default = field.default
    return Setting(
        name=name,
        type=annotation,
        unit=str(meta.get("unit", "")),
        default=default,
        description=str(meta.get("description", "")),
        allowed=_allowed(plain, meta),
    )


def _unwrap(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """The type inside `Annotated`, and what all its msgspec.Meta say."""
    if get_origin(annotation) is not Annotated:
        return annotation, {}
    plain, *metas = get_args(annotation)
    said: dict[str, Any] = {}
    for meta in metas:
        if isinstance(meta, msgspec.Meta):
            said.update(meta.extra or {})
            keys = ("description", "pattern", "ge", "gt", "le", "lt")
            said.update({k: v for k in keys if (v := getattr(meta, k)) is not None})
    return plain, said


def _alternatives(plain: Any) -> tuple[Any, ...]:
    return get_args(plain) if get_origin(plain) in (Union, types.UnionType) else (plain,)


def _allowed(plain: Any, meta: Mapping[str, Any]) -> str:
    words = " or ".join(_kind(alternative, meta) for alternative in _alternatives(plain))
    bounds = [f"{phrase} {meta[key]:,.12g}" for key, phrase in _BOUNDS if key in meta]
    if "ge" in meta and "le" in meta:
        bounds = [f"from {meta['ge']:,.12g} to {meta['le']:,.12g}"]
    if meta.get("pattern"):
        bounds.append(f"like {meta['pattern']}")
    return " ".join([words, " and ".join(bounds)]).strip()


def _kind(plain: Any, meta: Mapping[str, Any]) -> str:
    if plain is type(None):
        return "none"
    if meta.get("unit") == "bytes" and plain in (int, float):
        return "a size in bytes"
    if meta.get("unit") == "s" and plain in (int, float):
        return "a duration in seconds"
    if get_origin(plain) is Annotated:
        inner, said = _unwrap(plain)
        return _allowed(inner, {**meta, **said})
    if get_origin(plain) is Literal:
        return f"one of {', '.join(map(str, get_args(plain)))}"
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return f"one of {', '.join(str(member.value) for member in plain)}"
    if get_origin(plain) in (tuple, list, frozenset, set):
        return f"a list, each {_kind(get_args(plain)[0], {})}"
    if get_origin(plain) is dict:
        return "a mapping"
    return _KINDS.get(plain, str(plain))
