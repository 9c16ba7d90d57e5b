from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from hostler.core import Code, HostlerError, Signature, TensorSpec
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table.mapping import feeds_of, questions
from tests.fakes.tables import spec

F32, I64, STR = pa.float32(), pa.int64(), pa.string()
L32, V4 = pa.list_(F32), pa.list_(F32, 4)


def table(**inputs: list[str]) -> Table:
    return Table(form=TableForm.PARQUET, inputs=inputs)


def signature(*inputs: TensorSpec, batched: bool = True) -> Signature:
    return Signature(inputs, (), batched=batched)


@pytest.mark.parametrize(
    ("inputs", "named", "kinds", "expected"),
    [
        ([spec("x", "FP32", 4)], {}, {"x": V4, "id": I64}, {"x": ["x"]}),
        ([spec("x", "FP32", 4)], {"x": ["v"]}, {"v": L32, "x": F32}, {"x": ["v"]}),
        ([spec("x", "FP32", 2)], {"x": ["b", "a"]}, {"a": F32, "b": I64}, {"x": ["b", "a"]}),
        ([spec("x", "FP32", -1)], {"x": ["a", "b"]}, {"a": F32, "b": I64}, {"x": ["a", "b"]}),
        ([spec("x", "FP32", 2, 2)], {"x": ["v"]}, {"v": V4}, {"x": ["v"]}),
        ([spec("x", "FP32", 4)], {}, {"v": V4, "name": STR}, {"x": ["v"]}),
        ([spec("x", "FP32", 2)], {}, {"a": F32, "name": STR, "b": I64}, {"x": ["a", "b"]}),
        ([spec("x", "FP32", 1)], {}, {"a": F32, "name": STR}, {"x": ["a"]}),
        ([spec("x", "FP32")], {}, {"a": F32}, {"x": ["a"]}),
        ([spec("t", "BYTES", 1)], {}, {"a": F32, "text": STR}, {"t": ["text"]}),
        ([spec("x", "FP32", 1), spec("y", "FP32", 1)], {"y": ["b"]}, {"x": F32, "b": F32},
         {"x": ["x"], "y": ["b"]}),
        ([spec("x", "FP32", 1), spec("y", "FP32", 1, optional=True)], {}, {"x": F32},
         {"x": ["x"]}),
    ],
)  # fmt: skip
def test_which_columns_make_an_input(
    inputs: list[TensorSpec], named: Any, kinds: Any, expected: Any
) -> None:
    feeds = feeds_of(signature(*inputs), table(**named), kinds)
    assert {feed.spec.name: list(feed.columns) for feed in feeds} == expected


@pytest.mark.parametrize(
    ("inputs", "named", "kinds", "said"),
    [
        ([spec("x", "FP32", 4)], {"z": ["a"]}, {"a": F32}, "no input 'z'; it has 'x'"),
        ([spec("x", "FP32", 4)], {"x": ["a"]}, {"b": F32}, "there is no column 'a'"),
        ([spec("x", "FP32", 4)], {}, {"a": F32, "b": F32}, "no column is named for input 'x'"),
        ([spec("x", "FP32", 1)], {}, {"a": F32, "b": F32}, "no column is named for input 'x'"),
        ([spec("x", "FP32", 1), spec("y", "FP32", 1)], {}, {"x": F32}, "for input 'y'"),
        ([spec("x", "FP32", 4)], {"x": ["a"]}, {"a": STR}, "of type string holds no FP32"),
        ([spec("x", "BYTES", 1)], {"x": ["a"]}, {"a": F32}, "of type float holds no BYTES"),
        ([spec("x", "FP32", 1)], {"x": ["a"]}, {"a": pa.date32()}, "holds no FP32"),
        ([spec("x", "FP32", 3)], {"x": ["a"]}, {"a": V4}, "of 4 values a row do not fill"),
        ([spec("x", "FP32", 3)], {"x": ["a", "b"]}, {"a": F32, "b": F32}, "2 columns of 2"),
        ([spec("x", "FP32", 2)], {"x": ["a", "b"]}, {"a": F32, "b": L32}, "'b' holds lists"),
        ([spec("x", "FP32", 4)], {"x": ["a"]}, {"a": pa.list_(L32)}, "nested 2 lists deep"),
        ([spec("x", "FP32", 1, optional=True)] * 1, {}, {"a": STR}, "for any input"),
    ],
)
def test_what_cannot_be_mapped_is_said(
    inputs: list[TensorSpec], named: Any, kinds: Any, said: str
) -> None:
    with pytest.raises(HostlerError, match=said) as caught:
        feeds_of(signature(*inputs), table(**named), kinds)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_error_names_the_input_its_dims_and_the_columns_at_hand() -> None:
    with pytest.raises(HostlerError) as caught:
        feeds_of(signature(spec("x", "FP32", 4)), table(), {"a": F32, "b": STR})
    assert caught.value.message == (
        "no column is named for input 'x' (FP32 [4]); name the columns that it is made of; the "
        "columns at hand are 'a' (float), 'b' (string)"
    )


