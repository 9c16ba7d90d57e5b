"""Bodies that break off again and again: gone on with as long as something comes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import obstore.exceptions
import pytest

from hostler.core import Code, HostlerError
from hostler.storage.objects.remote import RemoteStore

BODY = bytes(range(100))


@dataclass
class Answer:
    """The bytes from `start` on; after `left` of them the connection is lost."""

    start: int
    left: int
    meta: dict[str, Any]

    async def stream(self, min_chunk_size: int) -> AsyncIterator[bytes]:
        body = BODY[self.start :]
        yield body[: self.left]
        if self.left < len(body):
            raise obstore.exceptions.GenericError("HTTP error: request or response body error")


@dataclass
class Breaking:
    """obstore's store of one object. `asked`: the options of every request."""

    left: int = 10
    etag: str | None = '"v1"'
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def get_async(self, key: str, options: dict[str, Any]) -> Answer:
        self.asked.append(options)
        start = options.get("range", {"offset": 0})["offset"]
        return Answer(start, self.left, {"e_tag": self.etag, "size": len(BODY)})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.storage.objects.attempts._PAUSE_S", 0.0)


async def test_it_goes_on_from_the_last_byte_of_the_same_version() -> None:
    remote = Breaking()
    store = RemoteStore(remote, "s3://b", retries_max=1)
    assert b"".join([piece async for piece in store.read("a")]) == BODY
    assert remote.asked[0] == {}
    assert remote.asked[1:] == [
        {"if_match": '"v1"', "range": {"offset": at}} for at in range(10, 100, 10)
    ]
    assert await store.get("a", bytes_max=100) == BODY


@pytest.mark.parametrize(("left", "etag", "requests"), [(0, '"v1"', 3), (10, None, 1)])
async def test_it_is_given_up(left: int, etag: str | None, requests: int) -> None:
    """Where nothing comes through, and where nothing says that it is the same object."""
    remote = Breaking(left, etag)
    with pytest.raises(HostlerError, match="response body error") as raised:
        await RemoteStore(remote, "s3://b", retries_max=2).get("a", bytes_max=100)
    assert raised.value.code is Code.UNAVAILABLE
    assert len(remote.asked) == requests


async def test_a_large_object_is_refused_before_its_bytes() -> None:
    remote = Breaking()
    with pytest.raises(HostlerError, match="has 100 bytes, at most 99"):
        await RemoteStore(remote, "s3://b", retries_max=2).get("a", bytes_max=99)
    assert len(remote.asked) == 1
