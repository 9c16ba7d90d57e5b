"""JSON forms -> requests: rows, instances, columns, lines.

What a model of one input takes is read by a decoder made for it, which checks nesting, lengths
and types while it reads. Whatever it refuses (NaN literals, rows that name their inputs, mistakes)
is read once more, loosely, by orjson and the standard library.

Source: TF Serving api_rest.md "Specifying input tensors in row format" and "in column format".
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from hostler.core import BytesArray, Signature, Tensor, TensorSpec
from hostler.protocols.content.forms import Body, invalid
from hostler.protocols.content.limits import KEYS_MAX
from hostler.protocols.content.values import packed, parse_json, shown, tensor_of

__all__ = ["RowReader", "Tensors"]

Tensors = dict[str, Tensor]

_DIMS_TYPED_MAX: Final = 8
"""Most dimensions of which a decoder is made."""

_LEAVES: Final[dict[str, type]] = {"BYTES": str, "BOOL": bool, "FP16": float}
_LEAVES.update(FP32=float, FP64=float)

_MEMBERS: Final = ("instances", "inputs")
_SIGNATURES: Final = (None, "", "serving_default")

_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RowReader:
    """Reads the JSON forms for one signature; made once for each."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._batched = signature.batched
        self._one = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._typed = _TypedReader(self._one, signature.batched) if self._one else None

    def rows(self, body: Body) -> Tensors:
        """A bare array of rows; one row that stands alone is taken, too."""
        if self._typed is not None:
            found = self._typed.rows(body)
            if found is not None:
                return {found.name: found}
        document = parse_json(body)
        if type(document) is not list:
            raise invalid("the body must be a JSON array of rows")
        return self._of_rows(document, lone_row=True)

    def instances(self, body: Body) -> Tensors:
        """`{"instances": [row, ...]}`."""
        if self._typed is not None:
            found = self._typed.instances(body)
            if found is not None:
                return {found.name: found}
        rows = _member(body, "instances")
        if type(rows) is not list:
            raise invalid("'instances' must be an array of rows")
        return self._of_rows(rows, lone_row=False)

    def columns(self, body: Body) -> Tensors:
        """`{"inputs": tensor}`, or `{"inputs": {name: tensor, ...}}`."""
        if self._typed is not None:
            found = self._typed.columns(body)
            if found is not None:
                return {found.name: found}
        value = _member(body, "inputs")
        if self._names_inputs(value):
            return {
                name: tensor_of(self._named(name), self._batched, tensor, lone_row=False)
                for name, tensor in value.items()
            }
        spec = self._only_input("'inputs'")
        return {spec.name: tensor_of(spec, self._batched, value, lone_row=False)}

    def lines(self, body: Body) -> Tensors:
        """JSON Lines, a row each; the line of a model without a batch dimension is its tensor."""
        raw = bytes(body).strip()
        if self._typed is not None and self._batched:
            found = self._typed.lines(raw)
            if found is not None:
                return {found.name: found}
        rows = [
            parse_json(line, f"line {number}")
            for number, line in enumerate(raw.splitlines(), 1)
            if line and not line.isspace()
        ]
        if not rows:
            raise invalid("the body holds no line; send one JSON value on each")
        if self._batched or self._names_inputs(rows[0]):
            return self._of_rows(rows, lone_row=False)
        if len(rows) > 1:
            raise self._not_batched(len(rows))
        spec = self._only_input("a line")
        return {spec.name: tensor_of(spec, False, rows[0], lone_row=False)}

    def _of_rows(self, rows: list[Any], *, lone_row: bool) -> Tensors:
        if not rows and self._batched:
            raise invalid("there are no rows; send at least one")
        if rows and self._names_inputs(rows[0]):
            return self._of_objects(rows)
        spec = self._only_input("a row")
        return {spec.name: tensor_of(spec, self._batched, rows, lone_row=lone_row)}

    def _of_objects(self, rows: list[Any]) -> Tensors:
        names = rows[0].keys()
        if len(names) > KEYS_MAX:
            raise invalid(f"row 0 names {len(names)} inputs; at most {KEYS_MAX} are taken")
        for index, row in enumerate(rows):
            if type(row) is not dict or row.keys() != names:
                raise invalid(f"row {index} does not name the same inputs as row 0; each row must")
        if not self._batched:
            if len(rows) > 1:
                raise self._not_batched(len(rows))
            return {
                name: tensor_of(self._named(name), False, value, lone_row=False)
                for name, value in rows[0].items()
            }
        return {
            name: tensor_of(self._named(name), True, [row[name] for row in rows], lone_row=False)
            for name in names
        }

    def _names_inputs(self, value: Any) -> bool:
        """Whether it is an object of inputs, and not the one that stands for bytes."""
        if type(value) is not dict:
            return False
        return value.keys() != {"b64"} or self._signature.input("b64") is not None

    def _named(self, name: str) -> TensorSpec:
        spec = self._signature.input(name)
        if spec is None:
            raise invalid(f"there is no input {shown(name)}; the model takes {self._listed()}")
        return spec

    def _only_input(self, what: str) -> TensorSpec:
        if self._one is None:
            raise invalid(
                f"{what} must be an object that names the inputs, for the model takes "
                f"{self._listed()}"
            )
        return self._one

    def _listed(self) -> str:
        return ", ".join(f"'{spec.name}'" for spec in self._signature.inputs[:32]) or "none"

    def _not_batched(self, count: int) -> Exception:
        return invalid(
            f"{count} rows are given, but the model has no batch dimension; send one at a time"
        )


