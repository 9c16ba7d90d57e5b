"""Answers -> typed columns -> bytes."""

from __future__ import annotations

import datetime
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hostler.core import Code, HostlerError, InferResponse, Signature, Tensor, TensorSpec
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table.chunks import JSON_TEXT, Fault
from hostler.jobs.transform.table.faults import fault_line
from hostler.jobs.transform.table.outputs import (
    answer_columns,
    answered,
    output_schema,
    type_of,
)
from hostler.jobs.transform.table.writers import writer_of
from tests.fakes.tables import spec

TABLE = Table(form=TableForm.PARQUET)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (spec("y", "FP32"), "float"),
        (spec("y", "FP64", 1), "double"),
        (spec("y", "FP16", 2), "fixed_size_list<item: halffloat>[2]"),
        (spec("y", "BF16", 1), "float"),
        (spec("y", "INT64", -1), "list<item: int64>"),
        (spec("y", "BOOL", 2, -1), "fixed_size_list<item: list<item: bool>>[2]"),
        (spec("y", "BYTES", 1), "binary"),
        (spec("y", "UINT8", 0), "list<item: uint8>"),
    ],
)
def test_types_follow_from_the_signature(output: TensorSpec, kind: str) -> None:
    assert str(type_of(output)) == kind


@pytest.mark.parametrize(
    ("output", "array", "expected"),
    [
        (spec("y", "FP32", 1), [[1.5], [2.0]], [1.5, 2.0]),
        (spec("y", "BF16", 1), [[0x3F80], [0xC020]], [1.0, -2.5]),
        (spec("y", "INT8", 2), [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (spec("y", "BOOL", 2, -1), [[[1], [0]]], [[[True], [False]]]),
        (spec("y", "BYTES", -1), [[b"a", b"\xff"]], [[b"a", b"\xff"]]),
        (spec("y", "FP32", -1, 2), np.zeros((2, 0, 2)), [[], []]),
    ],
)
def test_answers_become_columns(output: TensorSpec, array: Any, expected: Any) -> None:
    dtype = object if output.datatype.is_bytes else output.datatype.numpy
    tensor = Tensor.from_numpy("y", np.array(array, dtype), output.datatype)
    [column] = answer_columns(Signature((), (output,), batched=True), TABLE)
    [found] = answered(InferResponse([tensor]), [column], tensor.shape[0], True)
    assert found.type == column.kind
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor.from_numpy("z", np.zeros((2, 3), np.float32), spec("", "FP32").datatype),
        Tensor.from_numpy("y", np.zeros((1, 3), np.float32), spec("", "FP32").datatype),
        Tensor.from_numpy("y", np.zeros((2, 4), np.float32), spec("", "FP32").datatype),
        Tensor.from_numpy("y", np.zeros((2, 3), np.int64), spec("", "INT64").datatype),
    ],
    ids=["name", "rows", "dims", "datatype"],
)
def test_an_answer_that_is_not_as_the_signature_says(tensor: Tensor) -> None:
    columns = answer_columns(Signature((), (spec("y", "FP32", 3),), batched=True), TABLE)
    with pytest.raises(HostlerError, match="'y'") as caught:
        answered(InferResponse([tensor]), columns, 2, True)
    assert caught.value.code is Code.MODEL_ERROR


def test_outputs_may_be_chosen_and_named() -> None:
    signature = Signature((), (spec("y", "FP32", 1), spec("z", "FP32", 1)), batched=True)
    table = Table(form=TableForm.PARQUET, outputs={"score": "z"})
    assert [(one.name, one.spec.name) for one in answer_columns(signature, table)] == [
        ("score", "z")
    ]
    with pytest.raises(HostlerError, match="'nope', which the model does not have; it has 'y'"):
        answer_columns(signature, Table(form=TableForm.PARQUET, outputs={"a": "nope"}))


def test_two_columns_of_one_name_are_refused() -> None:
    columns = answer_columns(Signature((), (spec("y", "FP32", 1),)), TABLE)
    with pytest.raises(HostlerError, match="two columns 'y'"):
        output_schema([pa.field("y", pa.int64())], columns)


BATCH = pa.RecordBatch.from_arrays(
    [
        pa.array([1, None], pa.int64()),
        pa.array(["a,b", 'q"']),
        pa.array([0.1, float("nan")], pa.float32()),
        pa.array([[0.1, 0.2], [1.0, 2.0]], pa.list_(pa.float32(), 2)),
        pa.array([b"text", b"\xff"]),
        pa.array(['{"k":[1]}', None]),
        pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("ns")),
        pa.array([True, False]),
    ],
    schema=pa.schema(
        [
            ("i", pa.int64()),
            ("s", pa.string()),
            ("f", pa.float32()),
            ("v", pa.list_(pa.float32(), 2)),
            ("b", pa.binary()),
            pa.field("j", pa.string(), metadata=JSON_TEXT),
            ("t", pa.timestamp("ns")),
            ("o", pa.bool_()),
        ]
    ),
)


def written(form: TableForm, *batches: Any) -> bytes:
    writer = writer_of(form, batches[0].schema)
    return b"".join([writer.write(batch) for batch in batches] + [writer.end()])


def test_json_lines_are_as_short_as_their_types_allow() -> None:
    first, second = map(json.loads, written(TableForm.JSON_LINES, BATCH).splitlines())
    assert first == {
        "i": 1, "s": "a,b", "f": 0.1, "v": [0.1, 0.2], "b": "text", "j": {"k": [1]},
        "t": "2026-01-02 03:04:05.000000000", "o": True,
    }  # fmt: skip
    assert second == {
        "i": None, "s": 'q"', "f": None, "v": [1.0, 2.0], "b": {"b64": "/w=="}, "j": None,
        "t": None, "o": False,
    }  # fmt: skip


def test_csv_has_names_and_quotes() -> None:
    assert written(TableForm.CSV, BATCH).decode() == (
        "i,s,f,v,b,j,t,o\n"
        '1,"a,b",0.1,"[0.1,0.2]",text,"{""k"":[1]}",2026-01-02 03:04:05.000000000,true\n'
        ',"q""",nan,"[1.0,2.0]",/w==,,,false\n'
    )


def test_parquet_keeps_everything_and_is_always_the_same() -> None:
    found = written(TableForm.PARQUET, BATCH)
    table = pq.read_table(io.BytesIO(found))
    assert table.schema.equals(BATCH.schema)
    assert str(table.to_pylist()) == str(BATCH.to_pylist())
    assert written(TableForm.PARQUET, BATCH) == found


def test_parquet_has_row_groups_of_bounded_size() -> None:
    batch = pa.RecordBatch.from_pydict({"i": list(range(50_000))})
    whole = written(TableForm.PARQUET, batch, batch, batch)
    meta = pq.ParquetFile(io.BytesIO(whole)).metadata
    sizes = [meta.row_group(index).num_rows for index in range(meta.num_row_groups)]
    assert sizes == [65_536, 65_536, 18_928]
    small = [batch.slice(at, 5000) for at in range(0, 50_000, 5000)]
    assert written(TableForm.PARQUET, *small, *small, *small) == whole


def test_wide_rows_end_a_row_group_early() -> None:
    batch = pa.RecordBatch.from_pydict({"b": [bytes(9 << 20)] * 2})
    meta = pq.ParquetFile(io.BytesIO(written(TableForm.PARQUET, *[batch] * 3))).metadata
    assert [meta.row_group(index).num_rows for index in range(meta.num_row_groups)] == [4, 2]


def test_images_are_not_written() -> None:
    with pytest.raises(HostlerError, match="take parquet, jsonl or csv"):
        writer_of(TableForm.IMAGES, BATCH.schema)


def test_rows_set_aside_are_json_with_their_values() -> None:
    line = json.loads(fault_line(Fault(7, "no good", {"a": float("nan"), "b": b"\xff", "c": None})))
    assert line == {
        "record": 7, "code": "INVALID_ARGUMENT", "error": "no good",
        "data": {"a": None, "b": {"b64": "/w=="}, "c": None},
    }  # fmt: skip


def test_of_a_large_row_the_beginning_is_kept() -> None:
    line = json.loads(fault_line(Fault(0, "no", {"a": "x" * 100_000})))
    assert line["truncated"] is True
    assert line["data"] == '{"a":"' + "x" * (65_536 - 6)
