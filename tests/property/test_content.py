"""Bodies of common media types: what is written is what is read, and no bytes break a reader."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.content import Coder, Form, answer_form, form_of, json_header_size

TEXT_TYPES = sorted(set(DATATYPES) - {"BF16"})
JSON_FORMS = [Form.INSTANCES, Form.COLUMNS, Form.ROWS, Form.JSON_LINES]
FORMS = [form for form in Form if form not in (Form.V2_JSON, Form.V2_BINARY)]


@st.composite
def tensors(draw: Any, name: str, rows: int | None, dims_min: int = 0) -> Tensor:
    """A tensor with a form as text; `rows`: of a batched model."""
    datatype = DATATYPES[draw(st.sampled_from(TEXT_TYPES))]
    dims = tuple(draw(st.lists(st.integers(dims_min, 3), max_size=3)))
    return draw(_of(name, datatype, dims if rows is None else (rows, *dims)))


@st.composite
def _of(draw: Any, name: str, datatype: Any, shape: tuple[int, ...]) -> Tensor:
    if datatype.is_bytes:
        count = math.prod(shape)
        items = draw(
            st.one_of(
                st.lists(st.text(max_size=6).map(str.encode), min_size=count, max_size=count),
                st.lists(st.binary(max_size=6), min_size=count, max_size=count),
            )
        )
        return Tensor(name, datatype, shape, BytesArray.from_items(items))
    return Tensor(name, datatype, shape, draw(arrays.arrays(datatype.numpy, shape)))


def signature_of(tensors: list[Tensor], *, batched: bool, free: bool = False) -> Signature:
    """A model that takes and gives just these; `free`: of any sizes."""
    specs = []
    for tensor in tensors:
        dims = tensor.shape[1:] if batched else tensor.shape
        specs.append(TensorSpec(tensor.name, tensor.datatype, (-1,) * len(dims) if free else dims))
    return Signature(tuple(specs), tuple(specs), batched=batched)


def as_request(body: Any, form: Form) -> bytes:
    """An answer's body as the request that has the same tensors."""
    names = {Form.INSTANCES: (b"predictions", b"instances"), Form.COLUMNS: (b"outputs", b"inputs")}
    answer, request = names.get(form, (b"", b""))
    return bytes(body).replace(b'{"' + answer, b'{"' + request, 1) if answer else bytes(body)


def same(got: Tensor, sent: Tensor) -> None:
    assert got.name == sent.name
    assert got.datatype is sent.datatype
    assert got.shape == sent.shape
    if isinstance(sent.data, BytesArray):
        assert isinstance(got.data, BytesArray)
        assert got.data.items() == sent.data.items()
    else:
        assert got.numpy().dtype == sent.numpy().dtype
        np.testing.assert_array_equal(got.numpy(), sent.numpy())
        assert not got.numpy().flags.writeable


def check_roundtrip(sent: list[Tensor], form: Form, *, batched: bool, free: bool) -> None:
    signature = signature_of(sent, batched=batched, free=free)
    body, content_type = Coder(signature).encode(InferResponse(sent), form)
    request = as_request(body, form)
    if form is not Form.RAW:
        assert form_of(content_type, request) is form
    got = Coder(signature).decode(request, form).inputs
    assert list(got) == [tensor.name for tensor in sent]
    for tensor in sent:
        same(got[tensor.name], tensor)


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(JSON_FORMS), st.booleans(), st.booleans())
def test_json_forms_of_one_tensor(data: Any, form: Form, batched: bool, free: bool) -> None:
    dims_min = 1 if free else 0
    rows = data.draw(st.integers(1, 3)) if batched else None
    tensor = data.draw(tensors("x", rows, dims_min))
    if not batched and form in (Form.ROWS, Form.INSTANCES) and not tensor.shape:
        return  # a bare value is no array
    if form is Form.COLUMNS and tensor.shape[:1] == (0,):
        return  # `{"inputs": []}` is a V2 request without inputs
    check_roundtrip([tensor], form, batched=batched, free=free)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(JSON_FORMS), st.booleans())
