"""Objects that are written."""

from __future__ import annotations

import pytest
from fakes.clock import virtual
from fakes.transform import MemoryStore

from hostler.jobs.transform import output
from hostler.jobs.transform.output import Output


@virtual
async def test_a_small_one_is_put_in_one_go() -> None:
    store = MemoryStore()
    one = Output(store, "a")
    await one.add(b"1")
    await one.add(b"2")
    assert store.objects == {}
    await one.complete()
    await one.abort()
    assert (store.body("a"), one.size) == (b"12", 2)


@pytest.mark.parametrize("complete", [False, True])
@virtual
async def test_a_large_one_is_written_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    monkeypatch.setattr(output, "_BUFFER_BYTES", 3)
    store = MemoryStore()
    one = Output(store, "a")
    for n in range(5):
        await one.add(b"%d%d" % (n, n))
    assert store.open_writers == 1
    if complete:
        await one.complete()
    await one.abort()
    assert store.open_writers == 0
    assert store.keys() == (["a"] if complete else [])
    if complete:
        assert store.body("a") == b"0011223344"


@virtual
async def test_nothing_at_all_is_an_empty_object() -> None:
    store = MemoryStore()
    await Output(store, "a").complete()
    assert store.body("a") == b""
