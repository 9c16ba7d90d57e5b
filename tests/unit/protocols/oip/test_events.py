"""Responses as server-sent events."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip import (
    PING,
    GenerateEvents,
    InferEvents,
    error_event,
    without_binary,
)

FP32 = DATATYPES["FP32"]
SIGNATURE = Signature((), (TensorSpec("y", FP32, (2,)),))


def response(*, final: bool = False, **parameters: Any) -> InferResponse:
    made = InferResponse([Tensor.from_numpy("y", np.array([1.5, 2]), FP32)], parameters)
    made.final = final
    return made


def document(event: bytes) -> Any:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"\n" not in event[:-2]
    return json.loads(event[len(b"data: ") :])


def events(**parameters: Any) -> InferEvents:
    return InferEvents(InferRequest({}, id="7", parameters=parameters), "m", 3, SIGNATURE)


Y = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.5, 2.0]}
SAID = {"model_name": "m", "model_version": "3", "id": "7"}


def test_an_event_of_infer_stream_is_an_inference_response() -> None:
    assert document(events().encode(response(k=1))) == SAID | {
        "parameters": {"k": 1},
        "outputs": [Y],
    }
    assert events().end() == b""


@pytest.mark.parametrize("final", [True, False])
def test_who_asks_for_it_is_told_which_response_is_the_last(final: bool) -> None:
    wanting = events(triton_enable_empty_final_response=True)
    parameters = document(wanting.encode(response(final=final, k=1)))["parameters"]
    assert parameters == {"k": 1, "triton_final_response": final}
    assert document(wanting.end()) == SAID | {
        "parameters": {"triton_final_response": True},
        "outputs": [],
    }


def test_the_empty_last_response_has_no_outputs_to_look_for() -> None:
    request = InferRequest(
        {},
        outputs=[RequestedOutput("y")],
        parameters={"triton_enable_empty_final_response": True},
    )
    assert document(InferEvents(request, "m", 3, SIGNATURE).end())["outputs"] == []


def test_the_wish_must_be_a_flag() -> None:
    with pytest.raises(HostlerError, match="true or false"):
        events(triton_enable_empty_final_response=1)


def test_an_event_of_generate_stream_is_a_flat_object() -> None:
    generating = GenerateEvents(InferRequest({}, id="7"), "m", 3)
    assert document(generating.encode(response(k=1))) == SAID | {"k": 1, "y": [1.5, 2.0]}
    assert generating.end() == b""


def test_binary_outputs_are_sent_as_json() -> None:
    request = InferRequest(
        {},
        outputs=[
            RequestedOutput("y", {"binary_data": True, "classification": 1}),
            RequestedOutput("z", {"binary_data": False}),
        ],
        parameters={"binary_data_output": True, "k": 1},
    )
    changed = without_binary(request)
    assert changed.parameters == {"k": 1}
    assert changed.outputs is not None
    assert [dict(output.parameters) for output in changed.outputs] == [
        {"classification": 1},
        {"binary_data": False},
    ]


def test_errors_and_comments() -> None:
    assert document(error_event("it\nfailed")) == {"error": "it\nfailed"}
    assert PING == b": \n\n"
