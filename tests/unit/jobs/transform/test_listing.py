"""Which objects a job reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fakes.clock import virtual
from fakes.transform import Memory, error, plan

from hostler.core import Code, HostlerError
from hostler.jobs import Plan
from hostler.jobs.transform import listing
from hostler.jobs.transform.listing import first_name, tasks
from hostler.jobs.transform.plan import Input, Naming, Source, Table, TableForm
from hostler.jobs.transform.ports import Outcome, Task
from hostler.storage import Config, ObjectStat, Storage

LIST = "mem://m/list.json"
WRITTEN = (
    "out/.hostler-transform-0123456789ab.json",
    "out/c",
    "out/c.errors.jsonl",
    "out/c.out",
    "out/c.out.parquet",
    "out/d.jsonl",
)


def memory(*keys: str) -> Memory:
    found = Memory()
    for key in keys:
        found.store.set(key, key.encode())
    return found


async def listed(of: Memory, what: Plan) -> dict[str, str]:
    """Outputs and their inputs."""
    return {
        one.key: one.inputs[0].key
        async for one in tasks(what, of)
        if isinstance(one, Task) and len(one.inputs) == 1
    }


@virtual
async def test_all_objects_under_a_prefix_in_the_order_of_keys() -> None:
    of = memory("in/b", "in/a/x", "in/a.x", "inn/y", "other", "out/old.out")
    assert list((await listed(of, plan())).items()) == [
        ("out/a.x.out", "in/a.x"),
        ("out/a/x.out", "in/a/x"),
        ("out/b.out", "in/b"),
    ]
    by_folder = await listed(of, plan(naming=Naming.FOLDER, output="mem://m/out"))
    assert list(by_folder) == ["out/in/a.x.out", "out/in/a/x.out", "out/in/b.out"]


@virtual
async def test_a_prefix_that_is_a_key_is_that_object() -> None:
    of = memory("in/a.csv", "in/a.csv.bak", "in/a.csv/x")
    assert await listed(of, plan("mem://m/in/a.csv")) == {"out/a.csv.out": "in/a.csv"}


@virtual
async def test_a_prefix_may_cut_a_name() -> None:
    of = memory("in/part-1", "in/part-2", "in/other")
    found = await listed(of, plan("mem://m/in/part-"))
    assert found == {"out/part-1.out": "in/part-1", "out/part-2.out": "in/part-2"}


@virtual
async def test_two_objects_never_have_one_output() -> None:
    of = memory("in/a", "in2/x", "in/in2/x", "in3/y")
    found = [one async for one in tasks(plan("mem://m/in"), of)]
    [failed] = [one for one in found if isinstance(one, Outcome)]
    assert failed.key == "in2/x"
    assert "would have one output" in failed.error
    assert [one.key for one in found if isinstance(one, Task)] == [
        "out/a.out", "out/in2/x.out", "out/in3/y.out",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "output", "keys"),
    [
        # Outputs below the inputs: nothing of them is an input.
        ("mem://m/", "mem://m/out/", ["a.csv", "b.out"]),
        ("mem://m/", "mem://m/out", ["a.csv", "b.out"]),
        # Outputs among inputs: what is called like an output is none.
        ("mem://m/", "mem://m/", ["a.csv", "out/c", "out/d.jsonl"]),
        ("mem://m/out/", "mem://m/out/", ["out/c", "out/d.jsonl"]),
        ("mem://m/out/", "mem://m/", ["out/c", "out/d.jsonl"]),
        ("mem://m/out/", "mem://m/elsewhere/", list(WRITTEN[1:])),  # markers never are
    ],
)  # fmt: skip
@virtual
async def test_what_jobs_write_is_not_read(url: str, output: str, keys: list[str]) -> None:
    of = memory("a.csv", "b.out", *WRITTEN)
    assert list((await listed(of, plan(url, output))).values()) == keys


def files(root: str, *names: str, roots: tuple[str, ...] = ()) -> Storage:
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Storage(Config(file_roots=roots), {})


@pytest.mark.parametrize("scheme", ["file://", "file://localhost", "FILE://"])
async def test_what_jobs_write_is_not_read_by_another_name(tmp_path: Path, scheme: str) -> None:
    of = files(str(tmp_path), "a b", "a b.out", "c/d")
    folder = quote(str(tmp_path))
    found = [one async for one in tasks(plan(f"{scheme}{folder}/", f"file://{folder}/"), of)]
    assert [one.inputs[0].name for one in found if isinstance(one, Task)] == ["a b", "c/d"]


async def test_the_same_keys_below_another_root_are_read(tmp_path: Path) -> None:
    roots = (str(tmp_path / "in"), str(tmp_path / "out"))
    of = files(str(tmp_path), "in/p/a", "in/b", "out/p/c.out", roots=roots)
    what = plan(f"file://{roots[0]}/", f"file://{roots[1]}/p/")
    found = [one async for one in tasks(what, of)]
    assert [one.inputs[0].name for one in found if isinstance(one, Task)] == ["b", "p/a"]


@pytest.mark.parametrize("keys", [(), ("out/x",)])
@virtual
async def test_nothing_at_all_is_an_error(keys: tuple[str, ...]) -> None:
    with pytest.raises(HostlerError, match="No objects found under mem://m/in/") as caught:
        await listed(memory(*keys), plan())
    assert caught.value.code is Code.NOT_FOUND


@virtual
async def test_tables_and_pictures() -> None:
    of = memory(*[f"in/{n}.jpg" for n in range(5)])
    table = Table(form=TableForm.CSV, output_form=TableForm.JSON_LINES)
    assert list(await listed(of, plan(table=table)))[:1] == ["out/0.jpg.out.jsonl"]
    pictures = plan(table=Table(form=TableForm.IMAGES, part_objects=2))
    found = [one async for one in tasks(pictures, of) if isinstance(one, Task)]
    assert [(one.key, len(one.inputs)) for one in found] == [
        ("out/part-00000.out.parquet", 2),
        ("out/part-00001.out.parquet", 2),
        ("out/part-00002.out.parquet", 1),
    ]


# -- manifests ---------------------------------------------------------------------------------


def manifest(of: Memory, entries: Any) -> Plan:
    of.store.set(
        "list.json", entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    )
    return plan(LIST, source=Source.MANIFEST)


@virtual
async def test_a_manifest_in_its_order_each_once() -> None:
    of = memory("in/b", "in/a/x", "in/c")
    what = manifest(of, [{"prefix": "mem://m/in/"}, "b", "a/x", "b"])
    assert list((await listed(of, what)).items()) == [
        ("out/b.out", "in/b"), ("out/a/x.out", "in/a/x"),
    ]  # fmt: skip
    cut = manifest(of, [{"prefix": "mem://m/in/a"}, "/x"])
    assert await listed(of, cut) == {"out/x.out": "in/a/x"}


@virtual
async def test_a_missing_object_of_a_manifest_fails_alone() -> None:
    of = memory(*[f"in/{n:03}" for n in range(70)])
    of.store.fails["stat", "in/005"] = [error(Code.PERMISSION_DENIED, "not yours")]
    names = [f"{n:03}" for n in range(70)]
    what = manifest(of, [{"prefix": "mem://m/in/"}, *names, "gone"])
    found = [one async for one in tasks(what, of)]
    assert [(one.key, one.code) for one in found if isinstance(one, Outcome)] == [
        ("in/005", Code.PERMISSION_DENIED), ("in/gone", Code.NOT_FOUND),
    ]  # fmt: skip
    assert len(found) == 71


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (b"no", "it is no JSON"),
        (b"\xff", "it is no JSON"),
        ({}, "no array"),
        ([], "no array"),
        (["a"], "entry 0"),
        ([{"prefix": "mem://m/", "x": 1}, "a"], "entry 0"),
        ([{"prefix": 7}, "a"], "entry 0"),
        ([{"prefix": "mem://m/"}, "a", 7], "entry 2 is neither"),
        ([{"prefix": "mem://m/"}, {"b": "c"}], 'entry 1 is {"b":"c"}'),
        (b"[" * 5000, "entry 0 is neither"),
        (b'[{"prefix":' + b"[" * 5000, "entry 0 is neither"),
        ([{"prefix": "mem://m/"}, ""], "entry 1 is empty"),
        ([{"prefix": "nowhere"}, "a"], "entry 0 of the manifest .*'nowhere' cannot be used"),
        ([{"prefix": "mem://m/"}], "No objects found"),
    ],
    ids=lambda value: str(value)[:40],
)
@virtual
async def test_manifests_that_are_none(entries: Any, words: str) -> None:
    of = memory()
    with pytest.raises(HostlerError, match=words):
        await listed(of, manifest(of, entries))


@virtual
async def test_a_manifest_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    of = memory("in/a")
    what = manifest(of, [{"prefix": "mem://m/in/"}, "a"])
    monkeypatch.setattr(listing, "MANIFEST_BYTES_MAX", 10)
    with pytest.raises(HostlerError, match="more than 10"):
        await listed(of, what)
    monkeypatch.setattr(listing, "MANIFEST_BYTES_MAX", 1000)
    monkeypatch.setattr(listing, "_NAMES_MAX", 2)
    assert await listed(of, manifest(of, [{"prefix": "mem://m/in/"}, "a", "a"]))
    with pytest.raises(HostlerError, match="more than 2 names"):
        await listed(of, manifest(of, [{"prefix": "mem://m/in/"}, "a", "a", "a"]))


@virtual
async def test_two_entries_never_have_one_output() -> None:
    of = memory("in/ax", "in/a/ax")
    what = manifest(of, [{"prefix": "mem://m/in/a"}, "x", "/ax"])
    found = [one async for one in tasks(what, of)]
    [failed] = [one for one in found if isinstance(one, Outcome)]
    assert failed.key == "in/a/ax"
    assert failed.error.startswith("mem://m/in/a/ax and mem://m/in/ax would have one output, ax; ")
    assert [one.key for one in found if isinstance(one, Task)] == ["out/ax.out"]


@virtual
async def test_signatures_of_web_addresses_are_shown_to_nobody() -> None:
    of = memory()
    of.open = lambda url: (of.store, "list.json")  # type: ignore[method-assign,assignment]
    of.store.set("list.json", b"{}")
    with pytest.raises(HostlerError) as caught:
        await listed(of, plan("https://host/list.json?X-Amz-Signature=5", source=Source.MANIFEST))
    assert caught.value.message.startswith("https://host/list.json is no manifest")
    assert "Signature" not in caught.value.message


@virtual
async def test_the_first_name() -> None:
    of = memory("in/a", "in/b.csv", "in/c.json")
    folder, out = Input(url="mem://m/in/"), "mem://m/out/"
    assert await first_name(folder, out, of) == "in/b.csv"
    of.store.fails["list", "in/"] = [error(Code.UNAVAILABLE)] * 2
    assert await first_name(folder, out, of, 2) == "in/b.csv"
    manifest(of, [{"prefix": "mem://m/in/"}, "b", "x.png"])
    assert await first_name(Input(url=LIST, source=Source.MANIFEST), out, of) == "x.png"
    with pytest.raises(HostlerError, match="No objects found"):
        await first_name(Input(url="mem://m/none/"), out, of)


@virtual
async def test_the_first_name_is_the_first_of_all_where_none_tells() -> None:
    of = memory(*(f"in/{n:03}" for n in range(100)), "in/100.csv")
    assert await first_name(Input(url="mem://m/in/"), "mem://m/out/", of) == "in/000"
    of = memory(*(f"in/{n:03}" for n in range(99)), "in/100.csv")
    assert await first_name(Input(url="mem://m/in/"), "mem://m/out/", of) == "in/100.csv"


@virtual
async def test_the_first_name_is_none_that_jobs_have_written() -> None:
    of = memory(
        "in/.hostler-transform-0123456789ab.json", "in/a.out.csv", "in/b.jsonl", "in/o/a.csv"
    )
    assert await first_name(Input(url="mem://m/in/"), "mem://m/in/", of) == "in/b.jsonl"
    assert await first_name(Input(url="mem://m/in/"), "mem://m/in/o", of) == "in/a.out.csv"


@virtual
async def test_a_listing_that_breaks_off_is_gone_on_with() -> None:
    of = memory("in/a", "in/b", "in/c", "in/d")
    listing, left = of.store.list, ["in/b", "in/c", "in/c", "in/d", "in/d"]

    async def break_off(prefix: str) -> AsyncIterator[ObjectStat]:
        async for stat in listing(prefix):
            if left and stat.key == left[0]:
                raise error(Code.UNAVAILABLE, f"away at {left.pop(0)}")
            yield stat

    of.store.list = break_off  # type: ignore[method-assign]
    found = [one async for one in tasks(plan(), of, 2)]
    assert [one.key for one in found] == ["out/a.out", "out/b.out", "out/c.out", "out/d.out"]
    left += ["in/b"] * 3
    with pytest.raises(HostlerError, match="away at in/b"):
        _ = [one async for one in tasks(plan(), of, 2)]


@virtual
async def test_a_manifest_waits_for_a_store_that_is_away() -> None:
    of = memory("in/a", "in/b")
    what = manifest(of, [{"prefix": "mem://m/in/"}, "a", "b"])
    away = error(Code.UNAVAILABLE, "away")
    of.store.fails["get", "list.json"] = [away] * 2
    of.store.fails["stat", "in/a"] = [away] * 2
    assert [one.key async for one in tasks(what, of, 2)] == ["out/a.out", "out/b.out"]
    of.store.fails["stat", "in/a"] = [away]
    failed, _ = [one async for one in tasks(what, of)]
    assert isinstance(failed, Outcome)
    of.store.fails["stat", "in/a"] = of.store.fails["stat", "in/b"] = [away] * 2
    with pytest.raises(HostlerError, match="away"):  # all of them: nothing is to be got there
        _ = [one async for one in tasks(what, of)]


HIDDEN = ("d/.x/a", "d/.y", "d/e/.ipynb_checkpoints/x.csv", "d/e/f.csv")


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("d/", ["e/f.csv"]),
        ("d", ["e/f.csv"]),
        ("d/.x/", ["a"]),
        ("d/.x", ["a"]),
        ("d/e/.i", [".ipynb_checkpoints/x.csv"]),
        ("d/e/f", ["f.csv"]),
        ("d/e/.ipynb_checkpoints/x", ["x.csv"]),
    ],
)
async def test_hidden_files_are_no_inputs(tmp_path: Path, url: str, names: list[str]) -> None:
    of = files(str(tmp_path), *HIDDEN)
    folder = f"file://{quote(str(tmp_path))}"
    found = [one async for one in tasks(plan(f"{folder}/{url}", f"{folder}/out/"), of)]
    assert [one.inputs[0].name for one in found if isinstance(one, Task)] == names


@virtual
async def test_objects_of_buckets_are_not_hidden() -> None:
    assert list((await listed(memory(*HIDDEN), plan("mem://m/d/"))).values()) == list(HIDDEN)
