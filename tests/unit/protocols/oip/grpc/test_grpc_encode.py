"""InferResponse -> ModelInferResponse, read back with the client's own classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip.grpc import encode_infer, parse_infer, stream_error, stream_response

FP32 = DATATYPES["FP32"]
SIGNATURE = Signature((), (TensorSpec("y", FP32, (3,), labels=("a", "b", "c")),), batched=True)
Y = Tensor("y", FP32, (1, 3), np.array([[0.1, 0.7, 0.2]], np.float32))
S = Tensor("s", DATATYPES["BYTES"], (2,), BytesArray.from_items([b"", b"\xff"]))


def encoded(response: InferResponse, request: InferRequest | None = None, **said: Any) -> Any:
    request = request or InferRequest({})
    parts = encode_infer(response, request, "m", 3, SIGNATURE, **said)
    return pb.ModelInferResponse.FromString(b"".join(parts))


def test_outputs_are_raw_in_the_model_s_order() -> None:
    message = encoded(InferResponse([Y, S]), InferRequest({}, id="7"))
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in message.outputs] == [
        ("y", "FP32", [1, 3]),
        ("s", "BYTES", [2]),
    ]
    assert list(message.raw_output_contents) == [Y.data.tobytes(), b"\0\0\0\0\1\0\0\0\xff"]
    assert not message.parameters


def test_outputs_come_as_they_are_asked_for() -> None:
    wanted = [RequestedOutput("s"), RequestedOutput("y", {"classification": 2})]
    message = encoded(InferResponse([Y, S]), InferRequest({}, outputs=wanted))
    assert [o.name for o in message.outputs] == ["s", "y"]
    assert message.outputs[1].datatype == "BYTES"
    assert b"0.700000:1:b" in message.raw_output_contents[1]


def test_an_output_that_the_model_did_not_give() -> None:
    with pytest.raises(HostlerError) as caught:
        encoded(InferResponse([Y]), InferRequest({}, outputs=[RequestedOutput("z")]))
    assert caught.value.code is Code.MODEL_ERROR


def test_an_empty_output_has_its_entry() -> None:
    empty = Tensor("y", FP32, (0, 3), np.empty((0, 3), np.float32))
    assert list(encoded(InferResponse([empty, Y])).raw_output_contents) == [b"", Y.data.tobytes()]


def test_parameters_of_every_kind() -> None:
    given = {"b": True, "i": -1, "u": 2**63, "d": 0.5, "s": "word"}
    found = encoded(InferResponse([Y], given)).parameters
    assert {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in found.items()} == given
    assert found["u"].WhichOneof("parameter_choice") == "uint64_param"


@pytest.mark.parametrize("value", ["\ud800", 2**64, [1], None])
def test_parameters_that_the_wire_cannot_carry(value: Any) -> None:
    with pytest.raises(HostlerError) as caught:
        encoded(InferResponse([Y], {"p": value}))
    assert caught.value.code is Code.MODEL_ERROR


@pytest.mark.parametrize("final", [True, False])
def test_a_stream_s_response_says_whether_it_is_the_last(final: bool) -> None:
    parts = encode_infer(
        InferResponse([Y], {"p": 1}), InferRequest({}), "m", 3, SIGNATURE, final=final
    )
    answer = pb.ModelStreamInferResponse.FromString(b"".join(stream_response(parts)))
    assert answer.error_message == ""
    response = answer.infer_response
    assert response.parameters["triton_final_response"].bool_param is final
    assert response.parameters["p"].int64_param == 1
    assert response.raw_output_contents[0] == Y.data.tobytes()


def test_an_error_in_a_stream_names_its_request() -> None:
    request = pb.ModelInferRequest(model_name="m", model_version="3", id="7")
    asked = parse_infer(request.SerializeToString())
    answer = pb.ModelStreamInferResponse.FromString(stream_error("lone \ud800", asked))
    assert answer.error_message == "lone ?"
    assert answer.infer_response.id == "7"
    assert answer.infer_response.model_name == "m"
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    nameless = pb.ModelStreamInferResponse.FromString(stream_error("what is this", None))
    assert nameless.error_message == "what is this"
