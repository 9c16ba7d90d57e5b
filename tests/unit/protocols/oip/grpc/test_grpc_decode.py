"""ModelInferRequest -> InferRequest: what is read, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.grpc_messages import CONTENTS, infer_request, put_parameters

from hostler.core import BytesArray, Code, HostlerError, InferRequest
from hostler.protocols.oip.grpc import decode_infer, parse_infer, parse_version, wants_empty_final
from hostler.protocols.oip.limits import DIM_MAX, ID_CHARS_MAX, NAME_CHARS_MAX

TWO = np.array([1.5, -2.0], np.float32).tobytes()
X = ("x", "FP32", [1, 2], TWO)


def decode(message: Any) -> InferRequest:
    return decode_infer(parse_infer(message.SerializeToString()))


def refused(message: Any) -> HostlerError:
    with pytest.raises(HostlerError) as caught:
        decode(message)
    return caught.value


def typed(datatype: str, shape: list[int], values: list[Any], field: str = "") -> Any:
    message = infer_request(("x", datatype, shape, None))
    getattr(message.inputs[0].contents, field or CONTENTS[datatype]).extend(values)
    return message


def test_names_version_and_id_are_read_before_anything_is_checked() -> None:
    message = infer_request(("", "NONE", [-1], None), model="m", model_version="3", id="7")
    asked = parse_infer(message.SerializeToString())
    assert (asked.model, asked.version, asked.id) == ("m", "3", "7")


@pytest.mark.parametrize("size", [2, 20_000], ids=["small", "taken apart by hand"])
def test_raw_contents_are_views(size: int) -> None:
    values = np.arange(size, dtype=np.float32)
    message = infer_request(
        ("x", "FP32", [1, size], values.tobytes()), ("s", "BYTES", [2], b"\1\0\0\0a\0\0\0\0")
    )
    request = decode(message)
    assert request.inputs["x"].numpy().tolist() == [values.tolist()]
    data = request.inputs["s"].data
    assert isinstance(data, BytesArray)
    assert data.items() == [b"a", b""]
    assert not request.inputs["x"].numpy().flags.writeable


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 2**16 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP32", [1.5, float("-inf")]),
        ("FP64", [0.1, 1e308]),
        ("BYTES", [b"", b"\xff\0"]),
    ],
)
def test_typed_contents_of_every_datatype(datatype: str, values: list[Any]) -> None:
    tensor = decode(typed(datatype, [2, 1], values)).inputs["x"]
    assert tensor.datatype.name == datatype
    assert tensor.shape == (2, 1)
    assert tensor.numpy().ravel().tolist() == values


def test_an_empty_tensor_needs_no_contents() -> None:
    assert decode(infer_request(("x", "FP32", [0, 4], None))).inputs["x"].shape == (0, 4)
    assert decode(infer_request(("x", "FP32", [0, 4], b""))).inputs["x"].shape == (0, 4)


def test_parameters_of_every_kind() -> None:
    message = infer_request(X, parameters={"b": True, "i": -5, "s": "word", "d": 0.25})
    message.parameters["u"].uint64_param = 2**64 - 1
    parameters = decode(message).parameters
    assert parameters == {"b": True, "i": -5, "s": "word", "d": 0.25, "u": 2**64 - 1}


def test_scheduling_parameters_make_a_context() -> None:
    context = decode(infer_request(X, parameters={"priority": 2, "timeout": 1500})).context
    assert context.priority == 2
    assert context.queue_timeout_s == 0.0015


def test_outputs_come_with_their_parameters() -> None:
    request = decode(infer_request(X, outputs={"y": {"classification": 3}, "z": {}}))
    assert request.outputs is not None
    assert [(o.name, o.parameters) for o in request.outputs] == [
        ("y", {"classification": 3}),
        ("z", {}),
    ]
    assert decode(infer_request(X)).outputs is None


def test_the_wish_for_an_empty_final_response() -> None:
    flag = "triton_enable_empty_final_response"
    assert wants_empty_final(decode(infer_request(X, parameters={flag: True})))
    assert not wants_empty_final(decode(infer_request(X)))
    assert "expected bool_param" in refused(infer_request(X, parameters={flag: 1})).message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (infer_request(("x", "FP32", [1, 2], TWO[:7])), "is 7, but FP32 of shape [1, 2] takes 8"),
        (infer_request(("x", "FP32", [1, 3], TWO)), "takes 12 bytes"),
        (infer_request(("x", "BYTES", [2], b"\1\0\0\0a")), "input 'x': BYTES data"),
        (infer_request(("x", "FP99", [1], b"")), "unknown datatype 'FP99'"),
        (infer_request(("x", "FP32", [-1], TWO)), "dimensions from 0"),
        (infer_request(("x", "FP32", [DIM_MAX + 1], TWO)), "dimensions from 0"),
        (infer_request(("x", "FP32", [0, *[DIM_MAX] * 3], b"")), "too large"),
        (infer_request(("x", "FP32", [1] * 33, TWO)), "at most 32 dimensions"),
        (infer_request(("", "FP32", [1], TWO)), "1 to 1024 characters"),
        (infer_request(("n" * (NAME_CHARS_MAX + 1), "FP32", [1], TWO)), "1 to 1024 characters"),
        (infer_request(X, X), "'x' is given more than once"),
        (infer_request(X, ("y", "FP32", [2], None)), "2 inputs in raw_input_contents"),
        (infer_request(X, raw_input_contents=[TWO]), "1 inputs in raw_input_contents"),
        (infer_request(X, id="i" * (ID_CHARS_MAX + 1)), "4096 are the most"),
        (infer_request(X, outputs={"": {}}), "name of an output"),
        (infer_request(X, outputs={"y": {"classification": 0}}), "number of classes"),
        (infer_request(X, parameters={"priority": -1}), "'priority'"),
        (infer_request(X, parameters={"timeout": "soon"}), "'timeout'"),
        (infer_request(X, parameters={"k" * (NAME_CHARS_MAX + 1): 1}), "1024 characters at most"),
        (typed("FP32", [3], [1, 2]), "has 2 values in fp32_contents"),
        (typed("FP32", [2], [1, 2], "fp64_contents"), "belong in fp32_contents"),
        (typed("INT8", [1], [128]), "element 0 of input 'x' is 128"),
        (typed("UINT16", [2], [0, 65536]), "element 1 of input 'x' is 65536"),
        (typed("FP16", [1], [1], "fp32_contents"), "FP16 has no typed contents"),
        (typed("BF16", [1], [1], "fp32_contents"), "BF16 has no typed contents"),
        (infer_request(("x", "FP32", [2], None)), "0 values in fp32_contents"),
    ],
)
def test_what_is_refused(message: Any, words: str) -> None:
    error = refused(message)
    assert error.code is Code.INVALID_ARGUMENT
    assert words in error.message


def test_raw_and_typed_contents_are_never_mixed() -> None:
    message = infer_request(X, ("y", "INT32", [1], None))
    message.inputs[1].contents.int_contents.append(1)
    assert "must not be specified when using raw_input_contents" in refused(message).message


def test_a_parameter_without_a_value() -> None:
    message = infer_request(X)
    message.parameters["nothing"].SetInParent()
    assert "'nothing' must have a value" in refused(message).message


def test_shared_memory_that_is_not_offered() -> None:
    message = infer_request(("x", "FP32", [1, 2], None))
    put_parameters(
        message.inputs[0],
        {"shared_memory_region": "r", "shared_memory_byte_size": 8},
    )
    assert refused(message).code is Code.UNIMPLEMENTED
    message.inputs[0].contents.fp32_contents.append(1)
    assert "unexpected 'content'" in refused(message).message


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x02\xff\xfe", b"\x0b" * 40_000])
def test_what_is_no_request_at_all(data: bytes) -> None:
    with pytest.raises(HostlerError, match="is not a ModelInferRequest"):
        parse_infer(data)


@pytest.mark.parametrize(("text", "version"), [("", None), ("3", 3), ("9" * 18, int("9" * 18))])
def test_versions(text: str, version: int | None) -> None:
    assert parse_version("m", text) == version


@pytest.mark.parametrize("text", ["v1", "-1", "1.0", " 1", "٣", "9" * 19])
def test_versions_that_nobody_has(text: str) -> None:
    with pytest.raises(HostlerError) as caught:
        parse_version("m", text)
    assert caught.value.code is Code.NOT_FOUND
