"""Which values a datatype takes from which column, and which it does not."""

from __future__ import annotations

import decimal
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hostler.core import BytesArray, datatype_named
from hostler.jobs.transform.table.columns import Misfit, row_shapes, values_of

INF = float("inf")


def read(array: Any, datatype: str, text: bool = False) -> Any:
    shape, found = values_of(array, datatype_named(datatype), text)
    if isinstance(found, BytesArray):
        return found.items()
    assert found.dtype == datatype_named(datatype).numpy
    return found.reshape(shape).tolist()


@pytest.mark.parametrize(
    ("array", "datatype", "expected"),
    [
        (pa.array([1, 2], pa.int8()), "INT64", [1, 2]),
        (pa.array([0, 255], pa.int64()), "UINT8", [0, 255]),
        (pa.array([2**64 - 1], pa.uint64()), "UINT64", [2**64 - 1]),
        (pa.array([True, False]), "BOOL", [True, False]),
        (pa.array([True, False]), "FP32", [1.0, 0.0]),
        (pa.array([1, 0]), "BOOL", [True, False]),
        (pa.array([3.0, -4.0]), "INT8", [3, -4]),
        (pa.array([2**53 + 1]), "FP64", [float(2**53)]),
        (pa.array([0.5, INF]), "FP32", [0.5, INF]),
        (pa.array([1.0, -2.5]), "BF16", [0x3F80, 0xC020]),
        (pa.array([1.00390625]), "BF16", [0x3F80]),
        (pa.array([decimal.Decimal("1.50")]), "FP32", [1.5]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "BYTES", [b"a", b"b", b"a"]),
        (pa.array(["ä"], pa.large_string()), "BYTES", ["ä".encode()]),
        (pa.array([b"\xff"], pa.binary(1)), "BYTES", [b"\xff"]),
        (pa.array([[1, 2], [3, 4]]), "FP32", [[1.0, 2.0], [3.0, 4.0]]),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)), "INT64", [[1, 2], [3, 4]]),
        (pa.array([[[1], [2]]], pa.large_list(pa.list_(pa.int64()))), "INT32", [[[1], [2]]]),
    ],
)
def test_values_that_fit(array: Any, datatype: str, expected: Any) -> None:
    assert read(array, datatype) == expected


@pytest.mark.parametrize(
    ("array", "datatype", "reason"),
    [
        (pa.array([1, None]), "INT64", "is null"),
        (pa.array([None, None]), "FP32", "is null"),
        (pa.array([[1, None]]), "INT64", "holds null"),
        (pa.array([[1], None]), "INT64", "is null"),
        (pa.array([[1], [1, 2]]), "INT64", "uneven"),
        (pa.array([7, 256]), "UINT8", "256, which does not fit UINT8"),
        (pa.array([-1]), "UINT64", "-1, which"),
        (pa.array([2**63], pa.uint64()), "INT64", "9223372036854775808, which"),
        (pa.array([1.5]), "INT32", "1.5, which"),
        (pa.array([float("nan")]), "INT32", "nan, which"),
        (pa.array([INF]), "INT32", "inf, which"),
        (pa.array([2.0**63]), "INT64", "9.223372036854776e+18, which"),
        (pa.array([2.0**64]), "UINT64", "1.8446744073709552e+19, which"),
        (pa.array([1e300]), "FP32", "1e+300, which"),
        (pa.array([70000]), "FP16", "70000, which"),
        (pa.array([3.4e38]), "BF16", "which does not fit BF16"),
        (pa.array([2]), "BOOL", "2, which"),
        (pa.array([decimal.Decimal("1.50")]), "INT32", "'1.50', which"),
    ],
)
def test_values_that_do_not_fit(array: Any, datatype: str, reason: str) -> None:
    with pytest.raises(Misfit, match=re.escape(reason)):
        read(array, datatype)


@pytest.mark.parametrize(
    ("text", "datatype", "expected"),
    [
        (["1", " -2 "], "INT8", [1, -2]),
        (["3.0", "1e3"], "INT64", [3, 1000]),
        (["9007199254740993"], "INT64", [2**53 + 1]),
        (["18446744073709551615"], "UINT64", [2**64 - 1]),
        (["1.5", "inf"], "FP32", [1.5, INF]),
        (["true", "0"], "BOOL", [True, False]),
        (["1", ""], "BYTES", [b"1", b""]),
    ],
)
def test_numbers_that_are_written_out(text: list[str], datatype: str, expected: Any) -> None:
    assert read(pa.array(text), datatype, text=True) == expected


def test_an_empty_cell_is_a_missing_float() -> None:
    assert np.isnan(read(pa.array([""]), "FP32", text=True)).all()


@pytest.mark.parametrize(
    ("text", "datatype"),
    [("x", "FP32"), ("", "INT8"), ("300", "INT8"), ("1.5", "INT8"), ("yes", "BOOL"),
     ("1_0", "FP64"), ("9007199254740993.0", "INT64")],
)  # fmt: skip
def test_texts_that_are_no_numbers(text: str, datatype: str) -> None:
    with pytest.raises(Misfit):
        read(pa.array([text]), datatype, text=True)


def test_numbers_of_the_right_type_are_not_copied() -> None:
    array = pa.array(np.arange(8, dtype=np.float32))
    _, found = values_of(array.slice(2, 4), datatype_named("FP32"), False)
    assert isinstance(found, np.ndarray)
    assert found.ctypes.data == array.buffers()[1].address + 8
    lists = pa.FixedSizeListArray.from_arrays(array, 2)
    shape, found = values_of(lists.slice(1, 2), datatype_named("FP32"), False)
    assert isinstance(found, np.ndarray)
    assert (shape, found.ctypes.data) == ((2, 2), array.buffers()[1].address + 8)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1], [1, 2], [], None], [[1], [2], [0], [0]]),
        ([[[1, 2], [3, 4]], [], [[5]]], [[2, 2], [0, 0], [1, 1]]),
        ([[], [[]], [[1]]], [[0, 0], [1, 0], [1, 1]]),
    ],
)
def test_shapes_of_rows(rows: Any, expected: Any) -> None:
    assert row_shapes(pa.array(rows)).tolist() == expected


def test_shapes_of_a_slice_are_its_own() -> None:
    assert row_shapes(pa.array([[1], [1, 2], [1, 2, 3]]).slice(1)).tolist() == [[2], [3]]
