"""Errors on the AWS wires: canonical codes -> names, statuses and bodies that clients parse. Pure.

    runtime (rest-json)    status, `x-amzn-ErrorType: <name>`, {"Message": ...}
    control (JSON 1.1)     400 for most, {"__type": "<name>", "message": ...}

`HostlerError.details` may say more than the code does: `aws`, the name itself; `loading`, true
while a model is being loaded that will answer later; for what a model answers, `status` and
`message`, its own. Clients repeat a call after 429 and 5xx (botocore, data/_retry.json), so these
are kept for failures that a repeat may mend, and a crash of a model is 424.

Sources: botocore's service descriptions of sagemaker-runtime, sagemaker and
application-autoscaling; SageMaker API Reference, "Common Errors".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.event_stream import exception_frame

__all__ = [
    "CONTROL",
    "RUNTIME",
    "SCALING",
    "AwsAnswer",
    "control_error",
    "runtime_error",
    "stream_error",
]

AwsAnswer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""

_MESSAGE_MAX: Final = 2048  # Message and OriginalMessage of the runtime's errors

RUNTIME: Final[Mapping[Code, str]] = {
    Code.INVALID_ARGUMENT: "ValidationError",
    Code.NOT_FOUND: "ValidationError",
    Code.ALREADY_EXISTS: "ValidationError",
    Code.UNIMPLEMENTED: "ValidationError",
    # 413 without a name, as AWS answers: boto3 shows "An error occurred (413)".
    Code.PAYLOAD_TOO_LARGE: "",
    # What a container says to a Content-Type that it does not take.
    Code.UNSUPPORTED_ENCODING: "ModelError",
    Code.METHOD_NOT_ALLOWED: "UnknownOperationException",
    Code.UNAUTHENTICATED: "MissingAuthenticationTokenException",
    Code.PERMISSION_DENIED: "AccessDeniedException",
    Code.THROTTLED: "ThrottlingException",
    Code.THROTTLED: "ThrottlingException",
    Code.CANCELLED: "ServiceUnavailable",  # nobody is there to read it
    Code.QUEUE_FULL: "ThrottlingException",
    Code.DEADLINE_EXCEEDED: "ModelError",
    Code.UNAVAILABLE: "ServiceUnavailable",
    Code.RESOURCE_EXHAUSTED: "ServiceUnavailable",
    Code.MODEL_ERROR: "ModelError",
    Code.WORKER_LOST: "ModelError",
    Code.INTERNAL: "InternalFailure",
}
"""Of the runtime API; one row for each `Code`."""

_RUNTIME_STATUS: Final[Mapping[str, int]] = {
    "": 413,
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InternalDependencyException": 530,
    "InternalFailure": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "ModelError": 424,
    "ModelNotReadyException": 429,
    "NotAuthorized": 403,
    "RequestExpired": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "ThrottlingException": 400,  # as in "Common Errors"; botocore repeats by the name
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationError": 400,
}

CONTROL: Final[Mapping[Code, str]] = {
    Code.INVALID_ARGUMENT: "ValidationException",
    Code.NOT_FOUND: "ValidationException",  # waiters of endpoints depend on it
    Code.ALREADY_EXISTS: "ValidationException",
    Code.UNIMPLEMENTED: "UnknownOperationException",
    Code.PAYLOAD_TOO_LARGE: "RequestEntityTooLargeException",
    Code.UNSUPPORTED_ENCODING: "SerializationException",
    Code.METHOD_NOT_ALLOWED: "UnknownOperationException",
    Code.UNAUTHENTICATED: "MissingAuthenticationTokenException",
    Code.PERMISSION_DENIED: "AccessDeniedException",
    Code.THROTTLED: "ThrottlingException",
    Code.THROTTLED: "ThrottlingException",
    Code.CANCELLED: "ServiceUnavailable",
    Code.QUEUE_FULL: "ThrottlingException",
    Code.DEADLINE_EXCEEDED: "ServiceUnavailable",
    Code.UNAVAILABLE: "ServiceUnavailable",
    Code.RESOURCE_EXHAUSTED: "ResourceLimitExceeded",
    Code.MODEL_ERROR: "InternalFailure",
    Code.WORKER_LOST: "InternalFailure",
    Code.INTERNAL: "InternalFailure",
}
"""Of SageMaker's control plane; one row for each `Code`."""

