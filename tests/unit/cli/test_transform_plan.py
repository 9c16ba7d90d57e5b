"""What is typed at `hostler transform`, and what names of objects say, becomes a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostler.cli.failures import Misuse
from hostler.cli.transform_options import Arguments, OnError
from hostler.cli.transform_plan import assumed, looks, plan_of, url_of
from hostler.jobs import Assemble, Split, Strategy, TableForm


def typed(**values: Any) -> Arguments:
    values.setdefault("input", "s3://in/rows/")
    return Arguments(model="m", output=values.pop("output", "s3://out/answers"), **values)


@pytest.mark.parametrize(
    ("first", "content_type", "split", "strategy", "assemble", "gzip"),
    [
        ("a.csv", "text/csv", Split.LINE, Strategy.MULTI, Assemble.LINE, False),
        ("x/a.jsonl", "application/jsonlines", Split.LINE, Strategy.MULTI, Assemble.LINE, False),
        ("a.CSV.gz", "text/csv", Split.LINE, Strategy.MULTI, Assemble.LINE, True),
        ("a.jpg", "image/jpeg", Split.NONE, Strategy.SINGLE, Assemble.NONE, False),
        ("a.tfrecord", "", Split.TFRECORD, Strategy.SINGLE, Assemble.LINE, False),
        ("a.rec", "", Split.RECORDIO, Strategy.SINGLE, Assemble.LINE, False),
        ("a.json", "application/json", Split.NONE, Strategy.SINGLE, Assemble.NONE, False),
    ],
)
def test_names_say_what_objects_are(
    first: str,
    content_type: str,
    split: Split,
    strategy: Strategy,
    assemble: Assemble,
    gzip: bool,
) -> None:
    plan = plan_of(typed(), first)
    found = (plan.input.content_type, plan.split, plan.strategy, plan.output.assemble)
    assert found == (content_type, split, strategy, assemble)
    assert plan.input.gzip is gzip
    assert plan.table is None
    assert first.rpartition("/")[2] in assumed(typed(), plan, first)


def test_parquet_is_a_table() -> None:
    plan = plan_of(typed(keep=["id"], map=["x=a,b"], column=["scores=s"]), "a.parquet")
    assert plan.table is not None
    assert plan.table.form is TableForm.PARQUET
    assert plan.table.inputs == {"x": ["a", "b"]}
    assert plan.table.outputs == {"s": "scores"}
    assert plan.table.keep == ["id"]


def test_what_is_typed_wins() -> None:
    arguments = typed(
        content_type="application/json", split=Split.NONE, gzip=False, accept="text/csv"
    )
    assert not looks(arguments)
    plan = plan_of(arguments, "")
    assert plan.input.content_type == "application/json"
    assert plan.output.accept == "text/csv"
    assert plan.split is Split.NONE
    assert assumed(arguments, plan, "") == ""


def test_the_same_places_give_the_same_name() -> None:
    """So that the same command goes on with the same job."""
    assert plan_of(typed(), "a.csv").name == plan_of(typed(retries=1), "a.csv").name
    assert plan_of(typed(), "a.csv").name != plan_of(typed(output="s3://o/"), "a.csv").name


@pytest.mark.parametrize(
    ("values", "first", "said"),
    [
        ({}, "a.bin", "--content-type"),
        ({}, "README", "--table"),
        ({"errors_max": 3}, "a.csv", "--on-error skip"),
        ({"keep": ["id"]}, "a.csv", "--table"),
        ({"map": ["x"], "table": TableForm.CSV}, "", "NAME=COLUMN"),
        ({"column": ["x=a", "x=b"], "table": TableForm.CSV}, "", "twice"),
        ({"max_payload": "lots"}, "a.csv", "--max-payload lots"),
        ({"timeout": "2h"}, "a.csv", "an hour"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], first: str, said: str) -> None:
    with pytest.raises(Misuse, match=said):
        plan_of(typed(**values), first)


def test_errors_may_be_skipped() -> None:
    plan = plan_of(typed(on_error=OnError.SKIP, errors_max=7), "a.csv")
    assert plan.errors.skip
    assert plan.errors.records_max == 7


def test_paths_become_urls(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "x.csv").touch()
    assert url_of(str(folder)) == f"file://{tmp_path}/a%20b/"
    assert url_of(str(folder / "x.csv")) == f"file://{tmp_path}/a%20b/x.csv"
    assert url_of(str(tmp_path / "new"), folder=True) == f"file://{tmp_path}/new/"
    assert url_of("s3://b/p") == "s3://b/p"
    assert url_of("s3://b/p", folder=True) == "s3://b/p/"
    with pytest.raises(Misuse, match="no such"):
        url_of(str(tmp_path / "missing"))
