"""Records in the background: when they are written, what is dropped, and that nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fakes.clock import VirtualLoop, virtual
from fakes.object_stores import MemoryStorage

from hostler.core import Code, HostlerError
from hostler.storage import Config, JsonLines

DOWN = HostlerError(Code.UNAVAILABLE, "the store is down")


class Stage:
    """A writer on the virtual loop's clock; ids are counted."""

    def __init__(self, **fields: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.storage = MemoryStorage()
        ids = itertools.count(1)
        fields = {"records_flush_s": 30.0, "records_flush_bytes": 10_000, **fields}
        self.lines = JsonLines(
            Config(**fields),
            self.storage,  # type: ignore[arg-type]
            loop,
            lambda: f"id{next(ids)}",
        )

    @property
    def bodies(self) -> list[bytes]:
        return list(self.storage.objects.values())


def staged(test: Callable[[Stage], Coroutine[Any, Any, None]], **fields: Any) -> Callable[[], None]:
    """A test on a virtual loop, with a started writer that is stopped in the end."""

    @virtual
    async def run() -> None:
        stage = Stage(**fields)
        await stage.lines.start()
        await test(stage)
        await stage.lines.stop(5.0)
        assert stage.lines.waiting_bytes == 0
        assert not stage.lines._destinations

    return run


def test_records_are_written_when_they_are_old_enough() -> None:
    async def act(stage: Stage) -> None:
        for number in range(3):
            assert stage.lines.put("s3://b/c/", b'{"n":%d}' % number)
            await asyncio.sleep(10)
        assert stage.bodies == []
        await asyncio.sleep(0.001)
        assert stage.bodies == [b'{"n":0}\n{"n":1}\n{"n":2}\n']
        assert stage.lines.written == 3

    staged(act)()


def test_records_are_written_when_they_are_many_enough() -> None:
    async def act(stage: Stage) -> None:
        for _ in range(5):
            stage.lines.put("s3://b/c", b"x" * 100)
        await asyncio.sleep(0.001)
        assert stage.bodies == [(b"x" * 100 + b"\n") * 2] * 2
        await stage.lines.stop(1)
        assert stage.bodies[2] == b"x" * 100 + b"\n"

    staged(act, records_flush_bytes=300)()


def test_an_object_is_named_by_when_its_first_record_came() -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(0.25)  # the loop's wall clock: 2023-11-14 22:15:00 UTC and this
        stage.lines.put("s3://b/captured/", b"1")
        await asyncio.sleep(31)
        (url,) = stage.storage.objects
        assert re.fullmatch(r"s3://b/captured/2023/11/14/22/15-00-(249|250)-id1\.jsonl", url)

    staged(act)()


def test_destinations_have_objects_of_their_own() -> None:
    async def act(stage: Stage) -> None:
        stage.lines.put("s3://b/a", b"1")
        stage.lines.put("s3://b/c", b"2")
        await asyncio.sleep(31)
        assert sorted(stage.bodies) == [b"1\n", b"2\n"]

    staged(act)()


def test_what_waits_is_bounded_and_the_rest_is_dropped_and_counted() -> None:
    async def act(stage: Stage) -> None:
        taken = [stage.lines.put(f"s3://b/{n % 4}", b"x" * 100) for n in range(20)]
        assert stage.lines.waiting_bytes <= 2048
        assert (sum(taken), stage.lines.dropped) == (12, 8)
        await asyncio.sleep(31)
        assert stage.lines.written == 12
        assert stage.lines.put("s3://b/0", b"x")  # there is room again

    staged(act, records_queue_bytes_max=2048, records_flush_bytes=2048)()


def test_a_store_that_is_down_holds_up_and_crowds_out_nobody_else() -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://down"] = DOWN
        for _ in range(100):
            stage.lines.put("s3://down/a", b"x" * 100)
        assert stage.lines.waiting_bytes <= 1024
        assert stage.lines.put("s3://up/a", b"1")
        await asyncio.sleep(31)
        assert stage.bodies == [b"1\n"]
        stage.storage.failing.clear()

    staged(act, records_queue_bytes_max=2048, records_flush_bytes=500)()


def test_a_failed_write_is_tried_again_under_the_same_name_with_growing_pauses() -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        stage.lines.put("s3://b/a", b"1")
        await asyncio.sleep(30.001)
        for pauses, tried in ((1, 2), (2, 3), (4, 4), (8, 5)):
            assert len(stage.storage.puts) == tried - 1
            await asyncio.sleep(pauses)
            assert len(stage.storage.puts) == tried
        assert len(set(stage.storage.puts)) == 1
        stage.lines.put("s3://b/a", b"2")
        stage.storage.failing.clear()
        await asyncio.sleep(100)
        assert stage.bodies == [b"1\n", b"2\n"]  # in order
        assert stage.lines.dropped == 0

    staged(act)()


def test_it_gives_up_in_the_end() -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        stage.lines.put("s3://b/a", b"1")
        await asyncio.sleep(1000)
        assert len(stage.storage.puts) == 10
        assert stage.lines.dropped == 1

    staged(act)()


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED])
def test_what_cannot_ever_be_written_is_tried_once(code: Code) -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = HostlerError(code, "no")
        stage.lines.put("s3://b/a", b"1")
        stage.lines.put("nonsense", b"1")
        await asyncio.sleep(31)
        assert len(stage.storage.puts) == 1
        assert stage.lines.dropped == 2

    staged(act)()