def test_json_forms_of_several_tensors(data: Any, form: Form, batched: bool) -> None:
    rows = data.draw(st.integers(1, 3)) if batched else None
    names = data.draw(st.lists(st.text(max_size=4), min_size=2, max_size=3, unique=True))
    check_roundtrip(
        [data.draw(tensors(name, rows)) for name in names], form, batched=batched, free=False
    )


@settings(deadline=None, max_examples=300)
@given(st.data(), st.booleans(), st.integers(1, 3))
def test_csv(data: Any, batched: bool, count: int) -> None:
    rows = data.draw(st.integers(1, 3)) if batched else None
    sent = [data.draw(tensors(f"x{index}", rows, dims_min=1)) for index in range(count)]
    check_roundtrip(sent, Form.CSV, batched=batched, free=False)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.booleans(), st.sampled_from(sorted(DATATYPES)), st.booleans())
def test_npy_and_raw(data: Any, batched: bool, datatype: str, raw: bool) -> None:
    dims = tuple(data.draw(st.lists(st.integers(1, 3), max_size=3)))
    shape = (data.draw(st.integers(1, 3)), *dims) if batched else dims
    if DATATYPES[datatype].is_bytes and raw:
        shape = (1,) * len(shape)
    tensor = data.draw(_of("x", DATATYPES[datatype], shape))
    if isinstance(tensor.data, BytesArray) and not raw:
        kept = [item.rstrip(b"\0") for item in tensor.data.items()]
        tensor = Tensor("x", tensor.datatype, shape, BytesArray.from_items(kept))
    check_roundtrip([tensor], Form.RAW if raw else Form.NPY, batched=batched, free=False)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(set(DATATYPES) - {"BF16", "BYTES"})))
def test_npy_is_what_numpy_reads_and_writes(data: Any, datatype: str) -> None:
    kind = DATATYPES[datatype]
    shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=3)))
    tensor = data.draw(_of("x", kind, shape))
    signature = signature_of([tensor], batched=False)
    body, _ = Coder(signature).encode(InferResponse([tensor]), Form.NPY)
    loaded = np.load(io.BytesIO(bytes(body)), allow_pickle=False)
    np.testing.assert_array_equal(loaded, tensor.numpy())
    assert loaded.dtype == kind.numpy
    file = io.BytesIO()
    order = data.draw(st.sampled_from("CF"))
    np.save(file, np.asarray(tensor.numpy().astype(kind.numpy.newbyteorder(">")), order=order))
    same(Coder(signature).decode(file.getvalue(), Form.NPY).inputs["x"], tensor)


SIGNATURES = [
    Signature((TensorSpec("x", DATATYPES[name], dims),), (), batched=batched)
    for name in ("FP32", "INT8", "UINT64", "BOOL", "BYTES", "BF16", "FP16")
    for dims in ((), (1,), (2,), (-1,), (-1, 2), (-1, -1))
    for batched in (True, False)
] + [
    Signature((), ()),
    Signature(
        (TensorSpec("a", DATATYPES["FP32"], (1,)), TensorSpec("b", DATATYPES["BYTES"], (1,))),
        (),
        batched=True,
    ),
]
CODERS = [Coder(signature) for signature in SIGNATURES]
BODIES = [
    b'{"instances": [[1.5, NaN], [3, -4e2]], "signature_name": "serving_default"}',
    b'{"inputs": {"a": [[1]], "b": [{"b64": "aGk="}]}}',
    b'{"inputs": [[1, true], ["a", null]]}',
    b'[{"a": 1, "b": "x\\u00fc"}, {"a": [2], "b": ["y"]}]',
    b"[[1, 2], [3, 4]]",
    b'1,2\n3,4\r\n"5",""\n\n',
    b'"a ""q""",b\n1e400,nan\n',
    b'[1,2]\n{"a": 3}\n\n[]\n',
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
    + b" " * 60
    + b"\n"
    + b"\0" * 8,
    b"\x93NUMPY\x02\x00v\x00\x00\x00{'descr': '<U2', 'fortran_order': True, 'shape': (9L,) }",
]


def code_of(call: Callable[[], object]) -> Code | None:
    """The code of an error, if it is ours and can be sent; any other passes through."""
    try:
        call()
    except HostlerError as error:
        error.message.encode()
        return error.code
    return None


