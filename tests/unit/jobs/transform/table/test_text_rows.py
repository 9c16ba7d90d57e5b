"""JSON Lines and CSV, whatever pieces they come in."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.core import Code, HostlerError, Signature
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table import csv_rows
from hostler.jobs.transform.table.chunks import Fault
from hostler.jobs.transform.table.csv_rows import CsvReader
from hostler.jobs.transform.table.faults import fault_line
from hostler.jobs.transform.table.json_rows import JsonLinesReader
from hostler.jobs.transform.table.lines import Lines
from tests.fakes.tables import spec

SIGNATURE = Signature((spec("x", "FP32", -1),), (), batched=True)
ONE = Signature((spec("x", "INT64", 1),), (), batched=True)


def read(
    reader: CsvReader | JsonLinesReader, data: bytes, step: int = 1 << 20
) -> tuple[list[Any], list[Any], list[int], dict[int, str]]:
    """Inputs, kept columns, places and faults of all rows."""
    inputs: list[Any] = []
    kept: list[Any] = []
    places: list[int] = []
    faults: dict[int, str] = {}
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    for chunk in [*chunks, *reader.end()]:
        inputs += chunk.inputs.to_pylist()
        kept += chunk.kept.to_pylist() if chunk.kept.num_columns else []
        places += chunk.rows.tolist()
        faults |= {fault.row: fault.reason for fault in chunk.faults}
    return inputs, kept, places, faults


def lines(signature: Signature = SIGNATURE, **table: Any) -> JsonLinesReader:
    return JsonLinesReader(signature, Table(form=TableForm.JSON_LINES, **table))


def cells(signature: Signature = ONE, **table: Any) -> CsvReader:
    return CsvReader(signature, Table(form=TableForm.CSV, **table))


JSON = b'{"x": [1, 2.5], "id": 7}\n\n{"id": 8, "x": [3]}'
CSV = b'\xef\xbb\xbfx,"a ""b"""\r\n1,"two\nlines"\r\n\r\n3,"q,"'


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_json_lines_however_they_come(step: int) -> None:
    reader = lines(keep=["id"])
    inputs, kept, places, faults = read(reader, JSON, step)
    assert inputs == [{"x": [1.0, 2.5]}, {"x": [3.0]}]
    assert (kept, places, faults) == ([{"id": 7}, {"id": 8}], [0, 1], {})
    assert reader.layout is not None
    assert str(reader.layout.kept[0].type) == "int64"


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_csv_however_it_comes(step: int) -> None:
    inputs, kept, places, faults = read(cells(keep=["*"]), CSV, step)
    assert inputs == [{"x": "1"}, {"x": "3"}]
    assert kept == [{"x": "1", 'a "b"': "two\nlines"}, {"x": "3", 'a "b"': "q,"}]
    assert (places, faults) == ([0, 1], {})


def test_bad_lines_of_json_are_told_by_line_and_column() -> None:
    data = b'{"x":[1],"id":1}\n{"x":["a"],"id":2}\nnonsense\n[1]\n{"x":[2],"id":"b"}\n{"x":[3]}\n'
    good = b'{"x":[0],"id":0}\n' * 1000
    inputs, kept, places, faults = read(lines(keep=["id"]), good + data)
    assert [row["x"] for row in inputs[1000:]] == [[1.0], [3.0]]
    assert kept[1000:] == [{"id": 1}, {"id": None}]
    assert places[1000:] == [1000, 1005]
    assert list(faults) == [1001, 1002, 1003, 1004]
    assert faults[1001].startswith("line 1002: column 'x' holds ['a'], which is no list")
    assert "not valid JSON" in faults[1002]
    assert "no JSON object" in faults[1003]
    assert faults[1004].startswith("line 1005: column 'id' holds 'b', which is no int64")


def test_types_do_not_hang_on_the_pieces() -> None:
    data = b'{"x":[1],"v":1}\n' * 999 + b'{"x":[1],"v":1.5}\n' + b'{"x":[1],"v":2}\n' * 3
    found = []
    for step in (1 << 20, 100):
        reader = lines(keep=["v"])
        found.append(read(reader, data, step))
        assert reader.layout is not None
        assert str(reader.layout.kept[0].type) == "double"
    assert found[0] == found[1]


def test_kept_columns_without_one_type_are_json() -> None:
    data = b'{"x":[1],"a":null,"b":{"c":1},"d":1}\n{"x":[1],"b":{"e":[]},"d":"2"}\n'
    late = b'{"x":[1],"a":"t"}'
    _, kept, _, faults = read(lines(keep=["a", "b", "d"]), data * 500 + late)
    assert not faults
    assert kept[:2] == [
        {"a": None, "b": '{"c":1}', "d": "1"},
        {"a": None, "b": '{"e":[]}', "d": '"2"'},
    ]
    assert kept[-1] == {"a": '"t"', "b": None, "d": None}


