"""Records written to object stores in the background, as JSON Lines.

    put -> the open batch of a destination -- bytes or seconds --> sealed batches -> one object each

A destination has one task while it has anything to write, so that its objects are written in
order and a store that is down holds up nobody else. What waits is bounded; more is dropped and
counted, and nobody who puts a record ever waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from hostler.core import Clock, Code, HostlerError
from hostler.storage.config import Config
from hostler.storage.objects import Storage

__all__ = ["JsonLines"]

log = logging.getLogger("hostler.storage")

_RECORD_OVERHEAD_BYTES: Final = 64  # of an object in a list
_DESTINATIONS_MAX: Final = 1000  # each is a task
_WRITES_MAX: Final = 8  # at the same time
_SHARE: Final = 0.5  # of the queue for one destination, so that a dead store leaves room
_ATTEMPTS_MAX: Final = 10  # some four minutes
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 60.0
_PAUSE_STOPPING_S: Final = 0.5
_TICK_S: Final = 0.001  # timers may be early by the clock's resolution
_LOG_EVERY_S: Final = 30.0
_HOPELESS: Final = (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)


class JsonLines:
    """A bounded writer of records to `<prefix>/yyyy/mm/dd/hh/MM-SS-mmm-<id>.jsonl`, times in UTC.

    `new_id`: makes names that nobody else makes. To be used on the loop that started it.
    `written`, `dropped`: records so far. `waiting_bytes`: taken and not yet written.
    """

    def __init__(
        self, config: Config, storage: Storage, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._config = config
        self._storage = storage
        self._clock = clock
        self._new_id = new_id
        self._destinations: dict[str, _Destination] = {}
        self._writes = asyncio.Semaphore(_WRITES_MAX)
        self._running = False
        self._logged_at = -_LOG_EVERY_S
        self.written = 0
        self.dropped = 0
        self.waiting_bytes = 0

    async def start(self) -> None:
        """Take records from now on."""
        self._running = True
        self._logged_at = self._clock.now() - _LOG_EVERY_S

    async def stop(self, drain_s: float) -> None:
        """Write what waits, for at most so long; the rest is dropped and counted. Idempotent."""
        self._running = False
        for destination in self._destinations.values():
            destination.wake.set()
        tasks = [destination.task for destination in self._destinations.values()]
        dropped = self.dropped
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self.dropped > dropped:
            event = {"dropped": self.dropped - dropped, "reason": "the server stops"}
            log.warning("records.lost", extra={"event": event})

    def put(self, url_prefix: str, record: bytes) -> bool:
        """Take one record, a line of JSON without its end; False if it is dropped.

        Does not check the prefix; one that cannot be written to costs its records, and is logged.
        """
        assert b"\n" not in record, "a record is one line"
        size = len(record) + _RECORD_OVERHEAD_BYTES
        limit = self._config.records_queue_bytes_max
        destination = self._destinations.get(url_prefix)
        mine = destination.waiting_bytes if destination is not None else 0
        if not self._running:
            self.dropped += 1
            return False
        # A destination's first record is taken, so that a small queue does not shut anybody out.
        if self.waiting_bytes + size > limit or (mine and mine + size > limit * _SHARE):
            self._drop(1, url_prefix, f"storage.records_queue_bytes_max ({limit}) is reached")
            return False
        if destination is None:
            if len(self._destinations) >= _DESTINATIONS_MAX:
                self._drop(1, url_prefix, f"{_DESTINATIONS_MAX} destinations are written to")
                return False
            destination = self._destinations[url_prefix] = _Destination()
            destination.task = asyncio.ensure_future(self._write_all(url_prefix, destination))
        if destination.open is None:
            destination.open = _Batch(self._clock.now(), self._clock.wall())
        destination.open.records.append(record)
        destination.open.size += size
        destination.waiting_bytes += size
        self.waiting_bytes += size
        if destination.open.size >= self._config.records_flush_bytes:
            destination.seal()
            destination.wake.set()
        return True

    # -- one destination -------------------------------------------------------------------

    async def _write_all(self, prefix: str, destination: _Destination) -> None:
        """Write until nothing is left, then end."""
        try:
            while destination.open is not None or destination.sealed:
                if not destination.sealed:
                    await self._gather(destination)
                    continue
                batch = destination.sealed[0]
                if await self._write(prefix, destination, batch):
                    self.written += len(batch.records)
                else:
                    self._drop(len(batch.records), prefix, "they could not be written")
                self._forget(destination, destination.sealed.popleft())
        finally:
            del self._destinations[prefix]
            destination.seal()
            lost = sum(len(batch.records) for batch in destination.sealed)
            if lost:
                self._drop(lost, prefix, "the server stops")
            for batch in destination.sealed:
                self._forget(destination, batch)

    async def _gather(self, destination: _Destination) -> None:
        """Wait until the open batch is full or old, and seal it."""
        assert destination.open is not None
        due = destination.open.since + self._config.records_flush_s
        if self._running:
            await self._pause(destination, due - self._clock.now())
        if not self._running or self._clock.now() >= due - _TICK_S:
            destination.seal()

    async def _write(self, prefix: str, destination: _Destination, batch: _Batch) -> bool:
        """One object, tried again with growing pauses; False if it is given up."""
        url = f"{prefix.rstrip('/')}/{self._name(batch)}"
        body = b"\n".join([*batch.records, b""])
        for attempt in range(_ATTEMPTS_MAX):
            try:
                async with self._writes:
                    store, key = self._storage.open(url)
                    await store.put(key, body)
            except HostlerError as error:
                self._complain(prefix, str(error))
                if error.code in _HOPELESS:
                    return False
            else:
                return True
            due = self._clock.now() + min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2**attempt)
            while self._running and self._clock.now() < due - _TICK_S:
                await self._pause(destination, due - self._clock.now())
            if not self._running:
                await asyncio.sleep(_PAUSE_STOPPING_S)
        return False

    @staticmethod
    async def _pause(destination: _Destination, seconds: float) -> None:
        """Until then, or until there is something new."""
        destination.wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(destination.wake.wait(), max(0.0, seconds))

    def _name(self, batch: _Batch) -> str:
        at = datetime.fromtimestamp(batch.taken_at, UTC)
        return f"{at:%Y/%m/%d/%H/%M-%S}-{at.microsecond // 1000:03d}-{self._new_id()}.jsonl"

    # -- counting --------------------------------------------------------------------------

    def _forget(self, destination: _Destination, batch: _Batch) -> None:
        destination.waiting_bytes -= batch.size
        self.waiting_bytes -= batch.size

    def _drop(self, count: int, prefix: str, reason: str) -> None:
        self.dropped += count
        self._complain(prefix, f"records are dropped: {reason}")

    def _complain(self, prefix: str, reason: str) -> None:
        """Log it, unless something was logged just now: the numbers tell of the rest."""
        now = self._clock.now()
        if now - self._logged_at < _LOG_EVERY_S:
            return
        self._logged_at = now
        event = {
            "to": prefix,
            "reason": reason,
            "dropped": self.dropped,
            "waiting_bytes": self.waiting_bytes,
        }
        log.warning("records.not_written", extra={"event": event})


class _Batch:
    """Records of one object. `since`: monotonic seconds; `taken_at`: since the epoch."""

    __slots__ = ("records", "since", "size", "taken_at")

    def __init__(self, since: float, taken_at: float) -> None:
        self.since = since
        self.taken_at = taken_at
        self.records: list[bytes] = []
        self.size = 0


class _Destination:
    """What waits for one prefix. `wake`: there is a full batch, or it is time to stop."""

    __slots__ = ("open", "sealed", "task", "waiting_bytes", "wake")

    task: asyncio.Future[None]

    def __init__(self) -> None:
        self.open: _Batch | None = None
        self.sealed: deque[_Batch] = deque()
        self.waiting_bytes = 0
        self.wake = asyncio.Event()

    def seal(self) -> None:
        """The open batch is full, or old enough."""
        if self.open is not None:
            self.sealed.append(self.open)
            self.open = None
