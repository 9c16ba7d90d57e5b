"""The AWS wires of SageMaker: signatures, shapes, errors, event streams.

Importing it costs little: botocore comes with the first `load_service`.
"""

from hostler.protocols.sagemaker.arns import KINDS, Arns, ResourceName, parse_arn
from hostler.protocols.sagemaker.errors import (
    CONTROL,
    RUNTIME,
    SCALING,
    AwsAnswer,
    control_error,
    runtime_error,
    stream_error,
)
from hostler.protocols.sagemaker.event_stream import (
    Frame,
    FrameError,
    decode_frames,
    encode_frame,
    exception_frame,
    payload_part,
)
from hostler.protocols.sagemaker.runtime import (
    Answered,
    Invocation,
    answer_headers,
    endpoint_in,
    read_invocation,
)
from hostler.protocols.sagemaker.service import JSON_1_1, Operation, Service, load_service

__all__ = [
    "CONTROL",
    "JSON_1_1",
    "KINDS",
    "RUNTIME",
    "SCALING",
    "Answered",
    "Arns",
    "AwsAnswer",
    "Frame",
    "FrameError",
    "Invocation",
    "Operation",
    "ResourceName",
    "Service",
    "answer_headers",
    "control_error",
    "decode_frames",
    "encode_frame",
    "endpoint_in",
    "exception_frame",
    "load_service",
    "parse_arn",
    "payload_part",
    "read_invocation",
    "runtime_error",
    "stream_error",
]