SCALING: Final[Mapping[Code, str]] = {
    **CONTROL,
    Code.NOT_FOUND: "ObjectNotFoundException",
    Code.RESOURCE_EXHAUSTED: "LimitExceededException",
    Code.MODEL_ERROR: "InternalServiceException",
    Code.WORKER_LOST: "InternalServiceException",
    Code.INTERNAL: "InternalServiceException",
}
"""Of Application Auto Scaling."""

_CONTROL_STATUS: Final[Mapping[str, int]] = {
    "InternalFailure": 500,
    "InternalServiceException": 500,
    "RequestEntityTooLargeException": 413,
    "ServiceUnavailable": 503,
}
"""All others are 400."""

_ORIGINAL_STATUS: Final[Mapping[Code, int]] = {
    Code.DEADLINE_EXCEEDED: 0,  # the model has said nothing
    Code.INVALID_ARGUMENT: 400,
    Code.RESOURCE_EXHAUSTED: 507,
    Code.UNSUPPORTED_ENCODING: 415,
    Code.WORKER_LOST: 0,
}


@dataclass(frozen=True, slots=True)
class _Failure:
    name: str
    status: int
    body: dict[str, Any]


def runtime_error(error: HostlerError, *, log_stream_arn: str = "") -> AwsAnswer:
    """The answer of InvokeEndpoint. `log_stream_arn`: for ModelError, where it is known."""
    failure = _runtime(error, log_stream_arn)
    headers = [(b"content-type", b"application/json")]
    if failure.name:
        headers.append((b"x-amzn-errortype", failure.name.encode()))
    return failure.status, headers + _retry_after(error), orjson.dumps(failure.body)


def _runtime(error: HostlerError, log_stream_arn: str) -> _Failure:
    name = _runtime_name(error)
    status = _RUNTIME_STATUS.get(name, 400)
    if name != "ModelError":
        return _Failure(name, status, {"Message": _clean(error.message)})
    original = _original_status(error)
    said = _clean(str(error.details.get("message") or error.message))
    body: dict[str, Any] = {
        "Message": _model_message(original, said),
        "OriginalStatusCode": original,
        "OriginalMessage": said,
    }
    if log_stream_arn:
        body["LogStreamArn"] = log_stream_arn
    return _Failure(name, status, body)


def _runtime_name(error: HostlerError) -> str:
    named = error.details.get("aws")
    if isinstance(named, str):
        return named
    if error.details.get("loading"):
        return "ModelNotReadyException"
    if error.code is Code.RESOURCE_EXHAUSTED and error.retry_after_s is None:
        return "ModelError"  # a repeat is of no use: as a container that answers 507
    return RUNTIME[error.code]


def _original_status(error: HostlerError) -> int:
    status = error.details.get("status")
    if isinstance(status, int) and 100 <= status <= 599:
        return status
    return _ORIGINAL_STATUS.get(error.code, 500)


def _model_message(status: int, said: str) -> str:
    side = "client" if 400 <= status < 500 else "server"
    return _clean(f'Received {side} error ({status}) from primary with message "{said}".')


def control_error(error: HostlerError, names: Mapping[Code, str] = CONTROL) -> AwsAnswer:
    """The answer of a control operation. `names`: `CONTROL` or `SCALING`."""
    named = error.details.get("aws")
    name = named if isinstance(named, str) else names[error.code]
    headers = [(b"content-type", b"application/x-amz-json-1.1")]
    body = orjson.dumps({"__type": name, "message": _plain(error.message)})
    return _CONTROL_STATUS.get(name, 400), headers + _retry_after(error), body


def stream_error(error: HostlerError) -> bytes:
    """The last event of a stream that breaks after its first part."""
    if error.code is Code.INTERNAL:
        return exception_frame("InternalStreamFailure", error.message)
    late = error.code is Code.DEADLINE_EXCEEDED
    reason = "ModelInvocationTimeExceeded" if late else "StreamBroken"
    return exception_frame("ModelStreamError", error.message, reason)


def _retry_after(error: HostlerError) -> list[tuple[bytes, bytes]]:
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", b"%d" % max(1, round(error.retry_after_s)))]


def _clean(text: str) -> str:
    return _plain(text)[:_MESSAGE_MAX]


def _plain(text: str) -> str:
    """What UTF-8 cannot carry is replaced."""
    return text.encode("utf-8", "replace").decode()
