"""Lists in pages."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.control import Bench, arn

from hostler.control.operations.pages import Token, read_token, write_token
from hostler.core import Code, HostlerError


def names(answer: dict[str, Any]) -> list[str]:
    return [model["ModelName"] for model in answer["Models"]]


def bench_of(*created: str) -> Bench:
    bench = Bench()
    for name in created:
        bench.model(name)
        bench.clock.advance(1)
    return bench


def all_pages(bench: Bench, **request: Any) -> list[list[str]]:
    pages = []
    while True:
        answer = bench.call("ListModels", **request)
        pages.append(names(answer))
        if "NextToken" not in answer:
            return pages
        request["NextToken"] = answer["NextToken"]


def test_the_newest_first() -> None:
    bench = bench_of("b", "c", "a")
    assert bench.call("ListModels")["Models"][0] == {
        "ModelName": "a",
        "ModelArn": arn("model", "a"),
        "CreationTime": bench.clock.wall() - 1,
    }
    assert all_pages(bench) == [["a", "c", "b"]]


ORDERS = [
    ({"SortOrder": "Ascending"}, ["b", "c", "a", "d"]),
    ({"SortBy": "Name", "SortOrder": "Ascending"}, ["a", "b", "c", "d"]),
    ({"SortBy": "Name"}, ["d", "c", "b", "a"]),
]


@pytest.mark.parametrize(("order", "expected"), ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_orders_and_sizes(order: dict[str, Any], expected: list[str], size: int) -> None:
    pages = all_pages(bench_of("b", "c", "a", "d"), MaxResults=size, **order)
    assert pages == [expected[i : i + size] for i in range(0, 4, size)]


def test_ten_by_default() -> None:
    pages = all_pages(bench_of(*(f"m{n:02d}" for n in range(23))))
    assert [len(page) for page in pages] == [10, 10, 3]


def test_what_comes_and_goes_moves_no_page() -> None:
    bench = bench_of("a", "c", "e", "g")
    first = bench.call("ListModels", SortBy="Name", SortOrder="Ascending", MaxResults=2)
    bench.model("b")
    bench.model("d")
    bench.call("DeleteModel", ModelName="c")
    second = bench.call(
        "ListModels",
        SortBy="Name",
        SortOrder="Ascending",
        MaxResults=2,
        NextToken=first["NextToken"],
    )
    assert (names(first), names(second)) == (["a", "c"], ["d", "e"])


def test_resources_of_one_moment_are_all_listed() -> None:
    bench = Bench()
    for name in "fedcba":
        bench.model(name)
    pages = all_pages(bench, MaxResults=2)
    assert sorted(name for page in pages for name in page) == list("abcdef")


def test_filters() -> None:
    bench = bench_of("one", "two", "tone")
    start = bench.clock.wall() - 3
    assert all_pages(bench, NameContains="one") == [["tone", "one"]]
    assert all_pages(bench, NameContains="x") == [[]]
    assert all_pages(bench, CreationTimeAfter=start + 1) == [["tone", "two"]]
    assert all_pages(bench, CreationTimeBefore=start + 1) == [["one"]]


def test_filters_of_endpoints() -> None:
    bench = Bench()
    start = bench.clock.wall()
    bench.endpoint("a")
    bench.clock.advance(10)
    bench.config_of("c")
    bench.call("CreateEndpoint", EndpointName="b", EndpointConfigName="c")

    def listed(**request: Any) -> list[str]:
        answer = bench.call("ListEndpoints", SortBy="Name", SortOrder="Ascending", **request)
        return [endpoint["EndpointName"] for endpoint in answer["Endpoints"]]

    assert listed() == ["a", "b"]
    assert listed(StatusEquals="Creating") == ["b"]
    assert listed(StatusEquals="InService") == ["a"]
    assert listed(LastModifiedTimeBefore=start + 50) == ["b"]
    assert listed(LastModifiedTimeAfter=start + 50) == ["a"]
    by_status = bench.call("ListEndpoints", SortBy="Status", SortOrder="Ascending", MaxResults=1)
    assert by_status["Endpoints"][0]["EndpointStatus"] == "Creating"
    token = by_status["NextToken"]
    rest = bench.call("ListEndpoints", SortBy="Status", SortOrder="Ascending", NextToken=token)
    assert [e["EndpointStatus"] for e in rest["Endpoints"]] == ["InService"]


def test_configurations_are_listed() -> None:
    bench = Bench()
    bench.config_of("c")
    [shown] = bench.call("ListEndpointConfigs")["EndpointConfigs"]
    assert shown["EndpointConfigName"] == "c"
    assert shown["EndpointConfigArn"] == arn("endpoint-config", "c")


@pytest.mark.parametrize(
    "token",
    ["x", "!!!!", "bnVsbA", "W10", "e30", "ÿ", "A" * 8000, "WyJhIiwiYiIsImMiLCJkIl0",
     write_token(Token("model -name", "a", "a")),
     write_token(Token("model -created_at", "a", "a")),
     write_token(Token("endpoint -created_at", 1.0, "a"))],
    ids=range(11),
)  # fmt: skip
def test_tokens_of_nobody(token: str) -> None:
    error = bench_of("a").refused("ListModels", NextToken=token)
    assert error.code is Code.INVALID_ARGUMENT
    assert "NextToken" in error.message


def test_tokens_there_and_back() -> None:
    token = Token("model -created_at", 1.25, "ä" * 63)
    assert read_token(write_token(token), "model -created_at") == token
    with pytest.raises(HostlerError):
        read_token(write_token(token), "model +created_at")
