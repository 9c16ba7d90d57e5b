"""Calls to actors on other machines: each goes to one that lives and has a free slot.

Where actors are placed, and that they are started again, is the cluster's business:

    AWAY --placed--> LOADING --loaded--> UP --lost--> AWAY

A call whose actor is lost fails; it may be made again, and then another one takes it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hostler.core import Clock, Code, HostlerError, Report

__all__ = ["Actor", "ActorLost", "Actors", "Node", "Terms"]

_DEATHS_MAX: Final = 3
"""Of one actor in a row while it loads; more would tell nothing new."""


class ActorLost(Exception):
    """The process or machine of an actor is gone, or out of reach; it may come back."""


class Node(Protocol):
    """What an actor does, made by a factory that its process imports."""

    async def load(self) -> bytes:
        """Make ready for calls, once; what is said of that."""
        ...

    async def call(self, payload: bytes) -> bytes:
        """Do something; several at a time."""
        ...

    async def close(self) -> None:
        """Free everything."""
        ...


class Actor(Protocol):
    """A process somewhere else that has a `Node`, from the side of who asks it."""

    async def placed(self) -> str:
        """Wait until it has a process, and tell where. Raises: ActorLost, HostlerError."""
        ...

    async def load(self) -> bytes:
        """See `Node`. Raises: ActorLost, HostlerError."""
        ...

    async def call(self, payload: bytes) -> bytes:
        """See `Node`; cancelled there if it is cancelled here. Raises: ActorLost, HostlerError."""
        ...

    async def close(self) -> None:
        """End it in order, in bounded time."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """`calls_max`: at a time, of each actor. `place_timeout_s`: without any that has a place.

    `report_s`: between lines of progress. `retry_s`: before an actor that was lost is looked for.
    """

    calls_max: int
    place_timeout_s: float = 300.0
    report_s: float = 5.0
    retry_s: float = 1.0


class _State(enum.Enum):
    AWAY = "waiting for a place"
    LOADING = "loading"
    UP = "ready"


class _Seat:
    """An actor as it is known here. `busy`: calls. `where`: its last place."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.state = _State.AWAY
        self.busy = 0
        self.where = ""


class Actors:
    """Takes calls for all of them, from `start` to `close`. Loop thread only.

    `loaded`: told what each says once it has loaded; what it raises ends all calls. `room`: what
    was asked of the cluster and what it has, in words.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        terms: Terms,
        clock: Clock,
        *,
        loaded: Callable[[bytes], None],
        room: Callable[[], str],
        report: Report,
    ) -> None:
        self._seats = [_Seat(actor) for actor in actors]
        self._terms = terms
        self._clock = clock
        self._loaded = loaded
        self._room = room
        self._report = report
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def slots(self) -> int:
        """Calls at a time, once all are up."""
        return len(self._seats) * self._terms.calls_max

    async def start(self) -> None:
        """Wait until one is up; others follow. Raises: HostlerError that says why none is."""
        for seat in self._seats:
            self._begin(self._bring_up(seat))
        self._begin(self._watch())
        (await self._take()).busy -= 1

    async def call(self, payload: bytes) -> bytes:
        """Have one do it. Raises: WORKER_LOST if that one died; HostlerError for all calls else."""
        seat = await self._take()
        try:
            return await seat.actor.call(payload)
        except ActorLost as lost:
            if seat.state is _State.UP:
                seat.state = _State.AWAY
                self._begin(self._bring_up(seat))
            raise HostlerError(
                Code.WORKER_LOST, f"the actor on {seat.where} was lost in the middle ({lost})"
            ) from None
        finally:
            seat.busy -= 1
            self._note()

    async def close(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        there = [seat.actor for seat in self._seats if seat.state is not _State.AWAY]
        await asyncio.gather(*(actor.close() for actor in there), return_exceptions=True)
        for seat in self._seats:
            seat.actor.kill()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whoever waits for an actor gets it
            self._error = self._error or error
            self._note()

    async def _take(self) -> _Seat:
        while True:
            if self._error is not None:
                raise self._error
            free = [
                seat
                for seat in self._seats
                if seat.state is _State.UP and seat.busy < self._terms.calls_max
            ]
            if free:
                seat = min(free, key=lambda seat: seat.busy)
                seat.busy += 1
                return seat
            await self._changed.wait()

    def _note(self) -> None:
        """Have all who wait look again: few do, as nobody asks for more than all slots."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _bring_up(self, seat: _Seat) -> None:
        deaths = 0
        while True:
            try:
                seat.where = await seat.actor.placed()
                seat.state = _State.LOADING
                self._loaded(await seat.actor.load())
            except ActorLost as lost:
                deaths += seat.state is _State.LOADING
                seat.state = _State.AWAY
                if deaths == _DEATHS_MAX:
                    raise HostlerError(
                        Code.WORKER_LOST,
                        f"the actor on {seat.where} died {deaths} times while it loaded the model "
                        f"({lost}); give it more memory, or see the logs of Ray there",
                    ) from None
                await asyncio.sleep(self._terms.retry_s)
            else:
                seat.state = _State.UP
                self._note()
                return

    async def _watch(self) -> None:
        """Tell how many are there, and do not wait for ever."""
        told, since = "", self._clock.now()
        while True:
            await asyncio.sleep(self._terms.report_s)
            counts = {state: sum(s.state is state for s in self._seats) for state in _State}
            line = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
            if counts[_State.AWAY] < len(self._seats):
                since = self._clock.now()
            elif self._clock.now() - since >= self._terms.place_timeout_s:
                raise HostlerError(
                    Code.RESOURCE_EXHAUSTED,
                    f"no actor has found a place in {self._terms.place_timeout_s:g} s: "
                    f"{self._room()}; ask for less with --workers and --worker-cpus, or give the "
                    "cluster more",
                )
            if counts[_State.UP] and line == told:
                continue  # work goes on: only what changes is news
            told = line
            rest = f"; {self._room()}" if counts[_State.AWAY] else ""
            self._report("" if counts[_State.UP] == len(self._seats) else f"actors: {line}{rest}")
