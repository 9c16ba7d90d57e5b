"""Models from stores into the cache on the disk: one fetch for all who want the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hostler.core import Clock, Code, HostlerError, Report
from hostler.repository.config import Config
from hostler.repository.fetch.cache import DiskCache, KeyLock, Record, disk_error
from hostler.repository.fetch.download import Download, Pauses, Replaced, Work
from hostler.repository.fetch.progress import EVERY_S
from hostler.repository.fetch.quota import Quota
from hostler.repository.fetch.source import ModelSource, Offer, check_source, offer_of, shown
from hostler.repository.fetch.threads import Threads, ended
from hostler.repository.fetch.unpacking import unpack_archive
from hostler.storage import ObjectStat, ObjectStore, Storage

__all__ = ["Fetched", "Fetcher"]

log = logging.getLogger("hostler.repository")

_LOCK_LOOK_S: Final = 0.2
_REPLACED_MAX: Final = 5
_EXTRA_THREADS: Final = 2
_SETTLE_S: Final = 3.0
"""After which what was fetched is made to outlast a loss of power, many models at once."""


class Fetched:
    """A model on the disk, which stays there, as it is, until `release`.

    `folder`: absolute; nobody may write there. `token`: of the content, as `Fetcher.token` gives
    it. `size_bytes`: of its files.
    """

    __slots__ = ("_release", "folder", "size_bytes", "token")

    def __init__(
        self, folder: Path, token: str, size_bytes: int, release: Callable[[], None]
    ) -> None:
        self.folder = folder
        self.token = token
        self.size_bytes = size_bytes
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """It may be removed from the disk. Idempotent. Loop thread only."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


@dataclass(slots=True)
class _Held:
    """An entry of the cache that this server uses, and how often."""

    lock: KeyLock
    size_bytes: int
    count: int = 0


@dataclass(slots=True)
class _Flight:
    """One content that is being fetched, and who waits for it."""

    offer: Offer
    store: ObjectStore
    clock: Clock
    began: float
    reports: list[Report] = field(default_factory=list)
    line: str = ""
    task: asyncio.Task[_Held] | None = None

    def say(self, line: str) -> None:
        self.line = line
        lasts = self.clock.now() - self.began >= EVERY_S  # most take less, and end with a line
        log.log(
            logging.INFO if lasts else logging.DEBUG,
            "archive.progress",
            extra={"event": {"line": line}},
        )
        for report in list(self.reports):
            report(line)


