"""One contract for every database: what is written is there, once, in order, and nobody's else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.databases import new_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostler.core import Code, HostlerError
from hostler.storage import Config, Query, Resource, Resources, open_resources

Open = Callable[[], Resources]


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same database each time."""
    if request.param == "sqlite":
        yield lambda: open_resources(Config(), tmp_path / "state")
        return
    with new_database(f"hostler_{os.getpid()}_{random.randrange(10**9)}") as url:
        yield lambda: open_resources(Config(database_url=url), tmp_path / "unused")
    assert not (tmp_path / "unused").exists()


@pytest.fixture
def resources(opened: Open) -> Iterator[Resources]:
    found = opened()
    yield found
    found.close()


def resource(name: str, kind: str = "model", **fields: object) -> Resource:
    default = {"status": "", "created_at": 1.0, "modified_at": 2.0, "document": {"Name": name}}
    return Resource(kind=kind, name=name, arn=f"arn:{kind}/{name}", **(default | fields))  # type: ignore[arg-type]


DOCUMENT = {
    "text": "é\u0000\ud800 emoji 😀 \"'\\",
    "numbers": [0, -1, 2**53 + 1, 1.5, 1e-300, 1e300],
    "nothing": None,
    "flags": [True, False],
    "deep": {"a": [{"b": {"": []}}]},
}


def test_what_is_added_is_there_and_stays(opened: Open) -> None:
    before = resource("a", status="InService", created_at=1.1, document=DOCUMENT)
    found = opened()
    assert found.add(before, {"team": "x", "empty": ""})
    for _ in range(2):
        assert found.get("model", "a") == before
        assert found.tags(before.arn) == {"empty": "", "team": "x"}
        found.close()
        found = opened()
    found.close()


def test_what_is_not_there_is_none(resources: Resources) -> None:
    assert resources.get("model", "a") is None
    assert resources.all("model") == []
    assert resources.page(Query("model")) == []
    assert resources.tags("arn:model/a") == {}
    assert not resources.remove("model", "a")
    assert not resources.put(resource("a"))


def test_a_name_is_taken_within_its_kind(resources: Resources) -> None:
    assert resources.add(resource("a"), {"k": "1"})
    assert not resources.add(resource("a", document={"other": 1}), {"k": "2", "l": "3"})
    assert resources.get("model", "a") == resource("a")
    assert resources.tags("arn:model/a") == {"k": "1"}
    assert resources.add(resource("a", kind="endpoint"), {})
    assert resources.add(resource("A"), {})  # case counts
    same_arn = replace(resource("b"), arn="arn:model/a")
    assert not resources.add(same_arn, {})
    assert resources.get("model", "b") is None


def test_a_change_names_the_version_it_saw(resources: Resources) -> None:
    first = resource("a")
    resources.add(first, {})
    changed = replace(first, status="Updating", modified_at=3.5, document={"n": 1})
    assert resources.put(changed)
    assert resources.get("model", "a") == replace(changed, version=2)
    assert not resources.put(replace(first, status="late"))
    assert not resources.put(replace(first, version=3))
    assert resources.get("model", "a") == replace(changed, version=2)


def test_of_changes_at_the_same_time_one_wins(resources: Resources) -> None:
    resources.add(resource("a", document={"by": -1}), {})

    def change(number: int) -> bool:
        seen = resources.get("model", "a")
        assert seen is not None
        return resources.put(replace(seen, document={"by": number}))

    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(change, range(100)))
    found = resources.get("model", "a")
    assert found is not None
    assert found.version == 1 + sum(won)
    assert won[found.document["by"]]


def test_of_adders_at_the_same_time_one_wins(resources: Resources) -> None:
    def add(number: int) -> bool:
        return resources.add(resource("a", document={"by": number}), {"by": str(number)})

    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(add, range(50)))
    assert sum(won) == 1
    assert resources.tags("arn:model/a") == {"by": str(won.index(True))}


def test_a_removed_resource_takes_its_tags_along(resources: Resources) -> None:
    resources.add(resource("a"), {"k": "1"})
    resources.add(resource("b"), {"k": "2"})
    assert resources.remove("model", "a")
    assert not resources.remove("model", "a")
    assert resources.tags("arn:model/a") == {}
    assert resources.tags("arn:model/b") == {"k": "2"}
    assert resources.add(resource("a"), {})
    assert resources.tags("arn:model/a") == {}


def test_tags_are_added_replaced_and_removed(resources: Resources) -> None:
    resources.add(resource("a"), {"a": "1", "b": "2", "c": "3"})
    resources.put(resource("a", status="x"))
    resources.set_tags("arn:model/a", {"b": "new", "d": "4"}, ["a", "missing"])
    assert resources.tags("arn:model/a") == {"b": "new", "c": "3", "d": "4"}
    resources.set_tags("arn:model/a", {}, ["b", "c", "d"])
    assert resources.tags("arn:model/a") == {}
    with pytest.raises(HostlerError) as raised:
        resources.set_tags("arn:model/none", {"a": "1"})
    assert raised.value.code is Code.NOT_FOUND


def test_names_are_ordered_by_their_bytes(resources: Resources) -> None:
    names = ["B", "_", "a", "a-b", "a.b", "aB", "ab", "b", "é", "😀"]
    for name in reversed(names):
        resources.add(resource(name), {})
    expected = sorted(names, key=str.encode)
    assert [found.name for found in resources.all("model")] == expected
    assert [found.name for found in resources.page(Query("model", limit=99))] == expected
    page = resources.page(Query("model", sort_by="name", limit=3, after=("a", "a")))
    assert [found.name for found in page] == ["a-b", "a.b", "aB"]


