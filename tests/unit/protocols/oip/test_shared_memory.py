"""Tensors that stand in shared memory, in requests and in responses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fakes.regions import FakeRegion, FakeRegions

from hostler.core import (
    DATATYPES,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols import oip

FP32 = DATATYPES["FP32"]
SIGNATURE = Signature((TensorSpec("x", FP32, (2,)),), (TensorSpec("y", FP32, (2,)),))
VALUES = np.array([1.5, -2.0], np.float32)


def placed(region: object = "r", size: object = 8, **more: object) -> dict[str, object]:
    return {"shared_memory_region": region, "shared_memory_byte_size": size, **more}


def regions(data: bytes = b"\0" * 4 + VALUES.tobytes()) -> FakeRegions:
    return FakeRegions(r=FakeRegion(data))


def decode(
    known: FakeRegions | None,
    parameters: dict[str, object],
    outputs: list[dict[str, Any]] | None = None,
    **tensor: Any,
) -> InferRequest:
    wire = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": parameters, **tensor}
    body = {"inputs": [wire], **({} if outputs is None else {"outputs": outputs})}
    return oip.decode_request(json.dumps(body).encode(), None, SIGNATURE, known)


def test_an_input_is_copied_from_its_place() -> None:
    known = regions()
    request = decode(known, placed(shared_memory_offset=4))
    known.regions["r"].data[:] = bytes(12)
    data = request.inputs["x"].data
    assert isinstance(data, np.ndarray)
    assert data.tolist() == VALUES.tolist()
    assert not data.flags.writeable


def test_strings_stand_there_as_on_the_wire() -> None:
    raw = b"\1\0\0\0a" + b"\3\0\0\0bcd"
    request = decode(regions(raw), placed(size=len(raw)), datatype="BYTES")
    assert request.inputs["x"].numpy().tolist() == [b"a", b"bcd"]


def test_booleans_are_ones_and_zeros_whatever_stands_there() -> None:
    request = decode(regions(b"\0\7"), placed(size=2), datatype="BOOL")
    assert request.inputs["x"].numpy().view(np.uint8).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("parameters", "tensor", "code", "text"),
    [
        (placed("nobody"), {}, "NOT_FOUND", "Unable to find shared memory region: 'nobody'"),
        (placed(7), {}, "INVALID_ARGUMENT", "must be the name of a region"),
        ({"shared_memory_region": "r"}, {}, "INVALID_ARGUMENT", "lacks 'shared_memory_byte_size'"),
        (placed(size=-8), {}, "INVALID_ARGUMENT", "must be a number of bytes"),
        (placed(size=True), {}, "INVALID_ARGUMENT", "must be a number of bytes"),
        (placed(size=8.0), {}, "INVALID_ARGUMENT", "must be a number of bytes"),
        (placed(shared_memory_offset=-1), {}, "INVALID_ARGUMENT", "must be a number of bytes"),
        (
            placed(shared_memory_offset=12), {}, "INVALID_ARGUMENT",
            "Invalid offset for shared memory region: 'r'",
        ),
        (
            placed(shared_memory_offset=2**64 - 32), {}, "INVALID_ARGUMENT",
            "Invalid offset for shared memory region: 'r'",
        ),
        (
            placed(shared_memory_offset=5), {}, "INVALID_ARGUMENT",
            "Invalid offset + byte size for shared memory region: 'r'",
        ),
        (
            placed(size=2**64 - 4, shared_memory_offset=4), {}, "INVALID_ARGUMENT",
            "Invalid offset + byte size",
        ),
        (placed(size=12), {}, "INVALID_ARGUMENT", "shared_memory_byte_size of input 'x' is 12"),
        (placed(), {"datatype": "BYTES"}, "INVALID_ARGUMENT", "input 'x': BYTES data"),
        (placed(), {"data": [1, 2]}, "INVALID_ARGUMENT", "and also 'data'"),
        (placed(binary_data_size=8), {}, "INVALID_ARGUMENT", "and also 'data' or binary_data_size"),
    ],
)  # fmt: skip
def test_bad_places(
    parameters: dict[str, object], tensor: dict[str, Any], code: str, text: str
) -> None:
    with pytest.raises(HostlerError) as caught:
        decode(regions(), parameters, **tensor)
    assert (caught.value.code, text in caught.value.message) == (Code(code), True), caught.value


def test_a_region_that_was_shrunk_is_the_clients_error() -> None:
    known = regions()
    del known.regions["r"].data[6:]
    with pytest.raises(HostlerError, match="has been shrunk"):
        decode(known, placed())


@pytest.mark.parametrize("asked", ["input", "output"])
def test_where_it_is_not_offered_the_error_says_so(asked: str) -> None:
    parameters = placed() if asked == "input" else {}
    data = {} if asked == "input" else {"data": [1, 2]}
    outputs = [{"name": "y", "parameters": placed()}] if asked == "output" else None
    with pytest.raises(HostlerError, match="Client shared memory is disabled") as caught:
        decode(None, parameters, outputs, **data)
    assert caught.value.code is Code.UNIMPLEMENTED


# -- responses -------------------------------------------------------------------------------


def answer(
    known: FakeRegions, parameters: dict[str, object], tensor: Tensor | None = None
) -> tuple[dict[str, Any], list[oip.Part]]:
    outputs = [{"name": "y", "parameters": parameters}]
    request = decode(known, {}, outputs, data=[1, 2])
    tensor = tensor or Tensor("y", FP32, (2,), VALUES)
    parts, _ = oip.encode_response(InferResponse([tensor]), request, "m", 1, SIGNATURE)
    document = json.loads(bytes(parts[0]))
    return document["outputs"][0], parts[1:]


def test_an_output_is_put_in_its_place_and_not_in_the_body() -> None:
    known = regions(bytes(range(16)))
    output, tails = answer(known, placed(shared_memory_offset=4))
    assert output == {
        "name": "y",
        "datatype": "FP32",
        "shape": [2],
        "parameters": placed(shared_memory_offset=4),
    }
    assert tails == []
    data = bytes(known.regions["r"].data)
    assert data == bytes(range(4)) + VALUES.tobytes() + bytes(range(12, 16))


def test_the_response_tells_how_much_of_the_place_is_used() -> None:
    known = regions(bytes(32))
    output, _ = answer(known, placed(size=32))
    assert output["parameters"] == placed(size=8)


def test_strings_are_put_there_as_on_the_wire() -> None:
    known = regions(bytes(32))
    items = np.array([b"a", b"bcd"], np.object_)
    tensor = Tensor.from_numpy("y", items, DATATYPES["BYTES"])
    output, _ = answer(known, placed(size=32), tensor)
    assert output["parameters"]["shared_memory_byte_size"] == 12
    assert bytes(known.regions["r"].data[:12]) == b"\1\0\0\0a\3\0\0\0bcd"


def test_a_place_that_is_too_small_names_both_sizes() -> None:
    known = regions(bytes(32))
    with pytest.raises(HostlerError, match=r"\(7 bytes\) should be at least 8 bytes") as caught:
        answer(known, placed(size=7))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert bytes(known.regions["r"].data) == bytes(32)


@pytest.mark.parametrize("other", [{"classification": 1}, {"binary_data": True}])
def test_an_output_goes_to_one_place_only(other: dict[str, object]) -> None:
    with pytest.raises(HostlerError, match=f"'shared_memory_region' and '{next(iter(other))}'"):
        answer(regions(), {**placed(), **other})


def test_a_request_keeps_the_regions_that_it_has_found() -> None:
    known = regions(bytes(8))
    request = decode(known, {}, [{"name": "y", "parameters": placed()}], data=[1, 2])
    region = known.regions.pop("r")
    response = InferResponse([Tensor("y", FP32, (2,), VALUES)])
    oip.encode_response(response, request, "m", 1, SIGNATURE)
    assert bytes(region.data) == VALUES.tobytes()


# -- registration ----------------------------------------------------------------------------


def test_registration() -> None:
    asked = oip.parse_registration(b'{"key":"/k","offset":3,"byte_size":8,"other":1}')
    assert (asked.key, asked.offset, asked.byte_size) == ("/k", 3, 8)
    assert oip.parse_registration(b'{"key":"k","byte_size":1}').offset == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"key":"k"}', b'{"key":"k","byte_size":0}', b'{"key":"","byte_size":1}',
     b'{"key":"k","byte_size":-1}', b'{"key":"k","byte_size":1,"offset":-1}',
     b'{"key":7,"byte_size":1}', b'{"key":"k","byte_size":1.5}',
     b'{"key":"k","byte_size":99999999999999999999}'],
)  # fmt: skip
def test_bad_registrations(body: bytes) -> None:
    with pytest.raises(HostlerError) as caught:
        oip.parse_registration(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "register request" in caught.value.message
