"""Reads requests and writes answers of one signature, whatever form they have."""

from __future__ import annotations

from hostler.core import InferRequest, InferResponse, Signature, TensorSpec
from hostler.protocols.content.answers import answer_forms
from hostler.protocols.content.csv_form import CsvReader
from hostler.protocols.content.encode import Part, encode_as
from hostler.protocols.content.forms import Body, Form, invalid
from hostler.protocols.content.images import ImageReader
from hostler.protocols.content.npy import read_npy
from hostler.protocols.content.raw import read_raw
from hostler.protocols.content.rows import RowReader, Tensors

__all__ = ["Coder", "coder_for", "decode", "encode", "is_slow"]

_CODERS_MAX = 1024


class Coder:
    """Keeps what depends on the signature alone: typed decoders, made when first needed.

    Immutable to its users; of any thread. Keep it beside a live model, or call `coder_for`.
    """

    __slots__ = ("_csv", "_images", "_rows", "signature")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._rows: RowReader | None = None
        self._csv: CsvReader | None = None
        self._images: ImageReader | None = None

    def decode(self, body: Body, form: Form) -> InferRequest:
        """Read a request. `body`: uncompressed; RAW and NPY tensors are views of it.

        Shapes are those of the body; `Signature.check_inputs` holds them against the model's.
        Takes milliseconds where `is_slow` says so; may run in any thread, and beside itself.
        Raises: INVALID_ARGUMENT naming the place. V2 forms are `protocols.oip`'s. UNIMPLEMENTED for
        pictures without Pillow.
        """
        return InferRequest(self._tensors(body, form))

    def encode(self, response: InferResponse, form: Form, accept: str = "") -> tuple[Part, str]:
        """Write the answer to a request of `form`; returns body and media type.

        `accept`: the request's Accept, "" for anything. Where the best form cannot hold the
        answer (npy of two outputs) the next one that the client takes does.
        Raises: UNSUPPORTED_ENCODING as `answer_forms`; INVALID_ARGUMENT where none holds it.
        """
        forms = [choice for choice in answer_forms(form, accept) if choice not in _V2]
        if not forms:
            raise invalid("an answer in V2 is written by protocols.oip")
        return encode_as(response, forms, self.signature)

    def _tensors(self, body: Body, form: Form) -> Tensors:
        signature = self.signature
        if form in (Form.NPY, Form.RAW):
            spec = self._only_input()
            read = read_npy if form is Form.NPY else read_raw
            return {spec.name: read(body, spec, signature.batched)}
        if form is Form.IMAGE:
            return self._picture(body)
        if form is Form.CSV:
            if self._csv is None:
                self._csv = CsvReader(signature)
            return self._csv.read(body)
        if form in _V2:
            raise invalid("a request in V2 is read by protocols.oip")
        if self._rows is None:
            self._rows = RowReader(signature)
        read_rows = {
            Form.ROWS: self._rows.rows,
            Form.INSTANCES: self._rows.instances,
            Form.COLUMNS: self._rows.columns,
            Form.JSON_LINES: self._rows.lines,
        }[form]
        return read_rows(body)

    def _picture(self, body: Body) -> Tensors:
        inputs = self.signature.inputs
        if len(inputs) == 1 and inputs[0].datatype.is_bytes:
            # The model reads pictures itself.
            return {inputs[0].name: read_raw(body, inputs[0], self.signature.batched)}
        if self._images is None:
            self._images = ImageReader(self.signature)
        tensor = self._images.read(body)
        return {tensor.name: tensor}

    def _only_input(self) -> TensorSpec:
        inputs = self.signature.inputs
        if len(inputs) != 1:
            raise invalid(
                f"a body of one tensor needs a model of exactly one input; this one has "
                f"{len(inputs)}; send application/json"
            )
        return inputs[0]


_V2 = frozenset((Form.V2_JSON, Form.V2_BINARY))

_coders: dict[int, Coder] = {}


def coder_for(signature: Signature) -> Coder:
    """The coder of this very object, kept for the next request; bounded."""
    coder = _coders.get(id(signature))
    # A coder holds its signature, so that no other can have the same id while it is kept.
    if coder is None:
        if len(_coders) >= _CODERS_MAX:
            # A copy, for other threads may add to it.
            _coders.pop(next(iter(list(_coders)), 0), None)
        coder = _coders[id(signature)] = Coder(signature)
    return coder


def is_slow(form: Form) -> bool:
    """Whether to decode such a body takes so long that it must not run on an event loop."""
    return form is Form.IMAGE


def decode(body: Body, form: Form, content_type: str, signature: Signature) -> InferRequest:
    """As `Coder.decode`; `content_type` is what `form_of` was told."""
    return coder_for(signature).decode(body, form)


def encode(
    response: InferResponse, form: Form, accept: str, signature: Signature
) -> tuple[Part, str]:
    """As `Coder.encode`."""
    return coder_for(signature).encode(response, form, accept)
