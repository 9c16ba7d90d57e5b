"""Models of a multi-model container: fetched, hosted and loaded when somebody asks for them.

A target (`TargetModel`, an archive under the container's prefix) is hosted as `<prefix>/<target>`.
An archive that takes the place of another in the store is hosted beside it, as
`<prefix>//<target>`, until it is in memory; then requests go to it, and the old one is let go. So
no request ever meets half of either. Loop thread only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

from hostler.core import Clock, Code, Context, HostlerError
from hostler.serving.config import Config
from hostler.serving.endpoints.ports import Archives
from hostler.serving.endpoints.targets import (
    Copy,
    Target,
    TargetStatus,
    gone,
    late,
    not_yet,
    other_name,
    too_long,
    unusable,
)
from hostler.serving.handover import cancelled, handed_over
from hostler.serving.hosting import Hosting
from hostler.serving.live import LiveModel

__all__ = ["TargetModels"]

log = logging.getLogger("hostler.serving")

_NAME_MAX: Final = 1024
"""Source: `TargetModelHeader` of the SageMaker runtime's service description."""

# An archive that is not there costs one look at the store, and is often there the next moment.
_ABSENT_RETRY_S: Final = 1.0

_CHECKS_MAX: Final = 8
"""Looks at the store at the same time."""


_Act = Callable[[Target], Awaitable[LiveModel | None]]


