"""Threads that are waited for, whoever has lost patience."""

import asyncio
import threading

import pytest

from hostler.repository.fetch.threads import Threads


async def test_what_is_cancelled_has_ended():
    threads = Threads(1)
    go_on, log = threading.Event(), []

    def work():
        go_on.wait(60)
        log.append("written")

    task = asyncio.ensure_future(threads.run(work))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["written"], "it is not written after that any more"
    threads.close()


async def test_answers_and_errors_come_back():
    threads = Threads(1)
    assert await threads.run(int, "12") == 12
    assert await threads.run(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(int, "x")
    threads.close()