def _member(body: Body, name: str) -> Any:
    """The value of this key in the document, whose other keys must not contradict it."""
    document = parse_json(body)
    if type(document) is not dict or name not in document:
        raise invalid(f"the body must be a JSON object with the key '{name}'")
    if all(member in document for member in _MEMBERS):
        raise invalid("the body has both 'instances' and 'inputs'; send one of them")
    _check_signature_name(document.get("signature_name"))
    return document[name]


def _check_signature_name(given: object) -> None:
    if given not in _SIGNATURES:
        raise invalid(
            f"signature_name is {shown(given)}, but the model has 'serving_default' alone; leave "
            "it out"
        )


if TYPE_CHECKING:

    class _Document(msgspec.Struct):
        rows: list[Any]
        other: msgspec.Raw | UnsetType
        signature_name: object


class _TypedReader:
    """Decoders of exactly what one input takes; None from a method means: read it loosely."""

    def __init__(self, spec: TensorSpec, batched: bool) -> None:
        self._spec = spec
        self._dims = ((-1,) if batched else ()) + spec.dims
        self._types = 0 < len(self._dims) <= _DIMS_TYPED_MAX and spec.datatype.name != "BF16"
        self._rows: msgspec.json.Decoder[list[Any]] | None = None
        self._members: dict[str, msgspec.json.Decoder[_Document]] = {}

    def rows(self, body: Body) -> Tensor | None:
        if not self._types:
            return None
        if self._rows is None:
            self._rows = msgspec.json.Decoder(self._type())
        try:
            return self._tensor(self._rows.decode(body))
        except _FAULTS:
            return None

    def lines(self, raw: bytes) -> Tensor | None:
        """Lines that are arrays, as one array of them."""
        if len(self._dims) < 2:
            return None
        count = raw.count(b"\n") + 1
        if count != raw.count(b"]\n[") + 1:
            return None
        tensor = self.rows(b"[" + raw.replace(b"\n", b",") + b"]")
        # A line such as `[1],[2]` would make two rows.
        return tensor if tensor is None or tensor.shape[0] == count else None

    def instances(self, body: Body) -> Tensor | None:
        return self._member(body, "instances")

    def columns(self, body: Body) -> Tensor | None:
        return self._member(body, "inputs")

    def _member(self, body: Body, name: str) -> Tensor | None:
        if not self._types:
            return None
        decoder = self._members.get(name)
        if decoder is None:
            other = next(member for member in _MEMBERS if member != name)
            document = msgspec.defstruct(
                "Document",
                [
                    ("rows", self._type()),
                    ("other", msgspec.Raw | UnsetType, UNSET),
                    ("signature_name", object, None),
                ],
                rename={"rows": name, "other": other},
                gc=False,
            )
            self._members[name] = decoder = msgspec.json.Decoder(document)
        try:
            found = decoder.decode(body)
        except _FAULTS:
            return None
        if found.other is not UNSET or found.signature_name is not None:
            return None
        return self._tensor(found.rows)

    def _type(self) -> Any:
        kind: Any = _LEAVES.get(self._spec.datatype.name, int)
        for dim in reversed(self._dims):
            kind = list[kind]
            if dim != -1:
                kind = Annotated[kind, msgspec.Meta(min_length=dim, max_length=dim)]
        return kind

    def _tensor(self, rows: list[Any]) -> Tensor | None:
        spec, level = self._spec, rows
        shape = [len(rows)]
        for dim in self._dims[1:]:
            if dim == -1:
                lengths = set(map(len, level))
                if len(lengths) != 1:
                    return None
                shape.append(lengths.pop())
            else:
                shape.append(dim)
            level = list(chain.from_iterable(level))
        datatype, found = spec.datatype, tuple(shape)
        if datatype.is_bytes:
            items = BytesArray.from_items([text.encode() for text in level])
            return Tensor(spec.name, datatype, found, items)
        try:
            data = bytes(level) if datatype.name == "BOOL" else packed(datatype, level)
        except (struct.error, OverflowError):
            return None
        return Tensor(spec.name, datatype, found, np.ndarray(found, datatype.numpy, data))
