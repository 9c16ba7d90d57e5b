"""Headers of invocations."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker import (
    Answered,
    Invocation,
    answer_headers,
    endpoint_in,
    read_invocation,
)

ALL = {
    b"host": b"localhost",
    b"content-type": b"text/csv; header=present",
    b"accept": b"application/json",
    b"x-amzn-sagemaker-accept": b"application/jsonlines",
    b"x-amzn-sagemaker-custom-attributes": b"a=1, b=2",
    b"x-amzn-sagemaker-target-model": b"a/b.tar.gz",
    b"x-amzn-sagemaker-target-variant": b"blue",
    b"x-amzn-sagemaker-target-container-hostname": b"second",
    b"x-amzn-sagemaker-inference-id": b"id 1",
    b"x-amzn-sagemaker-session-id": b"NEW_SESSION",
    b"x-amzn-sagemaker-inference-component": b"part",
    b"x-amzn-sagemaker-enable-explanations": b"`true`",
    b"x-amzn-sagemaker-something-new": b"?",
}


def test_a_plain_request() -> None:
    assert read_invocation(b"my-endpoint", {}) == Invocation(endpoint="my-endpoint")


def test_every_header() -> None:
    read = read_invocation(b"e", ALL)
    assert read == Invocation(
        endpoint="e",
        content_type="text/csv; header=present",
        accept="application/json",
        custom_attributes="a=1, b=2",
        target_model="a/b.tar.gz",
        target_variant="blue",
        target_container="second",
        inference_id="id 1",
        session_id="NEW_SESSION",
        inference_component="part",
        enable_explanations="`true`",
    )
    assert read_invocation(b"e", ALL, stream=True).accept == "application/jsonlines"


def test_names_are_unquoted() -> None:
    assert endpoint_in(b"my%2Dendpoint") == "my-endpoint"


@pytest.mark.parametrize(
    "segment",
    [
        b"",
        b"-a",
        b"a-",
        b"a" * 64,
        b"a b",
        b"a%20b",
        b"a%2Fb",
        b"%",
        b"\xff",
        b"%ff",
        b"a%0a",
        b"a_b",
    ],
)
def test_names_that_cannot_be(segment: bytes) -> None:
    with pytest.raises(HostlerError) as raised:
        endpoint_in(segment)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert "at 'endpointName' failed to satisfy constraint" in raised.value.message


BAD = [
    (b"content-type", b"a" * 1025, "contentType"),
    (b"accept", b"caf\xe9", "accept"),
    (b"x-amzn-sagemaker-custom-attributes", b"x" * 1025, "customAttributes"),
    (b"x-amzn-sagemaker-custom-attributes", b"a\x00b", "customAttributes"),
    (b"x-amzn-sagemaker-target-model", b"", "targetModel"),
    (b"x-amzn-sagemaker-target-model", b"a" * 1025, "targetModel"),
    (b"x-amzn-sagemaker-target-model", b"a\xff", "targetModel"),
    (b"x-amzn-sagemaker-target-variant", b"a_b", "targetVariant"),
    (b"x-amzn-sagemaker-target-variant", b"a" * 64, "targetVariant"),
    (b"x-amzn-sagemaker-target-container-hostname", b"-", "targetContainerHostname"),
    (b"x-amzn-sagemaker-inference-id", b"", "inferenceId"),
    (b"x-amzn-sagemaker-inference-id", b"i" * 65, "inferenceId"),
    (b"x-amzn-sagemaker-session-id", b"a b", "sessionId"),
    (b"x-amzn-sagemaker-session-id", b"a" * 257, "sessionId"),
    (b"x-amzn-sagemaker-inference-component", b"a_", "inferenceComponentName"),
    (b"x-amzn-sagemaker-enable-explanations", b"e" * 65, "enableExplanations"),
]


@pytest.mark.parametrize(("name", "value", "member"), BAD)
def test_headers_that_cannot_be(name: bytes, value: bytes, member: str) -> None:
    with pytest.raises(HostlerError) as raised:
        read_invocation(b"e", {name: value})
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert f" at '{member}' failed to satisfy constraint: Member must" in raised.value.message
    assert len(raised.value.message) < 1000


def test_custom_attributes_are_not_shown() -> None:
    with pytest.raises(HostlerError) as raised:
        read_invocation(b"e", {b"x-amzn-sagemaker-custom-attributes": b"my-token\xff"})
    assert "my-token" not in raised.value.message


def test_headers_of_answers() -> None:
    answered = Answered(content_type="application/json", variant="blue")
    assert answer_headers(answered) == [
        (b"content-type", b"application/json"),
        (b"x-amzn-invoked-production-variant", b"blue"),
    ]
    full = Answered(
        content_type="text/plain",
        variant="v",
        custom_attributes="a=1",
        new_session_id="s; Expires=2024-01-01T00:00:00Z",
        closed_session_id="t",
    )
    assert answer_headers(full, stream=True) == [
        (b"content-type", b"application/vnd.amazon.eventstream"),
        (b"x-amzn-sagemaker-content-type", b"text/plain"),
        (b"x-amzn-invoked-production-variant", b"v"),
        (b"x-amzn-sagemaker-custom-attributes", b"a=1"),
        (b"x-amzn-sagemaker-new-session-id", b"s; Expires=2024-01-01T00:00:00Z"),
        (b"x-amzn-sagemaker-closed-session-id", b"t"),
    ]


def test_a_model_cannot_break_a_header() -> None:
    answered = Answered(
        content_type="a\r\nset-cookie: b", variant="v", custom_attributes="é" * 2000
    )
    lines = dict(answer_headers(answered))
    assert lines[b"content-type"] == b"a??set-cookie: b"
    assert lines[b"x-amzn-sagemaker-custom-attributes"] == b"?" * 1024
