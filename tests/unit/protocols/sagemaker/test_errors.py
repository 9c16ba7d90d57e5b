"""Errors as botocore's parsers read them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker import (
    CONTROL,
    RUNTIME,
    SCALING,
    AwsAnswer,
    control_error,
    runtime_error,
    stream_error,
)


@cache
def model(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def read(answer: AwsAnswer, protocol: str, service: str) -> tuple[int, str, Any]:
    """Status, code and the parsed whole, as a client gets them."""
    status, headers, body = answer
    sent = {
        "status_code": status,
        "headers": {name.decode(): value.decode() for name, value in headers},
        "body": body,
    }
    shape = model(service).operation_model(model(service).operation_names[0]).output_shape
    parsed = create_parser(protocol).parse(sent, shape)
    return status, parsed["Error"]["Code"], parsed


@pytest.mark.parametrize("code", Code)
def test_every_code_is_mapped(code: Code) -> None:
    error = HostlerError(code, "it failed")
    for table in (RUNTIME, CONTROL, SCALING):
        assert set(table) == set(Code)
    status, name, parsed = read(runtime_error(error), "rest-json", "sagemaker-runtime")
    assert name == (RUNTIME[code] or "413") or code is Code.RESOURCE_EXHAUSTED
    assert status >= 400
    assert "it failed" in parsed["Error"]["Message"]
    for table in (CONTROL, SCALING):
        _, name, parsed = read(control_error(error, table), "json", "sagemaker")
        assert (name, parsed["Error"]["Message"]) == (table[code], "it failed")


STATUSES = [
    ("ValidationError", 400),
    ("ModelNotReadyException", 429),
    ("ModelError", 424),
    ("InternalFailure", 500),
    ("ServiceUnavailable", 503),
    ("InternalDependencyException", 530),
]


@pytest.mark.parametrize(("name", "status"), STATUSES)
def test_statuses_are_the_services(name: str, status: int) -> None:
    error = HostlerError(Code.INTERNAL, "m", details={"aws": name})
    assert runtime_error(error)[0] == status
    shape = model("sagemaker-runtime").shape_for(name)
    assert shape.metadata["error"]["httpStatusCode"] == status


def test_errors_of_models() -> None:
    error = HostlerError(Code.MODEL_ERROR, "bad 'x'", details={"status": 415})
    answer = runtime_error(error, log_stream_arn="arn:aws:logs:r:a:log-group:g")
    status, code, _ = read(answer, "rest-json", "sagemaker-runtime")
    assert (status, code) == (424, "ModelError")
    assert json.loads(answer[2]) == {
        "Message": "Received client error (415) from primary with message \"bad 'x'\".",
        "OriginalStatusCode": 415,
        "OriginalMessage": "bad 'x'",
        "LogStreamArn": "arn:aws:logs:r:a:log-group:g",
    }


ORIGINALS = [
    (HostlerError(Code.MODEL_ERROR, "m"), 500),
    (HostlerError(Code.MODEL_ERROR, "m", details={"status": 9000}), 500),
    (HostlerError(Code.WORKER_LOST, "m"), 0),
    (HostlerError(Code.DEADLINE_EXCEEDED, "m"), 0),
    (HostlerError(Code.UNSUPPORTED_ENCODING, "m"), 415),
    (HostlerError(Code.RESOURCE_EXHAUSTED, "m"), 507),
    (HostlerError(Code.INVALID_ARGUMENT, "m", details={"aws": "ModelError"}), 400),
]


@pytest.mark.parametrize(("error", "original"), ORIGINALS)
def test_what_counts_as_the_models_own_status(error: HostlerError, original: int) -> None:
    status, _, body = runtime_error(error)
    assert (status, json.loads(body)["OriginalStatusCode"]) == (424, original)


def test_a_load_that_goes_on() -> None:
    error = HostlerError(Code.UNAVAILABLE, "m", details={"loading": True}, retry_after_s=2.4)
    status, headers, _ = runtime_error(error)
    assert status == 429
    assert (b"x-amzn-errortype", b"ModelNotReadyException") in headers
    assert (b"retry-after", b"2") in headers


def test_memory_that_may_become_free() -> None:
    error = HostlerError(Code.RESOURCE_EXHAUSTED, "m", retry_after_s=0.1)
    status, headers, _ = runtime_error(error)
    assert status == 503
    assert (b"retry-after", b"1") in headers


def test_too_large_has_no_name() -> None:
    status, headers, _ = runtime_error(HostlerError(Code.PAYLOAD_TOO_LARGE, "m"))
    assert status == 413
    assert b"x-amzn-errortype" not in dict(headers)


def test_names_given_by_others_win() -> None:
    error = HostlerError(Code.UNAUTHENTICATED, "m", details={"aws": "InvalidSignatureException"})
    assert read(runtime_error(error), "rest-json", "sagemaker-runtime")[:2] == (
        403,
        "InvalidSignatureException",
    )
    assert read(control_error(error), "json", "sagemaker")[:2] == (400, "InvalidSignatureException")


def test_messages_are_bounded_and_can_be_sent() -> None:
    error = HostlerError(Code.MODEL_ERROR, "\ud800" + "x" * 100_000)
    body = json.loads(runtime_error(error)[2])
    assert len(body["Message"]) == len(body["OriginalMessage"]) == 2048
    assert json.loads(control_error(HostlerError(Code.INTERNAL, "\ud800"))[2])["message"] == "?"


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (Code.WORKER_LOST, "ModelStreamError", "StreamBroken"),
        (Code.DEADLINE_EXCEEDED, "ModelStreamError", "ModelInvocationTimeExceeded"),
        (Code.INTERNAL, "InternalStreamFailure", None),
    ],
)
def test_a_stream_that_breaks(code: Code, kind: str, reason: str | None) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(stream_error(HostlerError(code, "why")))
    [event] = buffer
    assert event.headers[":exception-type"] == kind
    body = json.loads(event.payload)
    assert (body["Message"], body.get("ErrorCode")) == ("why", reason)