def test_stopping_writes_what_waits() -> None:
    async def act(stage: Stage) -> None:
        stage.lines.put("s3://b/a", b"1")
        stage.lines.put("s3://b/c", b"2")
        await stage.lines.stop(5.0)
        assert sorted(stage.bodies) == [b"1\n", b"2\n"]
        assert not stage.lines.put("s3://b/a", b"3")
        assert (stage.lines.written, stage.lines.dropped) == (2, 1)

    staged(act)()


def test_stopping_does_not_wait_for_a_store_that_is_down() -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        stage.lines.put("s3://b/a", b"1")
        stage.lines.put("s3://b/a", b"2")
        before = stage.loop.now()
        await stage.lines.stop(3.0)
        assert stage.loop.now() - before == pytest.approx(3.0)
        assert len(stage.storage.puts) > 2  # it does try
        assert stage.lines.dropped == 2

    staged(act)()


def test_what_is_lost_in_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        stage.lines.put("s3://b/a", b"1")
        await asyncio.sleep(31)  # the first failure is told, and for a while no other
        stage.lines.put("s3://b/a", b"2")
        await stage.lines.stop(3.0)

    with caplog.at_level(logging.WARNING, "hostler.storage"):
        staged(act)()
    last = caplog.records[-1]
    assert last.message == "records.lost"
    assert last.event["dropped"] == 2  # type: ignore[attr-defined]


def test_a_store_that_comes_back_while_it_stops_gets_everything() -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        stage.lines.put("s3://b/a", b"1")
        await asyncio.sleep(40)  # in a long pause by now
        stage.loop.call_later(1.0, stage.storage.failing.clear)
        await stage.lines.stop(5.0)
        assert stage.bodies == [b"1\n"]

    staged(act)()


def test_nothing_is_taken_before_it_starts() -> None:
    @virtual
    async def run() -> None:
        stage = Stage()
        assert not stage.lines.put("s3://b/a", b"1")
        assert stage.lines.dropped == 1

    run()


def test_there_are_only_so_many_destinations() -> None:
    async def act(stage: Stage) -> None:
        taken = [stage.lines.put(f"s3://b/{number}", b"1") for number in range(1100)]
        assert sum(taken) == 1000

    staged(act)()


def test_trouble_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async def act(stage: Stage) -> None:
        stage.storage.failing["s3://b"] = DOWN
        for number in range(1000):
            stage.lines.put(f"s3://b/{number % 10}", b"x" * 100)
            await asyncio.sleep(0.1)
        events = [record.event for record in caplog.records]  # type: ignore[attr-defined]
        assert 2 <= len(events) <= 4  # 100 s
        assert events[-1]["dropped"] > 0
        stage.storage.failing.clear()

    with caplog.at_level(logging.WARNING, "hostler.storage"):
        staged(act, records_queue_bytes_max=2048, records_flush_bytes=500, records_flush_s=1.0)()


def test_a_record_of_two_lines_is_a_mistake() -> None:
    async def act(stage: Stage) -> None:
        with pytest.raises(AssertionError):
            stage.lines.put("s3://b/a", b"1\n2")

    staged(act)()