def test_texts_and_bytes_of_json() -> None:
    signature = Signature((spec("t", "BYTES", 1),), (), batched=True)
    data = '{"t": "ä"}\n{"t": {"b64": "/w=="}}\n{"t": 1}\n{"t": {"b64": "?"}}'.encode()
    inputs, _, _, faults = read(lines(signature), data)
    assert inputs == [{"t": "ä".encode()}, {"t": b"\xff"}]
    assert list(faults) == [2, 3]


def test_bad_lines_of_csv_are_told_by_line() -> None:
    inputs, _, places, faults = read(cells(), b"x,y\n1\n2,a\n3,\xff\n4,b,c\n5,d\n")
    assert [row["x"] for row in inputs] == ["2", "5"]
    assert places == [1, 4]
    assert faults == {
        0: "line 2: it has 1 columns, but the first line names 2",
        2: "line 4: it is not UTF-8",
        3: "line 5: it has 3 columns, but the first line names 2",
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x,x\n1,2\n", "names two columns 'x'"),
        (b'x\n"1\n', "line 2 is not valid CSV"),
        (b'x\n"1"2\n', "line 2 is not valid CSV"),
        (b"y,z\n1,2\n", "no column is named for input 'x'"),
    ],
)
def test_csv_that_cannot_be_read(data: bytes, said: str) -> None:
    with pytest.raises(HostlerError, match=said) as caught:
        read(cells(), data)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("reader", [lines(keep=["id"]), cells(keep=["id"])])
def test_an_empty_table_has_the_columns_that_are_asked_for(reader: Any) -> None:
    assert read(reader, b"") == ([], [], [], {})
    assert [field.name for field in reader.layout.kept] == ["id"]


@pytest.mark.parametrize("reader", [lines(keep=["nope"]), cells(keep=["nope"])])
def test_unknown_columns_are_not_kept(reader: Any) -> None:
    with pytest.raises(HostlerError, match="'nope' is to be kept, but is not there"):
        read(reader, b"x\n1\n" if isinstance(reader, CsvReader) else b'{"x": [1]}')


def test_a_line_without_end_is_refused() -> None:
    found = Lines(bytes_max=8)
    assert found.feed(b"12345\n6789") == [b"12345\n"]
    with pytest.raises(HostlerError) as caught:
        found.feed(b"12345")
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("levels", [252, 300, 1000])
@pytest.mark.parametrize("ends", ["[]", "{}"])
@pytest.mark.parametrize("form", [TableForm.JSON_LINES, TableForm.PARQUET])
def test_a_row_that_is_nested_too_deeply_is_bad_alone(
    levels: int, ends: str, form: TableForm
) -> None:
    begin = "[" if ends == "[]" else '{"a":'
    deep = begin * levels + "1" + ends[1] * levels
    data = "\n".join(['{"x":[1],"k":1}', f'{{"x":[2],"k":{deep}}}', f'{{"x":{deep},"k":2}}'])
    reader = lines(keep=["k"], output_form=form)
    inputs: list[Any] = []
    faults: list[Fault] = []
    for chunk in [*reader.feed(data.encode()), *reader.end()]:
        inputs += chunk.inputs.to_pylist()
        faults += chunk.faults
    assert inputs[0] == {"x": [1.0]}
    assert len(inputs) + len(faults) == 3
    for fault in faults:
        assert fault_line(fault).startswith(b'{"record":')
        assert "nested more than 252 levels" in fault.reason or levels == 252
    assert levels == 252 or len(faults) == 2


def test_brackets_in_texts_nest_nothing() -> None:
    data = b'{"x":[1],"k":"' + b"[{" * 500 + b'"}'
    inputs, kept, _, faults = read(lines(keep=["k"]), data)
    assert (inputs, len(kept), faults) == ([{"x": [1.0]}], 1, {})


def test_lists_too_deep_for_parquet_are_kept_as_text() -> None:
    reader = lines(keep=["k"], output_form=TableForm.PARQUET)
    _, kept, _, _ = read(reader, b'{"x":[1],"k":' + b"[" * 17 + b"1" + b"]" * 17 + b"}")
    assert kept == [{"k": "[" * 17 + "1" + "]" * 17}]


def test_an_open_quote_costs_no_more_than_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0

    class Counting(csv_rows._Feed):
        def __next__(self) -> str:
            nonlocal fed
            fed += 1
            return super().__next__()

    monkeypatch.setattr(csv_rows, "_Feed", Counting)
    data = b'x,t\n1,"' + b"a,b\n" * 20_000 + b'"\n2,c\n'
    inputs, *_ = read(cells(), data, step=100)
    assert inputs == [{"x": "1"}, {"x": "2"}]
    assert fed < 20_000 * 5


def test_a_row_of_short_lines_counts_for_the_memory_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_rows, "LINE_BYTES_MAX", 10_000)
    with pytest.raises(HostlerError, match="line 2 takes more than 10000 bytes; is a quote"):
        read(cells(), b'x\n"' + b"\n" * 1000, step=100)


def test_a_column_named_twice_among_many() -> None:
    names = ",".join([*(f"c{number}" for number in range(50_000)), "c49999"])
    with pytest.raises(HostlerError, match="two columns 'c49999'"):
        read(cells(), names.encode() + b"\n")