FILTERS = [
    ({"name_contains": "m-1"}, lambda r: "m-1" in r.name),
    ({"name_contains": "M-1"}, lambda r: False),
    ({"name_contains": "%"}, lambda r: False),
    ({"name_contains": "_"}, lambda r: False),
    ({"status": "Failed"}, lambda r: r.status == "Failed"),
    ({"created_after": 3.0}, lambda r: r.created_at > 3.0),
    ({"created_before": 3.0}, lambda r: r.created_at < 3.0),
    ({"modified_after": 3.0, "modified_before": 4.5}, lambda r: 3.0 < r.modified_at < 4.5),
    ({"status": "Failed", "name_contains": "1"}, lambda r: r.status == "Failed" and "1" in r.name),
]


def _fill(resources: Resources) -> list[Resource]:
    chance = random.Random(7)
    every = [
        resource(
            f"m-{number}",
            status=chance.choice(["", "InService", "Failed"]),
            created_at=float(chance.randrange(6)),
            modified_at=chance.randrange(12) / 2,
        )
        for number in range(25)
    ]
    for one in every:
        resources.add(one, {})
    resources.add(resource("m-1", kind="endpoint"), {})
    return every


@pytest.mark.parametrize(("fields", "keep"), FILTERS)
def test_a_page_holds_what_was_asked_for(
    resources: Resources, fields: dict[str, object], keep: Callable[[Resource], bool]
) -> None:
    every = _fill(resources)
    found = resources.page(Query("model", limit=1000, **fields))  # type: ignore[arg-type]
    assert sorted(r.name for r in found) == sorted(r.name for r in every if keep(r))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort_by", ["name", "created_at", "modified_at", "status"])
def test_pages_follow_one_another_without_gap_or_repetition(
    resources: Resources, sort_by: str, descending: bool
) -> None:
    every = _fill(resources)
    for limit in (1, 4, 25, 100):
        query = Query("model", sort_by=sort_by, descending=descending, limit=limit)
        seen: list[Resource] = []
        while page := resources.page(query):
            assert len(page) <= limit
            seen += page
            last = page[-1]
            query = replace(query, after=(getattr(last, sort_by), last.name))
        assert seen == sorted(
            every, key=lambda r: (getattr(r, sort_by), r.name), reverse=descending
        )


def test_a_page_goes_on_where_its_last_row_was_even_if_that_is_gone(resources: Resources) -> None:
    for name in "abcde":
        resources.add(resource(name), {})
    query = Query("model", limit=2)
    assert [r.name for r in resources.page(query)] == ["a", "b"]
    resources.remove("model", "b")
    assert [r.name for r in resources.page(replace(query, after=(1.0, "b")))] == ["c", "d"]


@pytest.mark.parametrize(
    "query",
    [
        Query("model", sort_by="document"),
        Query("model", after=("text", "a")),
        Query("model", sort_by="status", after=(1.0, "a")),
    ],
)
def test_an_order_that_there_is_not_is_refused(resources: Resources, query: Query) -> None:
    with pytest.raises(HostlerError) as raised:
        resources.page(query)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_text_that_no_database_holds_is_refused(resources: Resources) -> None:
    with pytest.raises(HostlerError) as raised:
        resources.add(resource("\ud800"), {})
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert resources.add(resource("a"), {})  # and nothing is left half done


def test_nobody_else_reads_what_containers_are_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    resources = open_resources(Config(), tmp_path)
    resources.add(resource("a"), {})
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    resources.close()
    assert "hostler.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_second_server_is_told_who_has_it(opened: Open) -> None:
    first = opened()
    with pytest.raises(HostlerError) as raised:
        opened()
    assert raised.value.code is Code.UNAVAILABLE
    assert str(os.getpid()) in raised.value.message
    assert "another" in raised.value.message
    first.close()
    first.close()
    opened().close()


def test_who_has_closed_it_writes_and_reads_no_more(opened: Open) -> None:
    found = opened()
    found.close()
    for use in (lambda: found.get("model", "a"), lambda: found.add(resource("a"), {})):
        with pytest.raises(HostlerError, match="closed"):
            use()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("apr"), st.sampled_from("xy"), st.booleans())))
def test_it_behaves_as_a_dictionary(
    resources: Resources, steps: list[tuple[str, str, bool]]
) -> None:
    for name in "xy":
        resources.remove("model", name)
    model: dict[str, Resource] = {}
    for number, (step, name, current) in enumerate(steps):
        seen = model.get(name)
        if step == "a":
            assert resources.add(resource(name), {"n": str(number)}) == (seen is None)
            model.setdefault(name, resource(name))
        elif step == "r":
            assert resources.remove("model", name) == (seen is not None)
            model.pop(name, None)
        else:
            version = seen.version if seen is not None and current else 99
            new = resource(name, version=version, document={"n": number})
            assert resources.put(new) == (seen is not None and current)
            if seen is not None and current:
                model[name] = replace(new, version=version + 1)
        assert {r.name: r for r in resources.all("model")} == model


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(HostlerError, match=str(tmp_path)) as raised:
        open_resources(Config(), tmp_path)
    assert raised.value.code is Code.UNAVAILABLE
