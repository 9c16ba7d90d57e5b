"""Data capture: which invocations are written down, and how."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

import pytest
from fakes.gateway import FakeClock
from fakes.variants import Case, FakeEndpoint, FakeLines, FakeVariant, HandlerLive

from hostler.core import Code, HostlerError
from hostler.gateway.http.sagemaker.capture import Capture, Seen, new_id
from hostler.serving import CapturePlan

URL = "s3://bucket/prefix/"


def capture() -> tuple[Capture, FakeLines]:
    lines, ids = FakeLines(), count(1)
    return Capture(lines, FakeClock(), lambda: f"id-{next(ids)}"), lines


@pytest.mark.parametrize("percentage", [0, 0.1, 1, 3, 10, 33, 49.9, 50, 99, 99.9, 100])
def test_a_share_is_met_exactly(percentage: float) -> None:
    ours, _ = capture()
    plan = CapturePlan(URL, percentage)
    taken = [ours.wants("e", plan) for _ in range(10_000)]
    assert sum(taken) == round(percentage * 100)
    for begin in range(0, 10_000, 1000):
        assert abs(sum(taken[begin : begin + 1000]) - percentage * 10) <= 1


def test_endpoints_are_counted_apart() -> None:
    ours, _ = capture()
    plan = CapturePlan(URL, 50)
    assert [ours.wants(name, plan) for name in "abab"] == [False, False, True, True]
    assert ours.wants("a", plan) is False
    ours.forget("a")
    assert ours.wants("a", plan) is False


def seen(body: bytes = b"1,2", kind: str = "text/csv; charset=utf-8") -> Seen:
    found = Seen("v", "", kind, body)
    found.answer, found.accept_type = b"[3]", "application/json"
    return found


def written(plan: CapturePlan, found: Seen) -> dict[str, Any]:
    ours, lines = capture()
    ours.write("e", plan, found)
    [(prefix, line)] = lines.lines
    assert prefix == "s3://bucket/prefix/e/v"
    assert b"\n" not in line
    return dict(json.loads(line))


def test_a_line() -> None:
    assert written(CapturePlan(URL, 100), seen()) == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv; charset=utf-8",
                "mode": "INPUT",
                "data": "1,2",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "data": "[3]",
                "encoding": "JSON",
            },
        },
        "eventMetadata": {"eventId": "id-1", "inferenceTime": "2023-11-14T22:15:00Z"},
        "eventVersion": "0",
    }


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ({"outputs": False}, ["endpointInput"]),
        ({"inputs": False}, ["endpointOutput"]),
        ({}, ["endpointInput", "endpointOutput"]),
    ],
)
def test_sides(changes: dict[str, bool], sides: list[str]) -> None:
    assert sorted(written(CapturePlan(URL, 100, **changes), seen())["captureData"]) == sides


@pytest.mark.parametrize(
    ("kind", "body", "encoding"),
    [
        ("TEXT/CSV", b"1", "CSV"),
        ("text/csv", b"\xff", "BASE64"),
        ("application/jsonlines", b"{}", "JSON"),
        ("image/png", b"\x89PNG", "BASE64"),
        ("", b"1", "BASE64"),
    ],
)
def test_encodings(kind: str, body: bytes, encoding: str) -> None:
    side = written(CapturePlan(URL, 100), seen(body, kind))["captureData"]["endpointInput"]
    assert side["encoding"] == encoding
    raw = base64.b64decode(side["data"]) if encoding == "BASE64" else side["data"].encode()
    assert raw == body


def test_own_types_and_ids() -> None:
    plan = CapturePlan(URL, 100, csv_types=("x/y",), json_types=())
    found = seen(kind="x/y")
    found.inference_id = "mine"
    line = written(plan, found)
    assert line["captureData"]["endpointInput"]["encoding"] == "CSV"
    assert line["captureData"]["endpointOutput"]["encoding"] == "BASE64"
    assert line["eventMetadata"]["inferenceId"] == "mine"
    assert new_id() != new_id()


async def test_invocations_are_captured() -> None:
    variant = FakeVariant("v", [HandlerLive("m")])
    case = Case(FakeEndpoint("e", variant, capture=CapturePlan(URL, 50)))
    for number in range(4):
        await case.invoke("e", b"%d" % number, inference_id=f"id-{number}")
    found = [json.loads(line) for _, line in case.lines.lines]
    assert [line["eventMetadata"]["inferenceId"] for line in found] == ["id-1", "id-3"]
    assert found[0]["captureData"]["endpointInput"]["data"] == "1"
    output = found[0]["captureData"]["endpointOutput"]
    assert base64.b64decode(output["data"]) == b"m(1)"
    variant.check()


async def test_failures_are_not_captured() -> None:
    variant = FakeVariant("v", [HandlerLive("m")])
    variant.lives[0].error = HostlerError(Code.MODEL_ERROR, "no")
    case = Case(FakeEndpoint("e", variant, capture=CapturePlan(URL, 100)))
    assert (await case.invoke("e")).status == 424
    assert case.lines.lines == []
    variant.check()
