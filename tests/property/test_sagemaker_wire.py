"""AWS's wires: what goes in comes out, and nothing that comes in breaks anything."""

from __future__ import annotations

import json
from typing import Any

import orjson
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from hostler.control.operations import SERVICES
from hostler.core import HostlerError
from hostler.protocols.sagemaker import (
    Frame,
    FrameError,
    Operation,
    decode_frames,
    encode_frame,
    load_service,
    payload_part,
    read_invocation,
)
from hostler.protocols.sagemaker.patterns import compiled
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
)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(TEXTS.filter(bool).filter(lambda t: len(t.encode()) < 256), TEXTS),
            st.binary(max_size=200),
        ),
        max_size=4,
    ),
    st.integers(1, 50),
)
def test_frames_there_and_back(frames: list[tuple[dict[str, str], bytes]], step: int) -> None:
    stream = b"".join(encode_frame(headers, payload) for headers, payload in frames)
    assert list(decode_frames(stream)) == [Frame(headers, payload) for headers, payload in frames]
    buffer, found = EventStreamBuffer(), []
    for start in range(0, len(stream), step):  # in pieces, as a socket gives them
        buffer.add_data(stream[start : start + step])
        found += [(dict(event.headers), event.payload) for event in buffer]
    assert found == frames


@given(st.binary(max_size=120), st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255))))
def test_broken_frames_raise_frame_errors(data: bytes, flips: list[tuple[int, int]]) -> None:
    stream = bytearray(payload_part(data))
    for at, change in flips:
        stream[at % len(stream)] ^= change
    try:
        frames = list(decode_frames(bytes(stream)))
    except FrameError:
        return
    assert bytes(stream) == payload_part(data)
    assert frames[0].payload == data


HEADERS = [
    b"content-type",
    b"accept",
    b"x-amzn-sagemaker-accept",
    b"x-amzn-sagemaker-custom-attributes",
    b"x-amzn-sagemaker-target-model",
    b"x-amzn-sagemaker-target-variant",
    b"x-amzn-sagemaker-inference-id",
    b"x-amzn-sagemaker-session-id",
]


@given(
    st.binary(max_size=80),
    st.dictionaries(st.sampled_from(HEADERS) | st.binary(max_size=20), st.binary(max_size=80)),
    st.booleans(),
)
def test_headers_are_read_or_refused(
    segment: bytes, headers: dict[bytes, bytes], stream: bool
) -> None:
    try:
        read = read_invocation(segment, headers, stream=stream)
    except HostlerError:
        return
    assert 1 <= len(read.endpoint) <= 63
    assert read.target_variant.encode() == headers.get(b"x-amzn-sagemaker-target-variant", b"")


def operations() -> list[Operation]:
    services = [load_service(s.name, frozenset(s.rows)) for s in SERVICES.values()]
    return [op for service in services for op in service.operations.values()]


OPERATIONS = {f"{op.service}.{op.name}": op for op in operations()}
NAMES = st.sampled_from(sorted(OPERATIONS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=20,
)


@given(NAMES, st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, body: bytes) -> None:
    try:
        OPERATIONS[name].parse(body)
    except HostlerError:
        return


@st.composite
def nearly(draw: st.DrawFn, node: Node, depth: int = 0) -> Any:
    """JSON that has the form of a shape, with something else here and there."""
    if draw(st.integers(0, 19)) == 0:
        return draw(JSON)
    match node:
        case Structure():
            names = sorted(node.members)
            chosen = set(draw(st.lists(st.sampled_from(names), max_size=4))) if names else set()
            chosen |= node.required
            return {n: draw(nearly(node.members[n], depth + 1)) for n in sorted(chosen)}
        case ListOf():
            return draw(st.lists(nearly(node.member, depth + 1), max_size=3))
        case MapOf():
            return draw(st.dictionaries(TEXTS, nearly(node.value, depth + 1), max_size=3))
        case Text():
            words = ["a", "b-1", "s3://b/k", "arn:aws:sagemaker:us-east-1:000000000000:model/m"]
            return draw(st.sampled_from([*node.allowed[:5], *words]))
        case Number():
            return draw(st.integers(-5, 4000) | st.floats(0, 100))
        case Flag():
            return draw(st.booleans())
        case Moment():
            return draw(st.integers(0, 1 << 33))
        case Blob():
            return "AAEC"


def breaches(node: Node, value: Any) -> list[str]:
    """The constraints that a value breaks; written once more, and differently."""
    match node:
        case Structure():
            missing = [n for n in node.required if n not in value]
            return missing + [f for n, v in value.items() for f in breaches(node.members[n], v)]
        case ListOf():
            return _size(node, value) + [f for v in value for f in breaches(node.member, v)]
        case MapOf():
            keys = [f for k in value for f in breaches(node.key, k)]
            return (
                _size(node, value)
                + keys
                + [f for v in value.values() for f in breaches(node.value, v)]
            )
        case Text():
            found = _size(node, value)
            if node.pattern and not compiled(node.pattern).fullmatch(value):
                found.append("pattern")
            return found + (["enum"] if node.allowed and value not in node.allowed else [])
        case Number():
            low = node.low is not None and value < node.low
            return ["bounds"] if low or (node.high is not None and value > node.high) else []
        case _:
            return []


def _size(node: Any, value: Any) -> list[str]:
    low = node.low is not None and len(value) < node.low
    return ["size"] if low or (node.high is not None and len(value) > node.high) else []


@given(st.data(), NAMES)
def test_what_is_read_is_valid_and_can_be_read_again(data: st.DataObject, name: str) -> None:
    operation = OPERATIONS[name]
    drawn = data.draw(nearly(operation.input))
    try:
        body = orjson.dumps(drawn, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a number of more than 64 bits
        body = json.dumps(drawn).encode()
    try:
        read = operation.parse(body)
    except HostlerError:
        return
    assert breaches(operation.input, read) == []
    assert operation.parse(json.dumps(read).encode()) == read
