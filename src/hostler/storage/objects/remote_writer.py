"""Writing an object of a bucket piece by piece: in one request, or as a multipart upload.

obstore uploads what an asynchronous iterator gives it. Seen with 0.12.1: parts and the request
that joins them are tried again by obstore; if the iterator raises, the upload is aborted at the
store; if the call is cancelled, it is not, so that it is never cancelled here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.objects.answers import failures, stat_of
from hostler.storage.objects.attempts import Attempts
from hostler.storage.objects.failures import failure, is_of_bucket
from hostler.storage.objects.store import ObjectStat

__all__ = ["RemoteWriter", "Target", "part_bytes"]

_PART_BYTES: Final = 8 << 20  # less is one request; S3 wants 5 MiB at least
_PARTS_MAX: Final = 10_000  # of S3; the others take more
_PARTS_PLANNED: Final = 9_000  # what is expected may be exceeded by a tenth
_BLOCK_BYTES: Final = 1 << 20  # obstore waits for room between blocks, not inside of one
_PARTS_AT_ONCE: Final = 2  # beside the one that fills


@dataclass(frozen=True, slots=True)
class Target:
    """Where an object is to be. `store`: obstore's. `url`: of the object, for messages."""

    store: Any
    key: str
    url: str
    retries_max: int


class RemoteWriter:
    """See ObjectWriter. `bytes_of_part`: of a multipart upload, from `part_bytes`."""

    def __init__(self, target: Target, bytes_of_part: int) -> None:
        self._target = target
        self._part_bytes = bytes_of_part
        self._bytes_max = bytes_of_part * _PARTS_MAX
        self._held = bytearray()
        self._held_max = bytes_of_part
        self._written = 0
        self._feed = _Feed()
        self._upload: asyncio.Task[Any] | None = None
        self._before: ObjectStat | None = None
        self._ended = False

    async def write(self, piece: bytes | bytearray | memoryview) -> None:
        """See ObjectWriter."""
        self._check()
        with memoryview(piece) as whole, whole.cast("B") as view:
            self._written += view.nbytes
            if self._written > self._bytes_max:
                raise HostlerError(
                    Code.RESOURCE_EXHAUSTED,
                    f"{self._target.url}: more than {self._bytes_max} bytes do not go into "
                    f"{_PARTS_MAX} parts of {self._part_bytes}; expect more bytes, or write "
                    "several objects",
                )
            at = 0
            while at < view.nbytes:
                if len(self._held) == self._held_max:
                    await self._hand_over()
                room = self._held_max - len(self._held)
                self._held += view[at : at + room]
                at += room

    async def complete(self) -> ObjectStat:
        """See ObjectWriter."""
        self._check()
        if self._upload is None:
            self._ended = True
            try:
                result = await self._target.store.put_async(
                    self._target.key, self._held, use_multipart=False
                )
            except failures() as error:
                raise failure(error, self._target.url) from None
            return self._stat(result)
        if self._held:
            await self._hand_over()
        self._feed.end()
        stat = await self._outcome(self._upload)
        self._ended = True
        return stat

    async def abort(self) -> None:
        """See ObjectWriter. Waits for the store; what it does not do then, its lifecycle rule does.

        If all bytes have gone out already, this waits for the end of the upload instead.
        """
        self._held = bytearray()
        if self._upload is not None and not self._ended:
            self._feed.stop()
            with contextlib.suppress(_Stopped, *failures()):
                await asyncio.shield(self._upload)
        self._ended = True

    def _check(self) -> None:
        if self._ended:
            raise HostlerError(
                Code.INTERNAL,
                f"{self._target.url}: it is complete or aborted already; open another writer",
            )

    async def _hand_over(self) -> None:
        """Give what is held to the upload, once there is room; begin it if need be."""
        if self._upload is None:
            self._before = await self._look()
            self._upload = asyncio.create_task(self._run())
            self._upload.add_done_callback(self._feed.close)
        await self._feed.room()
        if self._upload.done():
            await self._outcome(self._upload)
            raise self._lost()  # an upload is not done before its end
        self._feed.add(self._held)
        self._held, self._held_max = bytearray(), _BLOCK_BYTES

    async def _run(self) -> Any:
        """The upload, to its end even if this is cancelled: the end is near then."""
        attempts = Attempts(self._target.retries_max)
        while True:
            putting = asyncio.ensure_future(
                self._target.store.put_async(
                    self._target.key,
                    self._feed,
                    use_multipart=True,
                    chunk_size=self._part_bytes,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            )
            try:
                return await asyncio.shield(putting)
            except asyncio.CancelledError:
                self._feed.stop()
                with contextlib.suppress(_Stopped, *failures()):
                    await putting
                raise
            except failures() as error:  # no byte has gone out: it was not even begun
                if self._feed.is_begun or not await attempts.again(error):
                    raise

    async def _outcome(self, upload: asyncio.Task[Any]) -> ObjectStat:
        """How an upload has ended. It was lost, or done, if the store knows it no more.

        The answer to the last request may be lost, and the store then knows no such upload when it
        is asked again. There is a new object of this size then.
        """
        try:
            return self._stat(await asyncio.shield(upload))
        except FileNotFoundError as error:
            if is_of_bucket(error):
                raise failure(error, self._target.url) from None
        except failures() as error:
            raise failure(error, self._target.url) from None
        found = await self._look()
        if found is None or found == self._before or found.size != self._written:
            raise self._lost()
        return found

    async def _look(self) -> ObjectStat | None:
        """The object that is there now, if it may be known."""
        try:
            meta = await self._target.store.head_async(self._target.key)
        except failures():
            return None
        return stat_of(self._target.key, meta)

    def _stat(self, result: Any) -> ObjectStat:
        return ObjectStat(self._target.key, self._written, result["e_tag"] or "", 0.0)

    def _lost(self) -> HostlerError:
        return HostlerError(
            Code.UNAVAILABLE,
            f"{self._target.url}: the store has dropped its upload before the end, or it was "
            "aborted by somebody else; write it anew",
        )


class _Feed:
    """Blocks of bytes, from the writer to obstore; at most one waits."""

    def __init__(self) -> None:
        self._blocks: deque[bytearray] = deque()
        self._has_ended = False
        self._is_stopped = False
        self._is_closed = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self.is_begun = False

    def add(self, block: bytearray) -> None:
        self._blocks.append(block)
        self._changed.set()

    def end(self) -> None:
        self._has_ended = True
        self._changed.set()

    def stop(self) -> None:
        """Let the upload be aborted."""
        self._is_stopped = True
        self._changed.set()

    def close(self, _upload: object) -> None:
        """Nothing is taken any more."""
        self._is_closed = True
        self._taken.set()

    async def room(self) -> None:
        """Until a block may be added, or nobody takes any."""
        while self._blocks and not self._is_closed:
            self._taken.clear()
            await self._taken.wait()

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytearray:
        self.is_begun = True
        while not (self._blocks or self._has_ended or self._is_stopped):
            self._changed.clear()
            await self._changed.wait()
        if self._is_stopped:
            raise _Stopped
        if not self._blocks:
            raise StopAsyncIteration
        self._taken.set()
        return self._blocks.popleft()


class _Stopped(Exception):
    """The writer was aborted."""


def part_bytes(bytes_expected: int) -> int:
    """How large the parts of an object must be, in whole MiB; all are of one size."""
    needed = -(-bytes_expected // _PARTS_PLANNED)
    return max(_PART_BYTES, -(-needed // _BLOCK_BYTES) * _BLOCK_BYTES)
