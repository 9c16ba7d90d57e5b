"""Tensors are views over wire bytes."""

from __future__ import annotations

import numpy as np
import pytest

from hostler.core import DATATYPES, BytesArray, Code, HostlerError, Tensor, datatype_named

WIRE = bytes.fromhex("0100000061" + "03000000626364")


def test_bytes_are_indexed_in_place() -> None:
    array = BytesArray.from_wire(WIRE, 2)
    assert array.items() == [b"a", b"bcd"]
    assert array.offsets.tolist() == [0, 5, 12]
    assert bytes(array.wire()) == WIRE
    assert array.slice(1, 2).items() == [b"bcd"]
    assert bytes(array.slice(1, 2).wire()) == WIRE[5:]


@pytest.mark.parametrize(
    ("wire", "count"),
    [
        (WIRE, 1),
        (WIRE, 3),
        (WIRE[:-1], 2),
        (WIRE[:7], 2),
        (b"", 1),
        (b"\xff\xff\xff\xff", 1),
        (b"\x00", 0),
        (WIRE, 2**60),
    ],
)
def test_bytes_that_do_not_fit_are_refused(wire: bytes, count: int) -> None:
    with pytest.raises(HostlerError) as e:
        BytesArray.from_wire(wire, count)
    assert e.value.code is Code.INVALID_ARGUMENT


def test_no_elements_are_fine() -> None:
    assert BytesArray.from_wire(b"", 0).items() == []


def test_joining_and_cutting_are_inverse() -> None:
    parts = [BytesArray.from_items([b"x", b""]), BytesArray.from_items([b"longer"])]
    joined = BytesArray.concatenate([parts[0].slice(1, 2), parts[1]])
    assert joined.items() == [b"", b"longer"]
    assert BytesArray.concatenate(parts).slice(0, 2).items() == [b"x", b""]


def test_rows_are_views_and_stack_joins_them() -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = Tensor("x", DATATYPES["FP32"], (3, 4), data)
    part = tensor.rows(1, 3)
    assert part.shape == (2, 4)
    assert np.shares_memory(part.numpy(), data)
    again = Tensor.stack([tensor.rows(0, 1), part])
    assert np.array_equal(again.numpy(), data)
    assert Tensor.stack([tensor]) is tensor


def test_bytes_tensors_cut_by_whole_rows() -> None:
    values = np.array([[b"a", b"bb"], [b"", b"dddd"]], dtype=object)
    tensor = Tensor.from_numpy("x", values, DATATYPES["BYTES"])
    assert tensor.rows(1, 2).numpy().tolist() == [[b"", b"dddd"]]
    stacked = Tensor.stack([tensor.rows(1, 2), tensor.rows(0, 1)])
    assert stacked.numpy().tolist() == [[b"", b"dddd"], [b"a", b"bb"]]


@pytest.mark.parametrize("name", ["FLOAT", "fp32", "", 3])
def test_unknown_datatypes_are_refused(name: object) -> None:
    with pytest.raises(HostlerError, match="one of BOOL"):
        datatype_named(name)  # type: ignore[arg-type]
