"""What outputs are called."""

from __future__ import annotations

import pytest

from hostler.jobs.transform.naming import (
    errors_key,
    folder_of,
    is_errors,
    is_marker,
    is_output,
    marker_name,
    output_name,
    place_of,
    relative_name,
    shown,
    url_of,
    whole_key,
)
from hostler.jobs.transform.plan import Input, Naming, Output, Plan, Source


@pytest.mark.parametrize(
    ("prefix", "key", "relative", "folder"),
    [
        ("data/", "data/a/x.csv", "a/x.csv", "data/a/x.csv"),
        ("data", "data/a/x.csv", "a/x.csv", "data/a/x.csv"),
        ("in/data/", "in/data/x.csv", "x.csv", "data/x.csv"),
        ("in/part-", "in/part-1.csv", "part-1.csv", "part-1.csv"),
        ("in/part-", "in/part-1/x.csv", "part-1/x.csv", "part-1/x.csv"),
        ("in/x.csv", "in/x.csv", "x.csv", "x.csv"),
        ("x.csv", "x.csv", "x.csv", "x.csv"),
        ("", "a/x.csv", "a/x.csv", "a/x.csv"),
        ("pa", "part/x", "part/x", "part/x"),
    ],
)
def test_names(prefix: str, key: str, relative: str, folder: str) -> None:
    assert relative_name(prefix, key, Naming.RELATIVE) == relative
    assert relative_name(prefix, key, Naming.FOLDER) == folder


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        (output_name("a/x.csv"), "a/x.csv.errors.jsonl"),
        (output_name("a/x.out"), "a/x.out.errors.jsonl"),
        (output_name("x.parquet"), "x.parquet.errors.jsonl"),
        ("x.csv.out.parquet", "x.csv.errors.jsonl"),
        ("part-00001.out.parquet", "part-00001.errors.jsonl"),
    ],
)
def test_set_aside_records_lie_beside_the_output(output: str, errors: str) -> None:
    assert errors_key(output) == errors
    assert is_errors(errors)
    assert not is_output(errors)


@pytest.mark.parametrize(
    ("key", "folder"), [("out", "out/"), ("out/", "out/"), ("", ""), ("/", ""), ("a/b", "a/b/")]
)
def test_an_output_url_is_a_folder(key: str, folder: str) -> None:
    assert folder_of(key) == folder


def test_places() -> None:
    assert place_of("s3://a/b/c") == "s3://a"
    assert place_of("s3://a") == "s3://a"
    assert place_of("file:///a/b") == place_of("file:///c") == "file://"
    assert place_of("FILE://localhost/c") == "file://"
    assert place_of("S3://a/b") == "s3://a"
    assert whole_key("file://localhost/a%20b/c") == "a b/c"
    assert whole_key("s3://bucket/a%20b") == "a%20b"


def test_signatures_of_web_addresses_are_not_shown() -> None:
    assert shown("https://host/a?X-Amz-Signature=1") == "https://host/a"
    assert shown("s3://bucket/what?") == "s3://bucket/what?"


@pytest.mark.parametrize(
    ("url", "key", "other", "wanted"),
    [
        ("s3://b/in/data", "in/data", "in/data2/x y", "s3://b/in/data2/x y"),
        ("s3://b/out", "out/", "out/x", "s3://b/out/x"),
        ("s3://b", "", "x", "s3://b/x"),
        ("file:///data/a%20b/", "data/a b/", "data/a b/c d", "file:///data/a%20b/c%20d"),
        ("file:///data/out", "out/", "out/x", "file:///data/out/x"),  # of a store that is a folder
        ("file:///data/", "", "x", "file:///data/x"),
        ("https://host/a/list.json?X-Amz-Signature=1", "a/list.json", "a/x", "https://host/a/x"),
    ],
)
def test_urls_of_objects(url: str, key: str, other: str, wanted: str) -> None:
    assert url_of(url, key, other) == wanted


def _plan(read: str, written: str, source: Source, naming: Naming) -> Plan:
    return Plan(
        name="job",
        input=Input(url=read, source=source),
        output=Output(url=written, naming=naming),
    )


def test_a_marker_is_called_by_the_place_of_its_job() -> None:
    places = [
        ("file:///in/a%20b", "file:///out", Source.PREFIX, Naming.RELATIVE),
        ("file:///in/a%20b/", "file:///out", Source.PREFIX, Naming.RELATIVE),
        ("file:///in/a%20b", "file:///in", Source.PREFIX, Naming.RELATIVE),
        ("file:///in/a%20b", "file:///out", Source.MANIFEST, Naming.RELATIVE),
        ("file:///in/a%20b", "file:///out", Source.PREFIX, Naming.FOLDER),
    ]
    names = [marker_name(_plan(*place)) for place in places]
    assert len(set(names)) == len(places)
    assert all(is_marker(name) and is_marker(f"a/b/{name}") for name in names)
    same = _plan("FILE://localhost/in/a b", "file:///out/", Source.PREFIX, Naming.RELATIVE)
    assert marker_name(same) == names[0]


@pytest.mark.parametrize(
    "key",
    ["a.json", "hostler-transform-0123456789ab.json", ".hostler-transform-0123456789ab.json.out"],
)
def test_what_is_no_marker(key: str) -> None:
    assert not is_marker(key)
