"""Objects from a store to the disk: resumed, retried, verified."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hostler.core import Clock, Code, HostlerError
from hostler.repository.config import Config
from hostler.repository.fetch.part import Part
from hostler.repository.fetch.progress import Meter
from hostler.repository.fetch.source import Offer, Wanted, shown
from hostler.repository.fetch.threads import Threads, ended
from hostler.storage import ObjectStore

__all__ = ["Download", "Pauses", "Replaced", "Work"]

log = logging.getLogger("hostler.repository")

_WRITE_BYTES: Final = 4 << 20
"""Gathered before a thread is asked to write and hash them."""
_FILES_AT_ONCE: Final = 8
_PAUSE_MAX_S: Final = 30.0
_STUCK_MAX: Final = 2
"""Attempts without a byte of a store that answers, before its object is read from the start."""
_DAMAGED_MAX: Final = 4


class Replaced(Exception):
    """The store has another object by now: what was begun is of no use."""


class Pauses:
    """Growing pauses between attempts: each twice the last one, up to half a minute.

    `attempts_max`: attempts in a row that bring nothing. `spread`: 0 to 1, which keeps those who
    were cut off together from coming back together.
    """

    def __init__(self, attempts_max: int, first_s: float, spread: float) -> None:
        self._attempts_max = attempts_max
        self._first_s = first_s * (1 + spread)
        self._failed = 0

    @property
    def coming(self) -> str:
        """The attempt after the pause, as in `attempt 3 of 8`."""
        return f"attempt {self._failed + 1} of {self._attempts_max}"

    @property
    def first(self) -> bool:
        """Whether one attempt has failed so far."""
        return self._failed == 1

    def progressed(self) -> None:
        """The store works; the next failure is a first one."""
        self._failed = 0

    def after(self, error: HostlerError) -> float:
        """Seconds to wait. Raises: the error, if it was the last attempt or repeating is no use."""
        self._failed += 1
        if error.code is not Code.UNAVAILABLE:
            raise error
        if self._failed >= self._attempts_max:
            raise HostlerError(
                error.code,
                f"{error.message} (given up after {self._failed} attempts, "
                "repository.fetch_attempts_max)",
                details=error.details,
                retry_after_s=error.retry_after_s,
            )
        return float(min(_PAUSE_MAX_S, self._first_s * 2 ** (self._failed - 1)))


@dataclass(frozen=True, slots=True)
class Work:
    """What one fetch works with.

    `say`: takes one line of progress. `no_md5`: places in which ETags have turned out to be no MD5,
    though they look like one (encrypted buckets).
    """

    threads: Threads
    clock: Clock
    config: Config
    say: Callable[[str], None]
    no_md5: set[str]


class Download:
    """All objects of an offer, into a folder that may hold a part of them."""

    def __init__(self, offer: Offer, store: ObjectStore, folder: Path, work: Work) -> None:
        self._offer = offer
        self._store = store
        self._folder = folder
        self._work = work
        self._url = shown(offer.source.url)
        now = work.clock.now()
        self._meter = Meter(f"downloading {self._url}", offer.size, now)

    async def run(self) -> int:
        """Have all of them there; returns their bytes.

        Raises: Replaced; HostlerError of the store, and INVALID_ARGUMENT for a wrong checksum;
        OSError. What has come so far stays there.
        """
        await self._work.threads.run(_note, self._folder, self._offer)
        self._work.say(self._meter.first())
        wanted = iter(self._offer.wanted)

        async def fetch_next() -> None:
            for item in wanted:
                await _Object(item, self).run()

        count = min(_FILES_AT_ONCE, len(self._offer.wanted))
        tasks = [asyncio.ensure_future(fetch_next()) for _ in range(count)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await ended(*tasks)
        return self._meter.done

    def pauses(self) -> Pauses:
        """For one object."""
        config = self._work.config
        spread = int(self._offer.key[:4], 16) / 0xFFFF
        return Pauses(config.fetch_attempts_max, config.fetch_pause_s, spread)

    def count(self, size: int, *, known: bool = False) -> None:
        """So many bytes more, or fewer. Raises: INVALID_ARGUMENT if an unknown size is too much."""
        line = self._meter.add(size, self._work.clock.now(), known=known)
        if line is not None:
            self._work.say(line)
        bytes_max = self._work.config.archive_bytes_max
        if self._offer.unpack and self._meter.done > bytes_max:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"'{self._url}' cannot be used: it has more than {bytes_max} bytes "
                "(repository.archive_bytes_max)",
            )

    @property
    def parts(self) -> tuple[ObjectStore, Path, Work, Offer]:
        """What its objects share."""
        return self._store, self._folder / "files", self._work, self._offer


class _Object:
    """One object of a download."""

    def __init__(self, wanted: Wanted, download: Download) -> None:
        self._wanted = wanted
        self._download = download
        self._store, folder, self._work, self._offer = download.parts
        source = self._offer.source
        self._place = "/".join(source.url.split("/")[:3])
        self._sha256 = source.sha256.lower()
        s3 = source.url.startswith("s3://")
        self._md5 = wanted.md5 if s3 and self._place not in self._work.no_md5 else ""
        digests = [*(["md5"] if self._md5 else []), *(["sha256"] if self._sha256 else [])]
        self._part = Part(folder / wanted.path, digests)
        self._wrong = ""
        self._damaged = 0

    async def run(self) -> None:
        try:
            await self._open()
            while True:
                await self._complete()
                if await self._verified():
                    return
        finally:
            await self._work.threads.run(self._part.close)

    async def _complete(self) -> None:
        """All bytes, in as many attempts as it takes."""
        pauses, stuck = self._download.pauses(), 0
        while True:
            before = self._part.size
            try:
                return await self._continue()
            except HostlerError as error:
                grown = self._part.size > before
                if grown:
                    pauses.progressed()
                pause_s = pauses.after(error)
                self._note(error, pause_s, pauses.coming)
            await asyncio.sleep(pause_s)
            same = await self._is_same()
            stuck = 0 if grown else stuck + same
            if not self._wanted.resumable or stuck > _STUCK_MAX:
                await self._reset()
                stuck = 0

    async def _open(self) -> None:
        threads = self._work.threads
        await threads.run(self._part.open)
        if not self._wanted.resumable:
            await threads.run(self._part.reset)
            return
        while not await threads.run(self._part.catch_up):
            pass
        self._download.count(self._part.size, known=True)
        if self._part.size > self._wanted.size:
            await self._reset()

    async def _reset(self) -> None:
        size = self._part.size
        await self._work.threads.run(self._part.reset)
        self._download.count(-size, known=True)

    async def _continue(self) -> None:
        """Read on to the end. Raises: UNAVAILABLE where it breaks off."""
        wanted = self._wanted
        if self._part.size == wanted.size:
            return
        pieces: list[bytes] = []
        gathered = 0
        try:
            stream = self._store.read(wanted.key, offset=self._part.size, etag=wanted.etag)
            async with _closing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    gathered += len(piece)
                    if 0 <= wanted.size < self._part.size + gathered:
                        break  # more than there is room for
                    if gathered >= _WRITE_BYTES:
                        await self._write(pieces)
                        pieces, gathered = [], 0
        finally:
            if pieces:
                await self._write(pieces)
        if wanted.size >= 0 and self._part.size != wanted.size:
            size, url = self._part.size, shown(self._offer.source.url)
            if size > wanted.size:
                await self._reset()
                reason = f"sends more than the {wanted.size} bytes that it is said to have"
            else:
                reason = f"ended after {size} of {wanted.size} bytes"
            raise HostlerError(Code.UNAVAILABLE, f"'{url}' {reason}")

    async def _write(self, pieces: Sequence[bytes]) -> None:
        before = self._part.size
        await self._work.threads.run(self._part.write, pieces)
        self._download.count(self._part.size - before)

    async def _verified(self) -> bool:
        """Whether the checksums are right; else it begins anew.

        Raises: INVALID_ARGUMENT if a sha256 is wrong twice. An ETag that looks like an MD5 is none
        where the bucket encrypts with its own keys: the same bytes twice are believed.
        """
        name = "sha256" if self._sha256 else "md5"
        expected = self._sha256 or self._md5
        if not expected:
            return True
        found = self._part.digest(name)
        if found == expected:
            return True
        first, self._wrong = self._wrong, found
        self._damaged += 1
        if found != first:
            if self._damaged > _DAMAGED_MAX:
                raise HostlerError(
                    Code.UNAVAILABLE,
                    f"'{shown(self._offer.source.url)}' arrives damaged, each time differently; "
                    f"its {name} should be {expected}",
                )
            self._work.say(f"{name} of {shown(self._offer.source.url)} is wrong; once more")
            await self._reset()
            return False
        if name == "sha256":
            await self._work.threads.run(self._part.reset)
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"'{shown(self._offer.source.url)}' has the sha256 {found}, but {expected} is "
                "expected; it is not the archive that was meant",
            )
        self._work.no_md5.add(self._place)
        log.warning("archive.etag_is_no_md5", extra={"event": {"place": self._place}})
        return True

    async def _is_same(self) -> bool:
        """Whether the store can be asked, and still has the same. Raises: Replaced, NOT_FOUND."""
        try:
            found = await self._store.stat(self._wanted.key)
        except HostlerError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            return False
        if found.etag != self._wanted.etag:
            raise Replaced
        return True

    def _note(self, error: HostlerError, pause_s: float, coming: str) -> None:
        url = shown(self._offer.source.url)
        reason = error.message.removeprefix(f"{url}: ")
        self._work.say(f"downloading {url}: {reason}, {coming} in {pause_s:.1f} s")
        event = {"url": url, "error": error.message, "pause_s": round(pause_s, 3)}
        log.warning("archive.download_cut", extra={"event": event})


def _note(folder: Path, offer: Offer) -> None:
    """In a thread: say of what this is a part, for people; its key binds it to these ETags."""
    (folder / "files").mkdir(0o700, parents=True, exist_ok=True)
    facts = {"url": shown(offer.source.url), "token": offer.token, "size_bytes": offer.size}
    (folder / "part.json").write_text(json.dumps(facts), encoding="utf-8")


@contextlib.asynccontextmanager
async def _closing(stream: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Close a generator that is not read to its end, and its connection with it."""
    try:
        yield
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