class Fetcher:
    """Brings models to the disk and keeps them there, within a quota. Loop thread only.

    Entries are found by what they hold: an archive that is replaced in its store makes a new one,
    and the old one stays until nobody uses it and room is needed. Folders of file:// URLs are
    copied too, so that a change cannot tear a model that serves. `storage`: where stores come
    from; nothing is opened before the first fetch.
    """

    def __init__(self, config: Config, storage: Storage, clock: Clock) -> None:
        self._config = config
        self._storage = storage
        self._clock = clock
        self._cache = DiskCache(Path(config.archive_cache_dir))
        self._threads = Threads(config.fetches_max + _EXTRA_THREADS)
        self._quota = Quota(self._cache, config.archive_cache_bytes_max, self._threads, clock)
        self._slots = asyncio.Semaphore(config.fetches_max)
        self._flights: dict[str, _Flight] = {}
        self._held: dict[str, _Held] = {}
        self._no_md5: set[str] = set()
        self._swept = False
        self._unsettled: set[str] = set()
        self._settling: asyncio.Task[None] | None = None

    async def fetch(self, source: ModelSource, report: Report, timeout_s: float = 3600) -> Fetched:
        """The model of a source, as the store has it now; the caller releases it.

        What is downloaded when this is cancelled or fails is kept, and gone on with next time.
        `report` gets a line when a step begins and at most every two seconds.
        Raises: NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT for an archive that is refused or a
        wrong checksum; UNAVAILABLE where store or disk fail; RESOURCE_EXHAUSTED for the quota;
        DEADLINE_EXCEEDED after `timeout_s`.
        """
        check_source(source)
        line = ""

        def hear(said: str) -> None:
            nonlocal line
            line = said
            report(said)

        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await self._fetch(source, hear)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"'{shown(source.url)}' was not fetched within {timeout_s:g} s; the last step was: "
                f"{line or 'asking the store'}. What is downloaded is kept for the next attempt",
            ) from error
        except OSError as error:
            raise disk_error(error, self._cache.folder) from error

    async def token(self, source: ModelSource) -> str:
        """What the store has now, without fetching it; see `Fetched.token`. Raises: as `fetch`."""
        check_source(source)
        offer, _ = await self._offer(source)
        return offer.token

    def on_pressure(self, callback: Callable[[], None]) -> None:
        """Have this called before the quota removes anything, so that holders may release.

        What is released within some seconds counts; until it is enough this is called again. It
        must not raise.
        """
        self._quota.on_pressure(callback)

    def bytes_used(self) -> int:
        """What the cache holds on the disk. Blocks; may be called from any thread."""
        try:
            return self._cache.bytes_used()
        except OSError:  # what is being removed meanwhile
            return 0

    async def close(self) -> None:
        """End what goes on; it can be gone on with. What was given out is protected no more."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        if self._settling is not None:
            self._settling.cancel()
            await ended(self._settling)
        await ended(*tasks)
        while self._held:
            self._held.popitem()[1].lock.close()
        self._threads.close()

    # -- what the store has ----------------------------------------------------------------

    async def _fetch(self, source: ModelSource, report: Report) -> Fetched:
        for _ in range(_REPLACED_MAX):
            offer, store = await self._offer_patiently(source, report)
            with contextlib.suppress(Replaced):
                return await self._shared(offer, store, report)
        raise HostlerError(
            Code.UNAVAILABLE,
            f"'{shown(source.url)}' was replaced {_REPLACED_MAX} times while it was fetched",
        )

    async def _offer_patiently(
        self, source: ModelSource, report: Report
    ) -> tuple[Offer, ObjectStore]:
        pauses = Pauses(self._config.fetch_attempts_max, self._config.fetch_pause_s, 0.0)
        url = shown(source.url)
        report(f"fetching {url}: asking the store")
        while True:
            try:
                return await self._offer(source)
            except HostlerError as error:
                pause_s = pauses.after(error)
                reason = error.message.removeprefix(f"{url}: ")
                if pauses.first:
                    log.warning("archive.no_store", extra={"event": {"url": url, "error": reason}})
            report(f"fetching {url}: {reason}, {pauses.coming}")
            await asyncio.sleep(pause_s)

    async def _offer(self, source: ModelSource) -> tuple[Offer, ObjectStore]:
        store, key = self._storage.open(source.url)
        base = f"{key.rstrip('/')}/" if key.strip("/") else ""
        if source.prefix:
            return await self._listed(source, store, base), store
        try:
            if key.endswith("/") and source.url.startswith("file:"):
                return await self._listed(source, store, base), store
            found = [await store.stat(key)]
        except HostlerError as error:
            if error.code is not Code.NOT_FOUND or not source.url.startswith("file:"):
                raise
            return await self._folder(source, store, base, error), store
        return offer_of(source, found, None, self._config), store

    async def _folder(
        self, source: ModelSource, store: ObjectStore, base: str, error: HostlerError
    ) -> Offer:
        """A file:// URL that names no file: a folder, or nothing."""
        try:
            return await self._listed(source, store, base)
        except HostlerError as nothing:
            raise (error if nothing.code is Code.NOT_FOUND else nothing) from None

    async def _listed(self, source: ModelSource, store: ObjectStore, base: str) -> Offer:
        found: list[ObjectStat] = []
        async for item in store.list(base):
            found.append(item)
            if len(found) > 2 * self._config.archive_files_max:
                break  # the offer refuses them
        return offer_of(source, found, base, self._config)

    # -- one fetch for all who want it -----------------------------------------------------

    async def _shared(self, offer: Offer, store: ObjectStore, report: Report) -> Fetched:
        key = offer.key
        held = self._held.get(key)
        if held is not None:
            return self._given(offer, held)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(offer, store, self._clock, self._clock.now())
            flight.task = asyncio.get_running_loop().create_task(self._fly(flight))
        task = flight.task
        assert task is not None
        flight.reports.append(report)
        if flight.line:
            report(flight.line)
        try:
            return self._given(offer, await asyncio.shield(task))
        except HostlerError as error:
            # One for each who waits: a shared exception would collect the tracebacks of all.
            raise HostlerError(
                error.code, error.message, details=error.details, retry_after_s=error.retry_after_s
            ) from None
        finally:
            flight.reports.remove(report)
            if not flight.reports:
                await self._left(flight, task)

    async def _left(self, flight: _Flight, task: asyncio.Task[_Held]) -> None:
        """Nobody waits any more."""
        key = flight.offer.key
        if not task.done():
            if self._flights.get(key) is flight:
                del self._flights[key]
            task.cancel()
            await ended(task)
        if not task.cancelled() and task.exception() is None:
            self._drop(key, task.result())  # the flight's own use of it

    def _given(self, offer: Offer, held: _Held) -> Fetched:
        held.count += 1
        folder = self._cache.model(offer.key)
        key = offer.key
        return Fetched(folder, offer.token, held.size_bytes, lambda: self._drop(key, held))

    def _drop(self, key: str, held: _Held) -> None:
        held.count -= 1
        if held.count:
            return
        if self._held.get(key) is held:
            del self._held[key]
        self._cache.note_use(key, self._clock.wall())
        held.lock.close()
        self._quota.released()

    async def _fly(self, flight: _Flight) -> _Held:
        key = flight.offer.key
        lock = await self._threads.run(self._cache.lock, key)
        try:
            if not self._swept:
                self._swept = True
                await self._threads.run(self._cache.sweep)
            record = await self._locked(flight, lock)
        except BaseException:
            lock.close()
            raise
        finally:
            self._quota.free(key)
            if self._flights.get(key) is flight:
                del self._flights[key]
        # Counted once for the flight itself, until all who wait have taken theirs.
        held = self._held[key] = _Held(lock, record.size_bytes, 1)
        return held

    async def _locked(self, flight: _Flight, lock: KeyLock) -> Record:
        """The entry's record, with a shared lock on it."""
        cache, key = self._cache, flight.offer.key
        waited = False
        while True:
            if await self._threads.run(lock.take, exclusive=False):
                record = await self._threads.run(cache.record, key)
                if record is not None:
                    cache.note_use(key, self._clock.wall())
                    return record
                if await self._threads.run(lock.take, exclusive=True):
                    if await self._threads.run(cache.record, key) is None:
                        await self._make(flight)
                    continue
            if not waited:
                waited = True
                url = shown(flight.offer.source.url)
                flight.say(f"waiting for another process that fetches {url}")
            await asyncio.sleep(_LOCK_LOOK_S)

    # -- making an entry -------------------------------------------------------------------

    async def _make(self, flight: _Flight) -> None:
        offer, cache, key = flight.offer, self._cache, flight.offer.key
        started = self._clock.now()
        if self._slots.locked():
            flight.say(f"waiting for other models to be fetched before {shown(offer.source.url)}")
        async with self._slots:
            work = Work(self._threads, self._clock, self._config, flight.say, self._no_md5)
            try:
                config = self._config
                most = min(config.archive_bytes_max, config.archive_cache_bytes_max)
                await self._reserve(offer, offer.size if offer.size >= 0 else most)
                download = Download(offer, flight.store, cache.part(key), work)
                loaded_bytes = await download.run()
                record = await self._unpack(offer, loaded_bytes, work)
                await self._threads.run(cache.commit, key, record)
            except BaseException as error:
                await self._clear(key, error)
                raise
        self._unsettled.add(key)
        if self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._settle())
        event = {
            "url": shown(offer.source.url),
            "token": offer.token,
            "size_bytes": record.size_bytes,
            "files": record.files,
            "fetch_s": round(self._clock.now() - started, 3),
        }
        log.info("archive.fetched", extra={"event": event})

    async def _settle(self) -> None:
        """Until nothing new has come for a while."""
        try:
            while self._unsettled:
                await asyncio.sleep(_SETTLE_S)
                keys, self._unsettled = self._unsettled, set()
                with contextlib.suppress(OSError):  # they count as long as the machine is up
                    await self._threads.run(self._cache.settle, keys)
        finally:
            self._settling = None

    async def _reserve(self, offer: Offer, size: int) -> None:
        await self._quota.reserve(offer.key, size, shown(offer.source.url))

    async def _unpack(self, offer: Offer, loaded_bytes: int, work: Work) -> Record:
        cache, key = self._cache, offer.key
        draft = await self._threads.run(cache.begin, key)
        files = cache.part(key) / "files"
        if offer.unpack:
            await self._threads.run(os.mkdir, draft, 0o700)

            async def reserve(unpacked_bytes: int) -> None:
                await self._reserve(offer, loaded_bytes + unpacked_bytes)

            archive = files / offer.wanted[0].path
            progress = await unpack_archive(archive, draft, offer.source.url, reserve, work)
            size, count = progress.bytes, progress.files
        else:
            await self._threads.run(os.rename, files, draft)
            size, count = loaded_bytes, len(offer.wanted)
        return Record(
            url=shown(offer.source.url),
            token=offer.token,
            size_bytes=size,
            files=count,
            created=self._clock.wall(),
        )

    async def _clear(self, key: str, error: BaseException) -> None:
        """Remove what was unpacked; of what is of no use, the download too."""
        useless = isinstance(error, Replaced) or (
            isinstance(error, HostlerError)
            and error.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
        )
        remove = self._cache.remove if useless else self._cache.discard
        with contextlib.suppress(OSError):  # what is left does not count, and goes next time
            await self._threads.run(remove, key)
