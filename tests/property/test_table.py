"""Tables: what goes in comes out, whatever its types, and bad rows never move good ones."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hostler.core import DATATYPES, InferResponse, Signature, Tensor, datatype_named
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table.chunks import Chunk, Layout
from hostler.jobs.transform.table.csv_rows import CsvReader
from hostler.jobs.transform.table.json_rows import JsonLinesReader
from hostler.jobs.transform.table.mapping import feeds_of
from hostler.jobs.transform.table.outputs import answer_columns, answered, output_schema
from hostler.jobs.transform.table.parquet_rows import ParquetReader
from hostler.jobs.transform.table.rows import Answer, assembled, group_of
from hostler.jobs.transform.table.writers import writer_of
from tests.fakes.tables import spec

DIMS = st.lists(st.integers(1, 3), max_size=3).map(tuple)
BIT_EXACT = [name for name in DATATYPES if name != "BF16"]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = datatype_named(draw(st.sampled_from(BIT_EXACT)))
    shape = (draw(st.integers(1, 20)), *draw(DIMS))
    if datatype.is_bytes:
        count = math.prod(shape)
        items = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        array = np.empty(count, object)
        array[:] = items
        return Tensor.from_numpy("t", array.reshape(shape), datatype)
    return Tensor.from_numpy("t", draw(hnp.arrays(datatype.numpy, shape)), datatype)


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bytes(one.wire()) == bytes(other.wire())


@given(tensors(), st.integers(1, 30))
def test_a_tensor_that_is_written_and_read_is_the_same(tensor: Tensor, rows: int) -> None:
    """Output column -> Parquet -> input column -> requests, for every datatype and shape."""
    one = spec("t", tensor.datatype.name, *tensor.shape[1:])
    signature = Signature((one,), (one,), batched=True)
    table = Table(form=TableForm.PARQUET)
    columns = answer_columns(signature, table)
    arrays = answered(InferResponse([tensor]), columns, tensor.shape[0], True)
    batch = pa.RecordBatch.from_arrays(arrays, schema=output_schema([], columns))
    writer = writer_of(TableForm.PARQUET, batch.schema)
    file = io.BytesIO(writer.write(batch) + writer.end())
    reader = ParquetReader(file, signature, table)
    found = []
    for chunk in reader.chunks():
        group = group_of(chunk, reader.layout, signature, rows)
        assert not group.faults
        for asked in group.asked:
            assert signature.check_inputs(asked.request.inputs, "model")[0] <= rows
            found.append(asked.request.inputs["t"])
    assert same(Tensor.stack(found), tensor)


KINDS = st.recursive(
    st.sampled_from(
        [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.binary(),
         pa.large_string(), pa.date32(), pa.timestamp("us", "UTC"), pa.timestamp("ns"),
         pa.decimal128(9, 2), pa.dictionary(pa.int8(), pa.string())]
    ),
    lambda kinds: st.one_of(
        kinds.map(pa.list_),
        st.lists(kinds, min_size=1, max_size=2).map(
            lambda found: pa.struct([(f"m{i}", kind) for i, kind in enumerate(found)])
        ),
    ),
    max_leaves=3,
)  # fmt: skip


def values(kind: Any) -> st.SearchStrategy[Any]:
    types = pa.types
    if types.is_list(kind):
        found: st.SearchStrategy[Any] = st.lists(values(kind.value_type), max_size=3)
    elif types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif types.is_dictionary(kind):
        found = st.sampled_from(["a", "b"])
    elif types.is_boolean(kind):
        found = st.booleans()
    elif types.is_integer(kind):
        found = st.integers(0, 127)
    elif types.is_float16(kind):
        found = st.integers(-100, 100).map(np.float16)
    elif types.is_floating(kind):
        found = st.floats(allow_nan=False)
    elif types.is_decimal(kind):
        found = st.decimals(-1000, 1000, places=2)
    elif types.is_date(kind):
        found = st.dates()
    elif types.is_timestamp(kind):
        found = st.integers(-(10**15), 10**15)
    elif types.is_binary(kind):
        found = st.binary(max_size=4)
    else:
        found = st.text(st.characters(codec="utf-8"), max_size=4)
    return st.none() | found


@st.composite
def kept_tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(0, 12))
    kinds = draw(st.lists(KINDS, min_size=1, max_size=3))
    columns = {"x": pa.array(range(count), pa.float32())}
    for index, kind in enumerate(kinds):
        found = draw(st.lists(values(kind), min_size=count, max_size=count))
        if pa.types.is_dictionary(kind):
            columns[f"c{index}"] = pa.array(found, pa.string()).cast(kind)
        else:
            columns[f"c{index}"] = pa.array(found, kind)
    return pa.table(columns)


X = Signature((spec("x", "FP32", 1),), (spec("y", "FP32", 1),), batched=True)


def transformed(chunks: Any, layout: Any, table: Table) -> bytes:
    """What the pipe does, with a model that gives what it gets."""
    columns = answer_columns(X, table)
    parts = []
    writer = None
    for chunk in chunks:
        writer = writer or writer_of(table.output_form, output_schema(layout().kept, columns))
        schema = output_schema(layout().kept, columns)
        group = group_of(chunk, layout(), X, 4)
        answers = []
        for asked in group.asked:
            one = asked.request.inputs["x"]
            response = InferResponse([Tensor("y", one.datatype, one.shape, one.data)])
            rows = len(asked.rows)
            answers.append(Answer(asked.rows, answered(response, columns, rows, True)))
        batch = assembled(group, answers[::-1], schema)
        if batch is not None:
            parts.append(writer.write(batch))
    writer = writer or writer_of(table.output_form, output_schema(layout().kept, columns))
    return b"".join([*parts, writer.end()])


@given(kept_tables())
def test_kept_columns_are_as_they_were(table: pa.Table) -> None:
    file = io.BytesIO()
    pq.write_table(table, file)
    plan = Table(form=TableForm.PARQUET, keep=["*"])
    reader = ParquetReader(file, X, plan)
    found = pq.read_table(io.BytesIO(transformed(reader.chunks(), lambda: reader.layout, plan)))
    before = pq.read_table(io.BytesIO(file.getvalue()))
    assert found.drop_columns(["y"]).equals(before)
    assert found["y"].to_pylist() == table["x"].to_pylist()


@given(st.lists(st.one_of(st.none(), st.integers(0, 255), st.integers(256, 300)), max_size=40),
       st.integers(1, 9))  # fmt: skip
def test_every_row_is_asked_once_or_is_bad(column: list[int | None], rows: int) -> None:
    one = spec("x", "UINT8", 1)
    signature = Signature((one,), (), batched=True)
    batch = pa.RecordBatch.from_pydict({"x": pa.array(column, pa.int64())})
    feeds = feeds_of(signature, Table(form=TableForm.PARQUET), {"x": pa.int64()})
    chunk = Chunk(batch, batch.select([]), np.arange(len(column)) + 100)
    group = group_of(chunk, Layout(feeds, ()), signature, rows)
    good = [i for i, value in enumerate(column) if value is not None and value < 256]
    assert [int(i) for asked in group.asked for i in asked.rows] == good
    found = [v for asked in group.asked for v in asked.request.inputs["x"].numpy().ravel().tolist()]
    assert found == [column[i] for i in good]
    bad = [i + 100 for i in range(len(column)) if i not in good]
    assert [fault.row for fault in group.faults] == bad


PIECES = st.lists(
    st.sampled_from(
        [b'{"x":1,"k":"a"}', b'{"k":2}', b"1.5,b", b'"', b",", b"\n", b"\r\n", b'{"x":"no"}',
         b"\xff", b"x,k\n", b"[]", b"nan"]
    )
)  # fmt: skip


@given(PIECES, st.integers(1, 7), st.sampled_from([CsvReader, JsonLinesReader]))
def test_texts_are_read_the_same_in_any_pieces_and_never_crash(
    parts: list[bytes], step: int, kind: type[CsvReader | JsonLinesReader]
) -> None:
    from hostler.core import HostlerError

    data = b"x,k\n" * (kind is CsvReader) + b"".join(parts)
    plan = Table(form=TableForm.JSON_LINES, output_form=TableForm.JSON_LINES, keep=["*"])
    found = []
    for size in (step, len(data) or 1):
        reader = kind(X, plan)

        def chunks(reader: Any = reader, size: int = size) -> Any:
            for at in range(0, len(data), size):
                yield from reader.feed(data[at : at + size])
            yield from reader.end()

        try:
            found.append(transformed(chunks(), lambda reader=reader: reader.layout, plan))
        except HostlerError as error:
            found.append(error.message.encode())
    assert found[0] == found[1]
