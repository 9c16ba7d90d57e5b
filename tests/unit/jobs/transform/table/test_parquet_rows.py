"""Parquet whose rows are larger than they look: what repeats takes no room in a file."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table import parquet_rows
from hostler.jobs.transform.table.parquet_rows import ParquetReader
from tests.fakes.tables import spec

TEXTS = Signature((spec("x", "BYTES", 1),), (), batched=True)
LISTS = Signature((spec("x", "FP32", -1),), (), batched=True)
LONG = "long " * 200


def written(*groups: pa.Table, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    with parquet.ParquetWriter(file, groups[0].schema, **options) as writer:
        for group in groups:
            writer.write_table(group)
    file.seek(0)
    return file


def reader(file: io.BytesIO, signature: Signature, *keep: str) -> ParquetReader:
    return ParquetReader(file, signature, Table(form=TableForm.PARQUET, keep=list(keep)))


@pytest.mark.parametrize("nested", [False, True])
def test_texts_that_stand_once_for_many_rows(monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    monkeypatch.setattr(parquet_rows, "_TEXTS_BYTES", 8 * len(LONG))
    x = ["short"] * 100, ["short"] + [LONG] * 100
    kept = [[[text] for text in texts] if nested else texts for texts in x]
    file = written(*(pa.table({"x": ["a"] * len(k), "k": k}) for k in kept))
    chunks = list(reader(file, TEXTS, "k").chunks())
    assert sum(len(chunk.rows) for chunk in chunks) == 201
    assert max(len(chunk.rows) for chunk in chunks) == 8
    assert [row for chunk in chunks for row in chunk.kept.column(0).to_pylist()] == [
        *kept[0],
        *kept[1],
    ]


def test_short_texts_are_read_many_at_a_time() -> None:
    file = written(pa.table({"x": [f"text {n}" for n in range(5000)]}))
    assert [len(chunk.rows) for chunk in reader(file, TEXTS).chunks()] == [4096, 904]


def test_rows_that_no_request_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_ROW_BYTES_MAX", 3999)
    file = written(pa.table({"x": [[0.0] * 1000] * 3}, pa.schema([("x", pa.list_(pa.float32()))])))
    assert file.getbuffer().nbytes < 3000
    with pytest.raises(HostlerError, match="its rows have 4000 bytes; at most 3999") as caught:
        next(reader(file, LISTS).chunks())
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE
