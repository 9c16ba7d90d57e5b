"""The shapes of a service's requests and answers, and checking values against them. Pure.

`service` makes them of a service description; nothing here knows where that comes from. Failures
are worded as AWS words them: "1 validation error detected: Value 'x' at 'endpointName' failed to
satisfy constraint: Member must ...". Paths have members with a small first letter and elements of
lists counted from 1.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.patterns import compiled

__all__ = [
    "Blob",
    "Flag",
    "ListOf",
    "MapOf",
    "Moment",
    "Node",
    "Number",
    "Structure",
    "Text",
    "malformed",
    "read",
    "write",
]

_FAULTS_MAX: Final = 20  # a request may be wrong in a hundred thousand places
_SHOWN_MAX: Final = 256
_SECONDS: Final = (-62135596800.0, 253402300799.0)  # years 1 to 9999, as clients can show them


@dataclass(frozen=True, slots=True)
class Text:
    """A string. `allowed`: the values of an enum. `secret`: never shown in messages."""

    low: int | None = None
    high: int | None = None
    pattern: str = ""
    allowed: tuple[str, ...] = ()
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """A number; `bits`: of an integer, or of a float where `whole` is false."""

    whole: bool
    bits: int = 32
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: on the wire and in Python, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, base64 on the wire."""

    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list."""

    member: Node
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map; keys are texts."""

    key: Text
    value: Node
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """Named members. `names`: on the wire, where they differ. `union`: exactly one may be there.

    Not frozen in its members while a description is read, as shapes may contain themselves.
    """

    name: str
    members: dict[str, Node] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    union: bool = False


Node = Text | Number | Flag | Moment | Blob | ListOf | MapOf | Structure


def read(shape: Structure, value: Any) -> dict[str, Any]:
    """A request as it was sent (JSON, decoded) -> its values, complete and valid.

    Members that the shape does not have are left out, as are those that are null. Raises:
    INVALID_ARGUMENT, as ValidationException or SerializationException (see `errors`).
    """
    reading = _Reading()
    found = reading.node(shape, value, "")
    if reading.faults:
        raise reading.failure()
    result: dict[str, Any] = found
    return result


def malformed(message: str) -> HostlerError:
    """What is no request at all."""
    details = {"aws": "SerializationException"}
    return HostlerError(Code.INVALID_ARGUMENT, message, details=details)