def asked(
    columns: dict[str, Any],
    *inputs: TensorSpec,
    rows: int = 100,
    batched: bool = True,
    **named: Any,
) -> tuple[list[tuple[list[int], dict[str, Any]]], dict[int, str]]:
    batch = pa.RecordBatch.from_pydict(columns)
    model = signature(*inputs, batched=batched)
    feeds = feeds_of(
        model, table(**named), dict(zip(batch.schema.names, batch.schema.types, strict=True))
    )
    found, faults = questions(batch, feeds, model, rows)
    for one in found:
        model.check_inputs(one.request.inputs, "model")
    return [
        (one.rows.tolist(), {k: t.numpy().tolist() for k, t in one.request.inputs.items()})
        for one in found
    ], faults


def test_scalar_columns_stand_side_by_side() -> None:
    found, faults = asked(
        {"a": [1, 2], "b": [3.0, 4.0]}, spec("x", "FP32", 2), rows=100, x=["b", "a"]
    )
    assert found == [([0, 1], {"x": [[3.0, 1.0], [4.0, 2.0]]})]
    assert not faults


def test_texts_stand_side_by_side() -> None:
    found, _ = asked({"a": ["p", "q"], "b": ["r", "s"]}, spec("x", "BYTES", 2))
    assert found == [([0, 1], {"x": [[b"p", b"r"], [b"q", b"s"]]})]


def test_flat_lists_take_the_shape_of_the_dims() -> None:
    found, _ = asked({"x": [[1, 2, 3, 4]]}, spec("x", "INT64", 2, 2))
    assert found == [([0], {"x": [[[1, 2], [3, 4]]]})]
    found, _ = asked({"x": [[1, 2, 3, 4]]}, spec("x", "INT64", -1, 2))
    assert found == [([0], {"x": [[[1, 2], [3, 4]]]})]


def test_requests_have_at_most_so_many_rows() -> None:
    found, _ = asked({"x": list(range(5))}, spec("x", "INT64", 1), rows=2)
    assert [rows for rows, _ in found] == [[0, 1], [2, 3], [4]]


def test_a_model_without_batch_dimension_gets_a_row_at_a_time() -> None:
    found, faults = asked({"x": [[1, 2], [3, 4], [5]]}, spec("x", "INT64", 2), batched=False)
    assert found == [([0], {"x": [1, 2]}), ([1], {"x": [3, 4]})]
    assert list(faults) == [2]


def test_rows_of_different_lengths_are_different_requests() -> None:
    found, faults = asked({"x": [[1], [2, 3], [4], None, [5, 6]]}, spec("x", "INT64", -1))
    assert found == [([0, 2], {"x": [[1], [4]]}), ([1, 4], {"x": [[2, 3], [5, 6]]})]
    assert faults == {3: "column 'x' is null"}


def test_bad_rows_are_told_apart_from_good_ones() -> None:
    found, faults = asked({"x": [[1, 2], [3, None], [4, 5], [6], [300, 1]]}, spec("x", "UINT8", 2))
    assert found == [([0, 2], {"x": [[1, 2], [4, 5]]})]
    assert faults == {
        1: "column 'x' holds null",
        3: "column 'x' holds [1] values, which do not fill dims [2] of input 'x'",
        4: "column 'x' holds 300, which does not fit UINT8",
    }


def test_rows_may_all_be_bad() -> None:
    found, faults = asked({"x": [None, None]}, spec("x", "INT64", 1))
    assert (found, list(faults)) == ([], [0, 1])
