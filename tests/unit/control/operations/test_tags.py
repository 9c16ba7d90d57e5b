"""AddTags, ListTags, DeleteTags."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.control import Bench, arn

from hostler.core import Code

PLACE = arn("model", "model")


def tags(*names: str) -> list[dict[str, str]]:
    return [{"Key": name, "Value": f"{name}@"} for name in names]


def listed(bench: Bench, place: str = PLACE) -> Any:
    return bench.call("ListTags", ResourceArn=place)["Tags"]


def test_added_listed_and_deleted() -> None:
    bench = Bench()
    bench.model("Model")
    assert listed(bench) == []
    answer = bench.call("AddTags", ResourceArn=PLACE, Tags=tags("b", "a"))
    assert answer == {"Tags": tags("a", "b")}
    bench.call("AddTags", ResourceArn=PLACE, Tags=[{"Key": "a", "Value": "new"}])
    assert listed(bench) == [{"Key": "a", "Value": "new"}, *tags("b")]
    assert bench.call("DeleteTags", ResourceArn=PLACE, TagKeys=["a", "gone"]) == {}
    assert listed(bench) == tags("b")


def test_of_every_kind() -> None:
    bench = Bench()
    bench.endpoint("e")
    for place in (arn("endpoint", "e"), arn("endpoint-config", "e-config"), arn("model", "m")):
        bench.call("AddTags", ResourceArn=place, Tags=tags("a"))
        assert listed(bench, place) == tags("a")


def test_they_go_with_their_resource() -> None:
    bench = Bench()
    bench.model("model")
    bench.call("AddTags", ResourceArn=PLACE, Tags=tags("a"))
    bench.call("DeleteModel", ModelName="model")
    assert bench.refused("ListTags", ResourceArn=PLACE).code is Code.NOT_FOUND
    bench.model("MODEL")
    assert listed(bench) == []


def test_fifty_and_no_more() -> None:
    bench = Bench()
    bench.model("model")
    bench.call("AddTags", ResourceArn=PLACE, Tags=tags(*(f"k{n}" for n in range(50))))
    bench.call("AddTags", ResourceArn=PLACE, Tags=tags("k7"))
    error = bench.refused("AddTags", ResourceArn=PLACE, Tags=tags("k50"))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert len(listed(bench)) == 50


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (arn("model", "gone"), Code.NOT_FOUND),
        (arn("endpoint", "model"), Code.NOT_FOUND),
        (PLACE.replace("us-east-1", "eu-west-1"), Code.NOT_FOUND),
        (PLACE.replace("000000000000", "111111111111"), Code.NOT_FOUND),
        (PLACE.replace("/model", "/Model"), Code.NOT_FOUND),
        (arn("training-job", "x"), Code.INVALID_ARGUMENT),
        ("arn:aws:sagemaker:us-east-1:000000000000:x", Code.INVALID_ARGUMENT),
        ("model", Code.INVALID_ARGUMENT),
    ],
)
def test_what_has_none(place: str, code: Code) -> None:
    bench = Bench()
    bench.model("model")
    for operation, more in (
        ("ListTags", {}),
        ("AddTags", {"Tags": tags("a")}),
        ("DeleteTags", {"TagKeys": ["a"]}),
    ):
        error = bench.refused(operation, ResourceArn=place, **more)
        assert error.code is code
        assert place in error.message


def test_keys_that_cannot_be() -> None:
    bench = Bench()
    bench.model("model")
    for wrong in (tags("a", "a"), tags("aws:x"), tags("a;b")):
        error = bench.refused("AddTags", ResourceArn=PLACE, Tags=wrong)
        assert error.code is Code.INVALID_ARGUMENT
    bench.refused("ListTags", ResourceArn=PLACE, NextToken="x")
    assert listed(bench) == []
