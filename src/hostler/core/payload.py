"""Opaque requests: bytes in, bytes out, for packages that bring their own request handlers.

Such a model (`ModelSpec.opaque`) has one input and one output, both called `body`, UINT8 of shape
[-1] and without a batch dimension; everything else travels in parameters, as text. So a payload
takes the road of every other request, shared memory and streams included.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hostler.core.context import Context
from hostler.core.request import InferRequest, InferResponse, Parameters
from hostler.core.signature import Signature, TensorSpec
from hostler.core.tensor import Tensor, datatype_named

__all__ = [
    "ACCEPT",
    "ASKS",
    "BODY",
    "CONTENT_TYPE",
    "CUSTOM_ATTRIBUTES",
    "OPAQUE_SIGNATURE",
    "payload_body",
    "payload_request",
]

BODY: Final = "body"
CONTENT_TYPE: Final = "content_type"
"""Parameter of requests and responses: the media type of the body."""
ACCEPT: Final = "accept"
"""Parameter of requests: the media type that is wanted, "" for any."""
CUSTOM_ATTRIBUTES: Final = "custom_attributes"
"""Parameter of requests and responses: X-Amzn-SageMaker-Custom-Attributes, passed through."""
ASKS: Final = "asks"
"""Option of a spec: the hosted model that its code asks for every request, to be loaded with it."""

_UINT8: Final = datatype_named("UINT8")

OPAQUE_SIGNATURE: Final = Signature(
    (TensorSpec(BODY, _UINT8, (-1,)),), (TensorSpec(BODY, _UINT8, (-1,)),)
)


def payload_request(
    body: bytes | bytearray | memoryview, parameters: Parameters, context: Context
) -> InferRequest:
    """A request for an opaque model; `body` is viewed, not copied, and must not change."""
    array = np.frombuffer(body, np.uint8)
    tensor = Tensor(BODY, _UINT8, array.shape, array)
    return InferRequest({BODY: tensor}, parameters=parameters, context=context)


def payload_body(response: InferResponse) -> memoryview:
    """The body of an opaque model's answer, valid as long as the response's tensors are."""
    data = response.outputs[0].data if response.outputs else b""
    return memoryview(data).cast("B")  # type: ignore[arg-type]
