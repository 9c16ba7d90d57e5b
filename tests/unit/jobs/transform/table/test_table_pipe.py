"""Tables from their files to their outputs, with a model that answers at once."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hostler.core import Code, HostlerError, ImageRule, InferRequest, Signature, Tensor
from hostler.jobs.transform.plan import Table, TableForm
from tests.fakes.tables import TableJob, TensorModel, doubled, spec

PARQUET = TableForm.PARQUET
X2 = Signature((spec("x", "FP32", 2),), (spec("y", "FP32", 2),), batched=True)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from hostler.jobs.transform.table import asking

    monkeypatch.setattr(asking, "pause_s", lambda tries, error=None: 0)


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(data)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def job(folder: Path, model: TensorModel | None = None, **options: Any) -> TableJob:
    names = ("output_form", "inputs", "outputs", "keep", "rows", "part_objects")
    table = {name: options.pop(name) for name in names if name in options}
    form = options.pop("form", PARQUET)
    return TableJob(folder, model or TensorModel(X2, doubled), Table(form=form, **table), **options)


def numbered(count: int) -> dict[str, Any]:
    return {"id": list(range(count)), "x": [[i, i + 0.5] for i in range(count)]}


def set_aside(folder: Path) -> list[Any]:
    found = folder / "out" / "result.errors.jsonl"
    return [json.loads(line) for line in found.read_bytes().splitlines()] if found.exists() else []


def test_a_row_group_larger_than_a_batch_comes_out_in_its_order(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(10_000), row_group_size=10_000))
    found = job(tmp_path, keep=["id"], rows=300)
    outcome = found.run("a.parquet")
    assert (outcome.error, outcome.records, outcome.skipped) == ("", 10_000, 0)
    table = pq.read_table(found.output())
    assert table.column_names == ["id", "y"]
    assert table["id"].to_pylist() == list(range(10_000))
    assert table["y"].to_pylist() == [[2 * i, 2 * i + 1] for i in range(10_000)]
    assert max(found.model.asked) == 300
    assert outcome.bytes_written == found.output().stat().st_size
    assert (
        outcome.bytes_read
        == found.progress.bytes_done
        == (tmp_path / "in/a.parquet").stat().st_size
    )
    assert found.progress.records == 10_000


@pytest.mark.parametrize("output", [PARQUET, TableForm.JSON_LINES, TableForm.CSV])
@pytest.mark.parametrize("form", [PARQUET, TableForm.JSON_LINES, TableForm.CSV])
def test_every_form_to_every_form(tmp_path: Path, form: TableForm, output: TableForm) -> None:
    data = {
        PARQUET: parquet({"a": [1, 2], "b": [0.5, 1.5], "n": ["p", "q"]}),
        TableForm.JSON_LINES: b'{"a":1,"b":0.5,"n":"p"}\n{"a":2,"b":1.5,"n":"q"}\n',
        TableForm.CSV: b"a,b,n\n1,0.5,p\n2,1.5,q\n",
    }[form]
    put(tmp_path, "t", data)
    found = job(tmp_path, form=form, output_form=output, inputs={"x": ["a", "b"]}, keep=["n"])
    assert found.run("t").error == ""
    if output is PARQUET:
        rows = pq.read_table(found.output()).to_pylist()
        assert rows == [{"n": "p", "y": [2, 1]}, {"n": "q", "y": [4, 3]}]
    else:
        text = {
            TableForm.JSON_LINES: '{"n":"p","y":[2.0,1.0]}\n{"n":"q","y":[4.0,3.0]}\n',
            TableForm.CSV: 'n,y\np,"[2.0,1.0]"\nq,"[4.0,3.0]"\n',
        }[output]
        assert found.output().read_text() == text


def test_compressed_text_is_inflated(tmp_path: Path) -> None:
    put(tmp_path, "t", gzip.compress(b"a,b\n1,2\n"))
    found = job(tmp_path, form=TableForm.CSV, gzip=True, output_form=TableForm.CSV)
    assert found.run("t").records == 1
    assert found.output().read_text() == 'y\n"[2.0,4.0]"\n'


@pytest.mark.parametrize("form", [PARQUET, TableForm.JSON_LINES, TableForm.CSV])
def test_a_table_without_rows_has_an_output_without_rows(tmp_path: Path, form: TableForm) -> None:
    empty = pa.table({"x": pa.array([], pa.list_(pa.float32()))})
    sink = io.BytesIO()
    pq.write_table(empty, sink)
    put(tmp_path, "t", sink.getvalue() if form is PARQUET else b"")
    found = job(tmp_path, form=form)
    assert (found.run("t").error, found.model.asked) == ("", [])
    table = pq.read_table(found.output())
    assert (table.num_rows, table.column_names) == (0, ["y"])


def test_bad_rows_are_set_aside_with_their_values(tmp_path: Path) -> None:
    rows = numbered(1000)
    rows["x"][17] = [1.0, None]
    rows["x"][900] = [1.0]
    put(tmp_path, "a.parquet", parquet(rows))
    bad = TensorModel(X2, doubled, bad=lambda r: bool((r.inputs["x"].numpy() == 500).any()))
    found = job(tmp_path, bad, keep=["id"], skip=True)
    outcome = found.run("a.parquet")
    assert (outcome.error, outcome.records, outcome.skipped) == ("", 997, 3)
    expected = [i for i in range(1000) if i not in (17, 500, 900)]
    assert pq.read_table(found.output())["id"].to_pylist() == expected
    assert pq.read_table(found.output())["y"].to_pylist() == [[2 * i, 2 * i + 1] for i in expected]
    aside = set_aside(tmp_path)
    assert [line["record"] for line in aside] == [17, 500, 900]
    assert aside[0]["data"] == {"id": 17, "x": [1.0, None]}
    assert (aside[1]["code"], aside[1]["error"]) == ("MODEL_ERROR", "the model does not like it")


def test_bad_lines_are_set_aside_as_they_stand(tmp_path: Path) -> None:
    good = ['{"x":[1,2],"id":0}', '{"x":[3,4],"id":3}']
    bad = ['{"x": [1.0, null],  "id": "7"}', '{"x":[5e2,1.50], "more":{"b":1E3}}', '{"x":']
    put(tmp_path, "t", "\r\n".join([good[0], *bad, good[1]]).encode())
    model = TensorModel(X2, doubled, bad=lambda r: bool((r.inputs["x"].numpy() == 500).any()))
    found = job(tmp_path, model, form=TableForm.JSON_LINES, keep=["id"], skip=True)
    outcome = found.run("t")
    assert (outcome.error, outcome.records, outcome.skipped) == ("", 2, 3)
    assert [line["data"] for line in set_aside(tmp_path)] == bad


def test_the_pieces_of_a_request_that_the_models_code_fails_on_take_no_pauses(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(64)))
    model = TensorModel(X2, doubled, bad=lambda r: bool((r.inputs["x"].numpy() == 10).any()))
    found = job(tmp_path, model, keep=["id"], skip=True, retries_max=1)
    assert found.run("a.parquet").skipped == 1
    assert model.asked == [64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]


@pytest.mark.parametrize("place", [0, 255, 256, 999])
def test_the_first_bad_row_fails_its_table(tmp_path: Path, place: int) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(1000)))
    bad = TensorModel(X2, doubled, bad=lambda r: bool((r.inputs["x"].numpy() == place).any()))
    found = job(tmp_path, bad)
    outcome = found.run("a.parquet")
    assert outcome.code is Code.MODEL_ERROR
    assert outcome.error.startswith(f"a.parquet: record {place} (from 0): the model does not like")
    assert list((tmp_path / "out").iterdir()) == []
    assert (found.progress.records, found.progress.bytes_done) == (0, 0)


def test_a_value_that_does_not_fit_fails_its_table(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", b'{"x":[1,2]}\n{"x":[1,null]}\n')
    outcome = job(tmp_path, form=TableForm.JSON_LINES).run("a.jsonl")
    assert outcome.error.startswith("a.jsonl: record 1 (from 0): column 'x' holds null; mend it")


def test_too_many_bad_rows_end_the_job(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", b'{"x":[1,2]}\n' + b"bad\n" * 3)
    found = job(tmp_path, form=TableForm.JSON_LINES, skip=True, bad_max=2)
    with pytest.raises(HostlerError, match="3 records were set aside, more than the 2") as caught:
        found.run("a.jsonl")
    assert caught.value.details["ends_job"]
    assert list((tmp_path / "out").iterdir()) == []


def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(5)))
    gone = HostlerError(Code.UNAVAILABLE, "it is gone")
    found = job(tmp_path, TensorModel(X2, doubled, failures=[gone, gone]), retries_max=2)
    assert found.run("a.parquet").records == 5
    found = job(tmp_path, TensorModel(X2, doubled, failures=[gone] * 3), retries_max=2, skip=True)
    outcome = found.run("a.parquet")
    assert (outcome.code, outcome.error) == (Code.UNAVAILABLE, "a.parquet: it is gone")


def test_a_model_that_is_out_of_reach_is_no_end_of_the_job(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(5)))
    model = TensorModel(HostlerError(Code.UNAVAILABLE, "it is gone"), doubled)
    assert job(tmp_path, model).run("a.parquet").code is Code.UNAVAILABLE


async def test_a_table_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(50_000)))
    asked = asyncio.Event()

    class Hanging(TensorModel):
        async def infer(self, requests: Any, timeout_s: float) -> Any:
            if len(self.asked) > 20:
                asked.set()
                await asyncio.Event().wait()
            return await super().infer(requests, timeout_s)

    found = job(tmp_path, Hanging(X2, doubled))
    running = asyncio.create_task(found.start(await found.task("a.parquet")))
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert found.window.used == 0
    assert not found.window.turn.locked()
    assert list((tmp_path / "out").iterdir()) == []
    assert (found.progress.records, found.progress.bytes_done) == (0, 0)


def test_one_request_at_a_time_where_the_plan_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(1000)))
    found = job(tmp_path, rows=100, concurrency=1)
    assert found.run("a.parquet").records == 1000
    assert found.model.at_once == 1


def test_models_without_tensors_take_no_tables(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet(numbered(1)))
    with pytest.raises(HostlerError, match="takes bodies as they come") as caught:
        job(tmp_path, TensorModel(None)).run("a.parquet")
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [0, 3, 100, 600])
def test_damaged_parquet_is_said_to_be_that(tmp_path: Path, size: int) -> None:
    whole = parquet(numbered(1000))
    put(tmp_path, "a.parquet", whole[:size] + (whole[-500:] if size == 600 else b""))
    outcome = job(tmp_path).run("a.parquet")
    assert outcome.code is Code.INVALID_ARGUMENT
    assert "cannot be read as Parquet" in outcome.error


def test_a_name_with_a_dot_is_no_member_of_another(tmp_path: Path) -> None:
    columns = {"x": [[1.0, 2.0]], "s": [{"t": 1}], "s.t": [5], "x.y": [6]}
    put(tmp_path, "a.parquet", parquet(columns))
    found = job(tmp_path, keep=["s.t", "s"])
    assert found.run("a.parquet").error == ""
    assert pq.read_table(found.output()).to_pylist() == [{"s.t": 5, "s": {"t": 1}, "y": [2.0, 4.0]}]


@pytest.mark.parametrize(("keep", "error"), [(["k"], True), (["*"], True), (["x"], False)])
def test_columns_of_one_name_are_not_asked_for(
    tmp_path: Path, keep: list[str], error: bool
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table([[[1.0, 2.0]], [1], [2]], names=["x", "k", "k"]), sink)
    put(tmp_path, "a.parquet", sink.getvalue())
    assert ("2 columns 'k'" in job(tmp_path, keep=keep).run("a.parquet").error) == error


def test_a_text_that_repeats_takes_no_more_room_than_others(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", parquet({"x": [[1.0, 2.0]] * 300, "t": ["q" * 200_000] * 300}))
    assert (tmp_path / "in/a.parquet").stat().st_size < 100_000
    found = job(tmp_path, keep=["t"])
    assert found.run("a.parquet").records == 300
    assert max(found.model.asked) <= 21  # 4 MiB


def test_without_arrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    put(tmp_path, "a.parquet", parquet(numbered(1)))
    found = job(tmp_path)
    for name in [name for name in sys.modules if name.startswith("pyarrow")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HostlerError, match=r"pip install 'hostler\[parquet\]'") as caught:
        found.run("a.parquet")
    assert caught.value.code is Code.UNIMPLEMENTED


# -- pictures ----------------------------------------------------------------------------------

PICTURES = Signature(
    (spec("image", "FP32", 3, 4, 4),),
    (spec("mean", "FP32", 1),),
    batched=True,
    image=ImageRule(layout="NCHW", scale=1.0),
)


def mean(request: InferRequest) -> list[Tensor]:
    data = np.asarray(request.inputs["image"].numpy(), np.float32).mean((1, 2, 3))
    return [Tensor("mean", spec("", "FP32").datatype, (len(data), 1), data.reshape(-1, 1))]


def test_a_thousand_pictures_and_a_broken_one(tmp_path: Path) -> None:
    names = [f"{index:04}.png" for index in range(1000)]
    for index, name in enumerate(names):
        sink = io.BytesIO()
        Image.new("RGB", (4, 4), (index % 256,) * 3).save(sink, "PNG")
        put(tmp_path, name, b"broken" if index == 500 else sink.getvalue())
    found = job(tmp_path, TensorModel(PICTURES, mean), form=TableForm.IMAGES, skip=True)
    outcome = found.run(*names)
    assert (outcome.error, outcome.records, outcome.skipped) == ("", 999, 1)
    table = pq.read_table(found.output())
    expected = [(name, index % 256) for index, name in enumerate(names) if index != 500]
    assert list(zip(table["path"].to_pylist(), table["mean"].to_pylist(), strict=True)) == expected
    [line] = set_aside(tmp_path)
    assert (line["record"], line["data"]) == (500, {"path": "0500.png"})
    assert "'0500.png'" in line["error"]


def test_a_model_that_takes_no_pictures_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.png", b"")
    model = TensorModel(Signature((spec("x", "INT64", 1),), (spec("y", "INT64", 1),)))
    outcome = job(tmp_path, model, form=TableForm.IMAGES).run("a.png")
    assert outcome.code is Code.INVALID_ARGUMENT


def test_pictures_are_mapped_by_the_model_alone(tmp_path: Path) -> None:
    put(tmp_path, "a.png", b"")
    found = job(
        tmp_path, TensorModel(PICTURES, mean), form=TableForm.IMAGES, inputs={"image": ["path"]}
    )
    assert "leave the inputs out" in found.run("a.png").error
