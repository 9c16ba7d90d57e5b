from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from hostler.control.rows import blocking

asked: contextvars.ContextVar[str] = contextvars.ContextVar("asked")


async def test_a_cancelled_call_ends_with_the_method() -> None:
    begun, free, ended = threading.Event(), threading.Event(), threading.Event()

    def method(raises: bool) -> None:
        begun.set()
        free.wait(30)
        ended.set()
        if raises:
            raise OSError("the disk is full")

    for raises in (False, True):
        for event in (begun, free, ended):
            event.clear()
        call = asyncio.ensure_future(blocking(method, raises))
        assert await asyncio.to_thread(begun.wait, 30)
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()


async def test_calls_have_threads_of_their_own_and_the_context_of_who_asks() -> None:
    """So that a database that hangs holds up no model's load, which asyncio's own threads do."""
    asked.set("by a client")
    found = await asyncio.gather(
        *(blocking(lambda: (threading.current_thread().name, asked.get())) for _ in range(20))
    )
    assert all(name.startswith("hostler-control") for name, _ in found)
    assert {who for _, who in found} == {"by a client"}