def attempt(body: bytes) -> None:
    """Whatever is wrong must be said with a client's error."""

    def read(coder: Coder, form: Form) -> None:
        for tensor in coder.decode(body, form).inputs.values():
            assert tensor.numpy().shape == tensor.shape

    for coder in CODERS:
        for form in FORMS:
            assert code_of(partial(read, coder, form)) in (None, Code.INVALID_ARGUMENT)


@pytest.mark.parametrize("body", BODIES)
def test_truncated_bodies_are_read_or_refused(body: bytes) -> None:
    for size in range(0, len(body) + 1, 3):
        attempt(body[:size])


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(BODIES))
def test_changed_bodies_are_read_or_refused(data: Any, body: bytes) -> None:
    place = data.draw(st.integers(0, len(body)))
    junk = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"[" * 40, b"9" * 30])))
    attempt(body[:place] + junk + body[place + data.draw(st.integers(0, 3)) :])


TYPES = ["application/json", "text/csv", "application/octet-stream", "", "a/b", "x/y+json;q"]


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=40), st.sampled_from(BODIES)), st.sampled_from(TYPES))
@example(b'{"inputs"', "application/json")
@example(b'{"a":{"inputs":[{}', "")
@example(b"[" * 100_000, "application/json")
@example(b'{"a":' * 100_000, "application/json")
def test_any_body_has_a_form_or_is_refused(body: bytes, content_type: str) -> None:
    code = code_of(lambda: form_of(content_type, body))
    assert code in (None, Code.INVALID_ARGUMENT, Code.UNSUPPORTED_ENCODING)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_header_is_understood_or_refused(content_type: str, accept: str) -> None:
    code = code_of(lambda: form_of(content_type, b"{}"))
    assert code in (None, Code.INVALID_ARGUMENT, Code.UNSUPPORTED_ENCODING)
    code = code_of(lambda: answer_form(Form.ROWS, accept))
    assert code in (None, Code.UNSUPPORTED_ENCODING)
    code = code_of(lambda: json_header_size(content_type, 10))
    assert code in (None, Code.INVALID_ARGUMENT)


DEEP = [b"[" * 50_000 + b"]" * 50_000, b'{"instances":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]


@pytest.mark.parametrize("body", [*DEEP, *(deep.replace(b"]", b"NaN]", 1) for deep in DEEP)])
def test_deep_nesting_is_refused(body: bytes) -> None:
    attempt(body)


PICTURE_TYPES = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]


def picture_model(datatype: str, dims: tuple[int, ...]) -> Coder:
    return Coder(Signature((TensorSpec("x", DATATYPES[datatype], dims),), (), batched=True))


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(5, 9), st.integers(5, 9), st.just(3))))
def test_a_picture_without_loss_is_its_pixels(pixels: Any) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rows = picture_model("UINT8", (-1, -1, 3)).decode(file.getvalue(), Form.IMAGE).inputs["x"]
    np.testing.assert_array_equal(rows.numpy(), pixels[np.newaxis])
    planes = picture_model("FP32", (3, -1, -1)).decode(file.getvalue(), Form.IMAGE).inputs["x"]
    expected = pixels.transpose(2, 0, 1)[np.newaxis] / 255
    np.testing.assert_allclose(planes.numpy(), expected, rtol=1e-6)


def picture(kind: str) -> bytes:
    """Small, and lying on its side where the kind can say so."""
    gradient = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(gradient).save(file, kind, exif=exif)
    return file.getvalue()


PICTURES = {kind: picture(kind) for kind in PICTURE_TYPES}
PICTURE_CODERS = [picture_model("FP32", (3, 8, 8)), picture_model("UINT8", (-1, -1, 1))]


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(PICTURE_TYPES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.integers(0, 2000),
    st.sampled_from(PICTURE_CODERS),
)
def test_broken_pictures_break_nothing(
    kind: str, changes: list[tuple[int, int]], end: int, coder: Coder
) -> None:
    body = bytearray(PICTURES[kind])
    for place, value in changes:
        body[place % len(body)] = value
    try:
        tensor = coder.decode(body[: end or None], Form.IMAGE).inputs["x"]
    except HostlerError as error:
        if error.code is not Code.INVALID_ARGUMENT:
            raise
    else:
        assert tensor.shape[0] == 1
