"""AWS services as botocore describes them: matching, checking and answering JSON 1.1 requests.

The only importer of botocore, and that at the first call: the import and a description take a
tenth of a second. What is kept are the shapes of the operations that are served, in our own
structures, not botocore's model.

Where our patterns are wider than AWS's: URLs of model data and of transform jobs may be of any
store that the server knows, those of destinations `file:///` as well. Which of them are taken,
others decide.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.shapes import (
    Blob,
    Flag,
    ListOf,
    MapOf,
    Moment,
    Node,
    Number,
    Structure,
    Text,
    malformed,
    read,
    write,
)

if TYPE_CHECKING:
    from botocore.model import OperationModel, Shape

__all__ = ["JSON_1_1", "Operation", "Service", "load_service"]

JSON_1_1: Final = b"application/x-amz-json-1.1"
BODY_BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 32
"""Of objects and lists in a request; the deepest that is served has 10."""

_LOCAL: Final = r"|file:///.+"
_STORED: Final = r"(https?|s3|gs|az)://([^/]+)/?(.*)|file:.*"
_WIDER: Final[Mapping[str, str]] = {
    "Url": _STORED,
    "S3ModelUri": _STORED,
    "S3Uri": _STORED,
    "DestinationS3Uri": r"(https|s3)://([^/])/?(.*)" + _LOCAL,
}
"""Patterns in place of AWS's, by the name of their shape."""

_INTEGER_BITS: Final = {"integer": 32, "long": 64, "byte": 8, "short": 16, "bigInteger": 64}
_FLOAT_BITS: Final = {"float": 32, "double": 64, "bigDecimal": 64}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a service. `service`: its name in botocore. `output`: None for no body."""

    service: str
    name: str
    input: Structure
    output: Structure | None

    def parse(self, body: bytes, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Any]:
        """The request's values, complete and valid: see `shapes.read`.

        Raises: INVALID_ARGUMENT; PAYLOAD_TOO_LARGE for a body of more than `bytes_max`.
        """
        if len(body) > bytes_max:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"the request has {len(body)} bytes; at most {bytes_max} (control.body_bytes_max)",
            )
        try:
            sent = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError as error:
            raise malformed(f"the request is no JSON: {error}") from None
        _check_depth(sent)
        return read(self.input, sent)

    def render(self, value: Mapping[str, Any]) -> bytes:
        """The body of an answer; empty where the operation has none."""
        return b"" if self.output is None else orjson.dumps(write(self.output, value))


@dataclass(frozen=True, slots=True)
class Service:
    """The operations of one service that are served.

    `target`: what X-Amz-Target has before the operation's name. `known`: all that AWS has.
    """

    name: str
    target: str
    operations: Mapping[str, Operation]
    known: frozenset[str]

    def find(self, name: str) -> Operation:
        """An operation. Raises: UNIMPLEMENTED, as UnknownOperationException."""
        found = self.operations.get(name)
        if found is not None:
            return found
        why = "hostler does not serve it" if name in self.known else "there is no such operation"
        raise HostlerError(Code.UNIMPLEMENTED, f"{self.target}.{name[:128]}: {why}")


@functools.lru_cache(maxsize=8)  # a handful of services
def load_service(name: str, operations: frozenset[str]) -> Service:
    """A service by its name in botocore; `operations`: those to serve. Blocking.

    Raises: ValueError for an operation that the service does not have, or of which a shape or a
    pattern cannot be served.
    """
    # Here, not above: most servers never get a call of these services.
    from botocore.loaders import Loader  # noqa: PLC0415
    from botocore.model import ServiceModel  # noqa: PLC0415

    loader = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    model = ServiceModel(loader.load_service_model(name, "service-2"), name)
    known = frozenset(model.operation_names)
    if missing := sorted(operations - known):
        raise ValueError(f"{name} has no {', '.join(missing)}")
    reading = _Description()
    served = {op: _operation(name, model.operation_model(op), reading) for op in sorted(operations)}
    return Service(name, model.metadata["targetPrefix"], served, known)


def _operation(service: str, model: OperationModel, reading: _Description) -> Operation:
    empty = Structure("Empty")
    sent = empty if model.input_shape is None else reading.structure(model.input_shape)
    answer = None if model.output_shape is None else reading.structure(model.output_shape)
    return Operation(service, model.name, sent, answer)


class _Description:
    """Turns botocore's shapes into ours; each structure once, as one may contain itself."""

    def __init__(self) -> None:
        self._structures: dict[str, Structure] = {}

    def structure(self, shape: Shape) -> Structure:
        found = self._structures.get(shape.name)
        if found is not None:
            return found
        names = {
            name: member.serialization["name"]
            for name, member in shape.members.items()
            if "name" in member.serialization
        }
        required = frozenset(shape.required_members)
        made = Structure(shape.name, {}, required, names, shape.is_tagged_union)
        self._structures[shape.name] = made
        for name, member in shape.members.items():
            made.members[name] = self.node(member)
        return made

    def node(self, shape: Shape) -> Node:
        metadata = shape.metadata
        low, high = metadata.get("min"), metadata.get("max")
        match shape.type_name:
            case "structure" if not shape.is_document_type:
                return self.structure(shape)
            case "list":
                return ListOf(self.node(shape.member), low, high)
            case "map":
                return MapOf(_text(shape.key), self.node(shape.value), low, high)
            case "string" | "character":
                return _text(shape)
            case "boolean":
                return Flag()
            case "timestamp":
                return Moment()
            case "blob":
                return Blob(low, high)
            case kind if kind in _INTEGER_BITS:
                return Number(True, _INTEGER_BITS[kind], low, high)
            case kind if kind in _FLOAT_BITS:
                return Number(False, _FLOAT_BITS[kind], low, high)
            case kind:
                raise ValueError(f"shape {shape.name} is a {kind}, which is not served")


def _text(shape: Shape) -> Text:
    metadata = shape.metadata
    return Text(
        metadata.get("min"),
        metadata.get("max"),
        _WIDER.get(shape.name, metadata.get("pattern", "")),
        tuple(metadata.get("enum", ())),
        bool(metadata.get("sensitive", False)),
    )


def _check_depth(value: object) -> None:
    """Refuse what nests deeper than any request does; orjson itself stops at 1,024."""
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise malformed(f"the request nests deeper than {DEPTH_MAX} levels")