class TargetModels:
    """The targets of one container.

    `archives`: where they come from; set another, and each target follows when it is next looked
    at. `after`: the ends of others that hosted models under the same prefix; nothing is hosted
    before.
    """

    def __init__(
        self, prefix: str, archives: Archives, hosting: Hosting, config: Config, clock: Clock
    ) -> None:
        self.archives = archives
        self.after: list[asyncio.Task[None]] = []
        self._prefix = prefix
        self._hosting = hosting
        self._config = config
        self._clock = clock
        self._find_live = hosting.live.get
        self._targets: dict[str, Target] = {}  # those that were cold last are at the end
        self._keys: dict[str, tuple[str, int | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._parting: set[Copy] = set()
        self._checks = asyncio.Semaphore(_CHECKS_MAX)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._cold = 0
        self._warm = 0
        self._loads = 0
        self._load_failures = 0
        self._replacements = 0

    # -- requests --------------------------------------------------------------------------

    def live(self, target: str) -> LiveModel | None:
        """The model if it is in memory right now; pin it before the next await."""
        key = self._keys.get(target)
        if key is None:
            return None
        live = self._find_live(key)
        if live is not None:
            self._warm += 1
        return live

    async def acquire(self, target: str, context: Context, *, ongoing: bool = False) -> LiveModel:
        """The model, pinned, fetched and loaded first if need be.

        Waits at most `Config.target_wait_s`, and not beyond the deadline. `ongoing`: as for
        `Hosting.acquire`. Raises: INVALID_ARGUMENT, NOT_FOUND for a target; UNAVAILABLE, with
        details `{"loading": True}` where it will be there later; what else `Archives` and a load
        raise.
        """
        live = self.live(target)
        if live is not None:
            live.pin()
            return live
        if self._closed or (self._hosting.stopping and not ongoing):
            raise HostlerError(Code.UNAVAILABLE, f"target model '{target}' is no longer served")
        self._cold += 1
        found = self._admit(target)
        now = self._clock.now()
        self._refuse(found, context, now)
        self._begin(found)
        wait_s = min(self._config.target_wait_s, context.deadline - now)
        return await handed_over(found.waiters, context, wait_s, lambda: not_yet(found, wait_s))

    def _refuse(self, found: Target, context: Context, now: float) -> None:
        """Raise at once where waiting is of no use."""
        if context.cancelled:
            raise cancelled()
        if context.deadline <= now:
            raise late(found.name)
        error = found.error
        if error is not None and now < found.retry_at:
            raise HostlerError(
                error.code,
                error.message,
                details=error.details,
                retry_after_s=found.retry_at - now,
            )
        if len(found.waiters) >= self._config.load_waiters_max:
            raise HostlerError(
                Code.QUEUE_FULL,
                f"{len(found.waiters)} requests wait for target model '{found.name}' to be loaded, "
                "the limit of serving.load_waiters_max",
                retry_after_s=1.0,
            )

    def _admit(self, target: str) -> Target:
        """Its entry, now the last of all; another one is forgotten for a new one if need be."""
        found = self._targets.pop(target, None)
        if found is None:
            if not 0 < len(target) <= _NAME_MAX:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"a target model's name has 1 to {_NAME_MAX} characters, not {len(target)}",
                )
            if len(self._targets) >= self._config.targets_max:
                self._forget_one()
            found = Target(target)
        self._targets[target] = found
        return found

    def _forget_one(self) -> None:
        """The one that was cold longest ago, of those at rest or else of the idle ones."""
        unused = [t for t in self._targets.values() if t.work is None and not t.waiters]
        victim = next((t for t in unused if self._at_rest(t)), None)
        if victim is None:
            victim = next((t for t in unused if not self._busy(t)), None)
        if victim is None:
            raise HostlerError(
                Code.QUEUE_FULL,
                f"all {len(self._targets)} target models of '{self._prefix}' are in use, the limit "
                "of serving.targets_max",
                retry_after_s=1.0,
            )
        del self._targets[victim.name]
        copy = self._part_from(victim)
        if copy is not None:
            self._retire(victim.name, copy)

    def _at_rest(self, found: Target) -> bool:
        return found.copy is None or self._hosting.at_rest(found.copy.names)

    def _busy(self, found: Target) -> bool:
        live = None if found.copy is None else self._find_live(found.copy.key)
        return live is not None and bool(live.busy)

    # -- loads -----------------------------------------------------------------------------

    def _begin(self, found: Target) -> None:
        if found.work is None:
            found.work = self._spawn(self._work(found, self._load))

    async def _work(self, found: Target, act: _Act) -> None:
        """One load or check at a time; whoever waits for the target gets what it ends with."""
        live: LiveModel | None = None
        failure: HostlerError | None = None
        try:
            async with asyncio.timeout(self._config.target_load_timeout_s):
                live = await act(found)
        except HostlerError as error:
            failure = error
        except TimeoutError:
            failure = too_long(found, self._config.target_load_timeout_s)
        except asyncio.CancelledError:
            self._hand_over(found, None, gone(found))
            raise
        except Exception:
            log.exception("target.load_crashed", extra={"event": {"target": found.name}})
            failure = HostlerError(
                Code.INTERNAL, f"target model '{found.name}' could not be loaded: internal error"
            )
        finally:
            found.work = None
        if failure is not None:
            self._note(found, failure)
        self._hand_over(found, live, failure)
        if live is not None:
            found.error = None
            live.release()
            self._watch()
        if found.waiters:  # they came while another archive was looked for, and none was in memory
            self._begin(found)

    def _hand_over(
        self, found: Target, live: LiveModel | None, failure: HostlerError | None
    ) -> None:
        if live is None and failure is None:
            return
        waiters, found.waiters = found.waiters, {}
        for waiter in waiters:
            if waiter.done():
                continue
            if live is not None:
                live.pin()
                waiter.set_result(live)
            elif failure is not None:
                # One for each: a shared exception would collect the tracebacks of all.
                waiter.set_exception(
                    HostlerError(
                        failure.code,
                        failure.message,
                        details=failure.details,
                        retry_after_s=failure.retry_after_s,
                    )
                )

    def _note(self, found: Target, failure: HostlerError) -> None:
        """Remember an error for a while; that memory was short is no fault of the target's."""
        event = {"target": f"{self._prefix}/{found.name}", "error": failure.message}
        log.warning("target.load_failed", extra={"event": event})
        self._load_failures += 1
        if failure.code is Code.RESOURCE_EXHAUSTED:
            return
        retry_s = self._config.load_retry_s
        if failure.code is Code.NOT_FOUND:
            retry_s = min(retry_s, _ABSENT_RETRY_S)
        found.error = failure
        found.retry_at = self._clock.now() + retry_s

    async def _load(self, found: Target) -> LiveModel:
        """Have what the store holds in memory; gives it pinned."""
        copy = await self._current(found)
        try:
            live = await self._hosting.acquire(copy.entry, Context(), ongoing=True)
        except HostlerError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                await self._drop(found)  # the next attempt looks at the store again
            raise unusable(error) from None
        self._loads += 1
        return live

    async def _current(self, found: Target) -> Copy:
        """The copy of what the store holds now, fetched unless it is on the disk."""
        copy = found.copy
        if copy is not None and copy.archive is not None and copy.source is self.archives:
            try:
                same = await self.archives.token(found.name) == copy.archive.token
            except HostlerError as error:
                if error.code is Code.NOT_FOUND:
                    await self._drop(found)
                    raise
                same = True  # the store cannot be asked, and this is on the disk
            if same:
                self._keys[found.name] = copy.key
                return copy
        new = await self._open(found)
        old, found.copy = found.copy, new
        self._keys[found.name] = new.key
        if old is not None and old.entry != new.entry:
            self._retire(found.name, old)
        return new

    async def _open(self, found: Target) -> Copy:
        """Fetch and host; the copy's names are no others that are in use."""
        for earlier in (*self.after, self._retiring.get(found.name)):
            if earlier is not None:
                await asyncio.wait([earlier])
        self.after.clear()
        before, source = found.copy, self.archives
        in_place = before is not None and before.archive is None  # nothing of it can be asked
        entry = "" if before is None else before.entry
        name = entry if in_place else other_name(self._prefix, found.name, entry)
        try:
            archive = await source.open(found.name, name, found.say)
        finally:
            found.step = ""
        copy = Copy(archive, source)
        try:
            await self._hosting.host(archive.packages, 0.0)
            if before is not None and before.entry == copy.entry:
                await self._hosting.unhost(set(before.names) - set(copy.names), copy.entry)
        except BaseException:
            self._retire(found.name, copy)
            raise
        return copy

    def _part_from(self, found: Target) -> Copy | None:
        copy, found.copy = found.copy, None
        self._keys.pop(found.name, None)
        return copy

    async def _drop(self, found: Target) -> None:
        copy = self._part_from(found)
        if copy is not None:
            await asyncio.wait([self._retire(found.name, copy)])

    def _retire(self, target: str, copy: Copy) -> asyncio.Task[None]:
        """Let its requests finish, take it out of memory, and then its archive off the disk."""
        self._parting.add(copy)
        before = self._retiring.get(target)
        task = self._retiring[target] = self._spawn(self._unhost(copy, before))

        def over(task: asyncio.Task[None]) -> None:
            if self._retiring.get(target) is task:
                del self._retiring[target]

        task.add_done_callback(over)
        return task

    async def _unhost(self, copy: Copy, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._hosting.unhost(copy.names, copy.entry)
        copy.release()
        self._parting.discard(copy)

    # -- other archives in the store -------------------------------------------------------

    def _watch(self) -> None:
        """Look at the store from time to time, for as long as anything is in memory."""
        if self._timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._config.target_check_s, self._look)

    def _look(self) -> None:
        self._timer = None
        for name, key in self._keys.items():
            live = self._find_live(key)
            if live is None:
                continue
            self._watch()
            found = self._targets[name]
            if found.work is None and (live.pins or live.last_used >= found.checked_at):
                found.checked_at = self._clock.now()
                found.work = self._spawn(self._work(found, self._check))

    async def _check(self, found: Target) -> LiveModel | None:
        """Put another archive in the place of the one in memory; gives it pinned.

        Where that cannot be, the one in memory goes on, even if its archive is gone from the store.
        """
        copy = found.copy
        if copy is None or copy.archive is None:
            return None
        token = ""
        try:
            async with self._checks:
                token = await self.archives.token(found.name)
            same = token == copy.archive.token and copy.source is self.archives
            if same or found.refuses(token, self._clock.now()):
                return None
            new = await self._open(found)
        except HostlerError as error:
            if error.code not in (Code.UNAVAILABLE, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED):
                found.refuse(token, self._clock.now())
            if error.code is not Code.NOT_FOUND:
                self._say_kept(found, error)
            return None
        return await self._replace(found, copy, new, token)

    async def _replace(self, found: Target, old: Copy, new: Copy, token: str) -> LiveModel | None:
        try:
            live = await self._hosting.acquire(new.entry, Context(), ongoing=True)
        except BaseException as error:
            self._retire(found.name, new)
            if not isinstance(error, HostlerError):
                raise
            if error.code is not Code.RESOURCE_EXHAUSTED:
                found.refuse(token, self._clock.now())
            self._say_kept(found, error)
            return None
        found.copy = new
        self._keys[found.name] = new.key
        self._retire(found.name, old)
        self._loads += 1
        self._replacements += 1
        log.info("target.replaced", extra={"event": {"target": f"{self._prefix}/{found.name}"}})
        return live

    def _say_kept(self, found: Target, error: HostlerError) -> None:
        event = {"target": f"{self._prefix}/{found.name}", "error": error.message}
        log.warning("target.not_replaced", extra={"event": event})

    # -- letting go ------------------------------------------------------------------------

    def release_idle(self) -> bool:
        """Let go of the archives of targets that are not in memory; they are opened again later.

        Whether there were any.
        """
        released = False
        for name, copy in self._held():
            if self._hosting.at_rest(copy.names):
                self._keys.pop(name, None)
                copy.release()
                released = True
        return released

    def idle(self) -> list[tuple[float, list[str]]]:
        """Of targets in memory that nobody asks: their last use, and the names of their models."""
        lives = [(self._find_live(copy.key), copy) for _, copy in self._held()]
        return [
            (live.last_used, copy.names)
            for live, copy in lives
            if live is not None and not live.busy
        ]

    def _held(self) -> Iterator[tuple[str, Copy]]:
        """Those whose archives are held, and of which nothing is under way."""
        for found in self._targets.values():
            copy = found.copy
            if copy is None or copy.archive is None or found.work is not None or found.waiters:
                continue
            yield found.name, copy

    async def close(self) -> None:
        """Take no more requests; finish those there are, and leave nothing behind. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        works = [found.work for found in self._targets.values() if found.work is not None]
        while works:
            await asyncio.wait(works)
            works = [found.work for found in self._targets.values() if found.work is not None]
        for found in self._targets.values():
            copy = self._part_from(found)
            if copy is not None:
                self._retire(found.name, copy)
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """End all work at once; the models are withdrawn by whoever stops the server."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))
        for found in self._targets.values():  # of work that was cancelled before it began
            self._hand_over(found, None, gone(found))

    def release_all(self) -> None:
        """Nothing is in memory any more."""
        for found in self._targets.values():
            if found.copy is not None:
                found.copy.release()
        for copy in self._parting:
            copy.release()

    def status(self) -> TargetStatus:
        """Its facts now."""
        return TargetStatus(
            prefix=self._prefix,
            known=len(self._targets),
            loaded=sum(self._find_live(key) is not None for key in self._keys.values()),
            cold=self._cold,
            warm=self._warm,
            loads=self._loads,
            load_failures=self._load_failures,
            replacements=self._replacements,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
