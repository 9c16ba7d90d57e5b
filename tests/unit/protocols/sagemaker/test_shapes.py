"""Requests against shapes."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker.shapes import (
    Blob,
    Flag,
    ListOf,
    MapOf,
    Moment,
    Number,
    Structure,
    Text,
    read,
    write,
)

NAME = Text(high=5, pattern="[a-z]+")
UNION = Structure("U", {"A": Flag(), "B": Flag()}, union=True)
SHAPE = Structure(
    "Request",
    {
        "ThingName": NAME,
        "Mode": Text(allowed=("On", "Off")),
        "Count": Number(True, 32, 1, 9),
        "Big": Number(True, 64),
        "Ratio": Number(False, 32, 0),
        "Double": Number(False, 64),
        "Flag": Flag(),
        "When": Moment(),
        "Data": Blob(1, 4),
        "Parts": ListOf(Structure("Part", {"Key": NAME}, frozenset({"Key"})), 1, 3),
        "Map": MapOf(NAME, Text(low=1, high=3), 0, 2),
        "S3Uri": Text(high=4),
        "Secret": Text(high=1, secret=True),
        "Renamed": Flag(),
        "Union": UNION,
    },
    frozenset({"ThingName"}),
    {"Renamed": "renamed"},
)


def failure(**sent: Any) -> HostlerError:
    with pytest.raises(HostlerError) as raised:
        read(SHAPE, {"ThingName": "a", **sent})
    assert raised.value.code is Code.INVALID_ARGUMENT
    return raised.value


def test_a_good_request_is_read_whole() -> None:
    sent = {
        "ThingName": "abc",
        "Mode": "On",
        "Count": 3.0,
        "Big": 1 << 62,
        "Ratio": 1,
        "Double": 1e300,
        "Flag": False,
        "When": 1_700_000_000.25,
        "Data": "AAEC",
        "Parts": [{"Key": "k", "Unknown": 1}],
        "Map": {"k": "v"},
        "renamed": True,
        "Union": {"B": True},
        "Unknown": {"deep": []},
    }
    found = read(SHAPE, sent)
    expected = {k: v for k, v in sent.items() if k not in ("Unknown", "renamed")}
    expected |= {"Data": b"\0\1\2", "Renamed": True, "Parts": [{"Key": "k"}]}
    assert found == expected
    assert type(found["Count"]) is int
    assert type(found["Ratio"]) is float


def test_null_is_absent() -> None:
    assert read(SHAPE, {"ThingName": "a", "Mode": None}) == {"ThingName": "a"}


FAILED = "failed to satisfy constraint: "
MEMBER = FAILED + "Member must "
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"ThingName": "A"},
        f"Value 'A' at 'thingName' {MEMBER}satisfy regular expression pattern: [a-z]+",
    ),
    ({"ThingName": "a\n"}, "regular expression pattern"),
    ({"ThingName": "abcdef"}, f"{MEMBER}have length less than or equal to 5"),
    ({"ThingName": None}, f"Value null at 'thingName' {MEMBER}not be null"),
    ({"Mode": "on"}, f"Value 'on' at 'mode' {MEMBER}satisfy enum value set: [On, Off]"),
    ({"Count": 0}, f"Value '0' at 'count' {MEMBER}have value greater than or equal to 1"),
    ({"Count": 10}, f"{MEMBER}have value less than or equal to 9"),
    ({"Ratio": -1}, f"{MEMBER}have value greater than or equal to 0"),
    ({"Parts": []}, f"Value '[]' at 'parts' {MEMBER}have length greater than or equal to 1"),
    ({"Parts": [{"Key": "a"}] * 4}, f"{MEMBER}have length less than or equal to 3"),
    ({"Parts": [{"Key": "a"}, {}]}, "Value null at 'parts.2.member.key'"),
    ({"Parts": [None]}, "Value null at 'parts.1.member'"),
    ({"Map": {"a": "b", "c": "d", "e": "f"}}, f"at 'map' {MEMBER}have length less than"),
    (
        {"Map": {"A": "b"}},
        f"'A' at 'map' {FAILED}Map keys must satisfy constraint: [Member must sat",
    ),
    ({"Map": {"a": ""}}, "Value '' at 'map.a.member'"),
    ({"Map": {"a": None}}, "Value null at 'map.a.member'"),
    ({"S3Uri": "12345"}, "at 's3Uri'"),
    ({"Data": ""}, "greater than or equal to 1"),
    ({"Data": "AAECAwQ="}, "less than or equal to 4"),
]


@pytest.mark.parametrize(("sent", "said"), WRONG, ids=[str(row[0])[:40] for row in WRONG])
def test_what_is_wrong_is_said(sent: dict[str, Any], said: str) -> None:
    error = failure(**sent)
    assert error.message.startswith("1 validation error detected: ")
    assert said in error.message
    assert "aws" not in error.details


def test_all_that_is_wrong_is_said_at_once() -> None:
    error = failure(ThingName="A", Mode="x", Count=99)
    first, *rest = error.message.split("; ")
    assert first.startswith("3 validation errors detected: Value 'A' at 'thingName'")
    assert len(rest) == 2


def test_a_flood_of_faults_is_cut() -> None:
    shape = Structure("R", {"L": ListOf(NAME)})
    with pytest.raises(HostlerError) as raised:
        read(shape, {"L": ["A"] * 5000})
    assert raised.value.message.startswith("5000 validation errors detected")
    assert len(raised.value.message) < 5000


def test_secrets_are_not_shown() -> None:
    assert "xyz" not in failure(Secret="xyz").message
    assert "Value at 'secret'" in failure(Secret="xyz").message
    assert "AAEC" not in failure(Data="AAECAwQF").message


def test_long_values_are_cut() -> None:
    assert len(failure(S3Uri="x" * 100_000).message) < 600


UNFIT: list[dict[str, Any]] = [
    {"ThingName": 1},
    {"ThingName": ["a"]},
    {"Mode": True},
    {"Count": "1"},
    {"Count": True},
    {"Count": 1.5},
    {"Count": 1 << 31},
    {"Big": 1 << 63},
    {"Ratio": "1"},
    {"Ratio": 1e39},
    {"Flag": 1},
    {"Flag": "true"},
    {"When": "2024-01-01"},
    {"When": 1e12},
    {"When": True},
    {"Data": "*"},
    {"Data": 1},
    {"Parts": {}},
    {"Parts": ["a"]},
    {"Map": []},
    {"Union": {}},
    {"Union": {"A": True, "B": True}},
]


@pytest.mark.parametrize("sent", UNFIT, ids=[str(row) for row in UNFIT])
def test_another_type_is_no_request(sent: dict[str, Any]) -> None:
    error = failure(**sent)
    assert error.details == {"aws": "SerializationException"}
    (name,) = sent
    assert name[0].lower() + name[1:] in error.message


@pytest.mark.parametrize("sent", [[], "a", 1, None, True])
def test_a_request_is_an_object(sent: Any) -> None:
    with pytest.raises(HostlerError, match="the request"):
        read(SHAPE, sent)


def test_a_shape_may_contain_itself() -> None:
    tree = Structure("Tree", {"Name": NAME})
    tree.members["Below"] = ListOf(tree)
    value = {"Name": "a", "Below": [{"Name": "b", "Below": []}]}
    assert read(tree, value) == value
    with pytest.raises(HostlerError, match=r"'below\.1\.member\.name'"):
        read(tree, {"Below": [{"Name": "B"}]})


def test_answers_are_written_by_their_shape() -> None:
    value = {
        "ThingName": "not [a-z] at all",
        "Count": 3.0,
        "Ratio": 1,
        "When": 5,
        "Data": b"\0\1\2",
        "Parts": [{"Key": "k", "Old": 1}],
        "Map": {"k": "v"},
        "Renamed": True,
        "Mode": None,
        "Unknown": 1,
    }
    assert write(SHAPE, value) == {
        "ThingName": "not [a-z] at all",
        "Count": 3,
        "Ratio": 1.0,
        "When": 5.0,
        "Data": "AAEC",
        "Parts": [{"Key": "k"}],
        "Map": {"k": "v"},
        "renamed": True,
    }
    with pytest.raises(TypeError):
        write(SHAPE, {"ThingName": 5})
