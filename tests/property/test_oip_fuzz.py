"""No bytes make a codec raise anything but our own error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import orjson
import pytest
from fakes.oip_client import BINARY, FLAT, NESTED, encode_request
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.core import DATATYPES, BytesArray, Code, HostlerError, Signature, Tensor, TensorSpec
from hostler.protocols.oip import (
    content,
    decode_request,
    parse_index,
    parse_json_size,
    parse_load,
    parse_unload,
    schema,
)

FP32, INT64, BYTES, BOOL = (DATATYPES[name] for name in ("FP32", "INT64", "BYTES", "BOOL"))
SIGNATURES = [
    Signature((), ()),
    Signature((TensorSpec("x", FP32, (2,)),), ()),
    Signature((TensorSpec("x", FP32, (-1, 2)),), (), batched=True),
    Signature((TensorSpec("x", BYTES, (1,)),), (), batched=True),
    Signature((TensorSpec("x", BOOL, (-1, -1)),), ()),
]
TENSORS = [
    Tensor("a", FP32, (1, 2), np.array([[1.5, np.nan]], np.float32)),
    Tensor("b", INT64, (3,), np.array([1, -2, 2**40])),
    Tensor("c", BYTES, (2, 1), BytesArray.from_items([b"ab", "ü".encode()])),
    Tensor("d", BOOL, (2,), np.array([True, False])),
]
MEMBERS: dict[str, Any] = {
    "id": "é7",
    "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
    "parameters": {"priority": 1, "timeout": 5, "sequence_id": 7, "k": "v", "f": 1.5},
}
BODIES = [
    encode_request(TENSORS, forms, **MEMBERS)
    for forms in ([FLAT] * 4, [NESTED] * 4, [BINARY] * 4, [BINARY, FLAT, BINARY, NESTED])
]


def refusal(body: bytes, json_size: int | None, signature: Signature) -> HostlerError | None:
    """The error of decoding, if it is ours; any other passes through."""
    try:
        decode_request(body, json_size, signature)
    except HostlerError as error:
        return error
    return None


def attempt(body: bytes, json_size: int | None) -> None:
    """Decode; whatever is wrong must be said with a client's error."""
    for signature in SIGNATURES:
        error = refusal(body, json_size, signature)
        if error is not None:
            assert error.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
            assert error.message
            orjson.dumps(error.message)
        if json_size != 0:
            return


@pytest.mark.parametrize("which", range(len(BODIES)))
def test_every_truncation_is_refused(which: int) -> None:
    body, json_size = BODIES[which]
    for size in range(len(body)):
        with pytest.raises(HostlerError):
            decode_request(body[:size], json_size, SIGNATURES[0])
    decode_request(body, json_size, SIGNATURES[0])


JSON_SIZES = st.one_of(st.none(), st.integers(-2, 600))


@settings(deadline=None)
@given(st.binary(max_size=200), JSON_SIZES)
def test_any_bytes(body: bytes, json_size: int | None) -> None:
    attempt(body, json_size)


EDITS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)
WORDS = [b"NaN", b"-Infinity", b"null", b"true", b"[", b"]", b"{}", b'"', b"1e999", b"9" * 400]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(BODIES),
    EDITS,
    st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(WORDS)), max_size=3),
    st.integers(-3, 3),
)
def test_mutations(
    message: tuple[bytes, int | None],
    edits: list[tuple[int, int, bytes]],
    words: list[tuple[int, bytes]],
    shift: int,
) -> None:
    body, json_size = message
    for position, removed, added in edits:
        start = position % (len(body) + 1)
        body = body[:start] + added + body[start + removed :]
    for position, word in words:
        start = position % (len(body) + 1)
        body = body[:start] + word + body[start:]
    attempt(body, json_size)
    if json_size is not None:
        attempt(body, json_size + shift)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["FP32", "BYTES", "BOOL", "BF16", "INT8", "x", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    """Requests of about the right form, with anything in any place."""

    def member(right: Any) -> Any:
        return draw(st.sampled_from([right] * 4 + [draw(JSON_VALUES)]))

    tensor = {
        "name": member("x"),
        "shape": member(draw(st.lists(st.integers(0, 3), max_size=3))),
        "datatype": member(draw(st.sampled_from(sorted(DATATYPES)))),
        "data": member(draw(st.lists(JSON_VALUES, max_size=4))),
        "parameters": member({"binary_data_size": member(4)}),
    }
    for key in draw(st.sets(st.sampled_from(sorted(tensor)), max_size=2)):
        del tensor[key]
    output = {"name": member("y"), "parameters": member({"classification": member(1)})}
    return {
        "id": member("7"),
        "inputs": member([tensor]),
        "outputs": member([output]),
        "parameters": member({"priority": member(1), "timeout": member(1), "k": member("v")}),
    }


@settings(deadline=None, max_examples=300)
@given(documents(), st.booleans())
def test_anything_in_any_place(document: dict[str, Any], binary: bool) -> None:
    head = json.dumps(document).encode()
    attempt(head + bytes(4), len(head)) if binary else attempt(head, None)


@settings(deadline=None)
@given(documents())
def test_the_fast_and_the_loose_parser_agree(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    outcomes = []
    for extra in (b"", b',"unknown":[NaN]}'):
        variant = body[:-1] + extra if extra else body
        try:
            request = decode_request(variant, None, SIGNATURES[0])
        except HostlerError as error:
            outcomes.append(error.code)
        else:
            outcomes.append({n: (t.shape, str(t.numpy())) for n, t in request.inputs.items()})
    assert outcomes[0] == outcomes[1]


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), documents().map(lambda d: json.dumps(d).encode())))
def test_repository_bodies(body: bytes) -> None:
    for parse in (parse_index, parse_load, parse_unload):
        with contextlib.suppress(HostlerError):
            parse(body)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["config", "file:1/a", "file:", "x"]), JSON_VALUES))
def test_load_parameters(parameters: dict[str, Any]) -> None:
    with contextlib.suppress(HostlerError):
        parse_load(json.dumps({"parameters": parameters}).encode())


@settings(deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["gzip", "deflate", "identity", "br"]))
def test_content_codings(body: bytes, encoding: str) -> None:
    with contextlib.suppress(HostlerError):
        assert len(content.decompress(body, encoding, 100)) <= 100


@settings(deadline=None)
@given(
    st.binary(max_size=2000),
    st.sampled_from(["gzip", "deflate"]),
    st.integers(0, 100),
    st.binary(max_size=3),
)
def test_compressed_bodies_return_or_are_refused(
    plain: bytes, encoding: str, position: int, noise: bytes
) -> None:
    packed = content.compress([plain], encoding)
    assert content.decompress(packed, encoding, 2000) == plain
    with contextlib.suppress(HostlerError):
        content.decompress(packed[:position] + noise + packed[position:], encoding, 2000)


@given(st.text(max_size=40))
def test_headers(text: str) -> None:
    assert content.negotiate(text) in (None, "gzip", "deflate")
    with contextlib.suppress(HostlerError):
        assert 0 <= (parse_json_size(text, 100) or 0) <= 100


def test_the_loose_parser_was_met() -> None:
    """The agreement above compares two parsers only if NaN leads to the second."""
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b'{"unknown":[NaN]}')
    assert schema.parse_request(b'{"inputs":[],"unknown":[NaN]}').inputs == []