class _Reading:
    """One request; `faults`: what is wrong with it."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.count = 0

    def failure(self) -> HostlerError:
        noun = "error" if self.count == 1 else "errors"
        text = f"{self.count} validation {noun} detected: " + "; ".join(self.faults)
        return HostlerError(Code.INVALID_ARGUMENT, text)

    def node(self, node: Node, value: Any, path: str) -> Any:
        match node:
            case Text():
                return self._text(node, value, path)
            case Structure():
                return self._structure(node, value, path)
            case ListOf():
                return self._list(node, value, path)
            case MapOf():
                return self._map(node, value, path)
            case Number():
                return self._number(node, value, path)
            case Flag():
                return self._typed(value, bool, "Boolean", path)
            case Moment():
                return self._moment(value, path)
            case Blob():
                return self._blob(node, value, path)

    def _structure(self, node: Structure, value: Any, path: str) -> dict[str, Any]:
        sent = self._typed(value, dict, "structure", path)
        found = {}
        for name, member in node.members.items():
            place = f"{path}.{name[:1].lower()}{name[1:]}".lstrip(".")
            item = sent.get(node.names.get(name, name))
            if item is not None:
                found[name] = self.node(member, item, place)
            elif name in node.required:
                self._fault(None, place, "Member must not be null")
        if node.union and len(found) != 1:
            raise malformed(f"{_at(path)} must have exactly one member, but has {len(found)}")
        return found

    def _list(self, node: ListOf, value: Any, path: str) -> list[Any]:
        sent = self._typed(value, list, "list", path)
        if self._length(node, sent, path):
            return []
        places = ((f"{path}.{index}.member", item) for index, item in enumerate(sent, 1))
        return [self._present(node.member, item, place) for place, item in places]

    def _map(self, node: MapOf, value: Any, path: str) -> dict[str, Any]:
        sent = self._typed(value, dict, "map", path)
        if self._length(node, sent, path):
            return {}
        for key in sent:
            wrong = list(_text_faults(node.key, key))
            if wrong:
                self._fault(key, path, f"Map keys must satisfy constraint: [{', '.join(wrong)}]")
        return {
            key: self._present(node.value, item, f"{path}.{_shown(key)}.member")
            for key, item in sent.items()
        }

    def _present(self, node: Node, value: Any, path: str) -> Any:
        if value is None:
            self._fault(None, path, "Member must not be null")
            return None
        return self.node(node, value, path)

    def _text(self, node: Text, value: Any, path: str) -> str:
        text: str = self._typed(value, str, "String", path)
        for wrong in _text_faults(node, text):
            self._fault(text, path, wrong, secret=node.secret)
        return text

    def _number(self, node: Number, value: Any, path: str) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unfit(value, "Integer" if node.whole else "Float", path)
        number = _of_size(node, value)
        if number is None:
            kind = f"{node.bits}-bit {'Integer' if node.whole else 'Float'}"
            raise malformed(f"{value} at {_at(path)} is no {kind}")
        if node.low is not None and number < node.low:
            self._fault(number, path, f"Member must have value greater than or equal to {node.low}")
        if node.high is not None and number > node.high:
            self._fault(number, path, f"Member must have value less than or equal to {node.high}")
        return number

    def _moment(self, value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unfit(value, "Timestamp", path)
        if not _SECONDS[0] <= value <= _SECONDS[1]:
            raise malformed(f"{value} at {_at(path)} is no Timestamp between the years 1 and 9999")
        return float(value)

    def _blob(self, node: Blob, value: Any, path: str) -> bytes:
        text = self._typed(value, str, "Blob", path)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise malformed(f"{_at(path)} is not base64") from None
        self._length(node, data, path)
        return data

    def _length(self, node: ListOf | MapOf | Blob, value: Any, path: str) -> bool:
        wrong = list(_length_faults(node.low, node.high, len(value)))
        for fault in wrong:
            self._fault(value, path, fault, secret=isinstance(node, Blob))
        return bool(wrong)

    def _typed(self, value: Any, kind: type, name: str, path: str) -> Any:
        if not isinstance(value, kind):
            raise _unfit(value, name, path)
        return value

    def _fault(self, value: Any, path: str, constraint: str, *, secret: bool = False) -> None:
        self.count += 1
        if len(self.faults) < _FAULTS_MAX:
            shown = "null" if value is None else f"'{_shown(value)}'"
            subject = "Value" if secret else f"Value {shown}"
            self.faults.append(f"{subject} at '{path}' failed to satisfy constraint: {constraint}")


def _text_faults(node: Text, text: str) -> Iterator[str]:
    too = list(_length_faults(node.low, node.high, len(text)))
    yield from too
    # A text that is too long is not matched: patterns may take time that grows with its square.
    if not too and node.pattern and compiled(node.pattern).fullmatch(text) is None:
        yield f"Member must satisfy regular expression pattern: {node.pattern}"
    if node.allowed and text not in node.allowed:
        yield f"Member must satisfy enum value set: [{', '.join(node.allowed)}]"


def _length_faults(low: int | None, high: int | None, size: int) -> Iterator[str]:
    if low is not None and size < low:
        yield f"Member must have length greater than or equal to {low}"
    if high is not None and size > high:
        yield f"Member must have length less than or equal to {high}"


def _of_size(node: Number, value: float) -> int | float | None:
    """The number in its type, or None where it does not fit."""
    if not node.whole:
        largest = 3.4028234663852886e38 if node.bits == 32 else math.inf
        return float(value) if math.isfinite(value) and abs(value) <= largest else None
    if isinstance(value, float) and not value.is_integer():
        return None
    half = 1 << (node.bits - 1)
    return int(value) if -half <= value < half else None


def _unfit(value: Any, kind: str, path: str) -> HostlerError:
    names = {str: "STRING_VALUE", bool: "BOOLEAN_VALUE", dict: "START_OBJECT", list: "START_ARRAY"}
    found = names.get(type(value), "NUMBER_VALUE")
    return malformed(f"{found} can not be converted to {kind} at {_at(path)}")


def _at(path: str) -> str:
    return f"'{path}'" if path else "the request"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def write(node: Node, value: Any) -> Any:
    """A value -> JSON as the service writes it.

    Left out: members that are None, and those that the shape does not have, so that records of
    another version of the service description can be shown. Raises: TypeError for a value of
    another kind than its shape, which is a bug of ours.
    """
    match node:
        case Structure():
            pairs = ((name, member, value.get(name)) for name, member in node.members.items())
            return {
                node.names.get(name, name): write(member, item)
                for name, member, item in pairs
                if item is not None
            }
        case ListOf():
            return [write(node.member, item) for item in value]
        case MapOf():
            return {key: write(node.value, item) for key, item in value.items()}
        case Blob():
            return base64.b64encode(value).decode()
        case Moment():
            return float(value)
        case Number() if node.whole:
            return int(value)
        case Number():
            return float(value)
        case Flag():
            return bool(value)
        case Text():
            if not isinstance(value, str):
                raise TypeError(f"{value!r} is no text")
            return value
