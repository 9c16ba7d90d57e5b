"""How much of a job is in flight: bytes read and not written, and groups that are asked."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Share", "Window"]


class Window:
    """Room that all objects of a job share. First come, first served. Loop thread only.

    What enters has its `turn` while it is asked, and leaves when its answers are written. Larger
    than all room, it goes alone. Nobody waits for ever if what is inside needs no more room to be
    asked and written: objects enter with all that they cannot do without, see `Share`, or group by
    group in their order.

    `bytes_max`: all room. `turns`: how many groups are asked at the same time.
    """

    def __init__(self, bytes_max: int, turns: int) -> None:
        self.bytes_max = bytes_max
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.turn = asyncio.Semaphore(turns)

    @property
    def used(self) -> int:
        """Bytes inside."""
        return self._used

    async def enter(self, size: int) -> None:
        """Wait for room; then `leave` once, whatever happens."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, waiter)
        self._waiting.append(entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
                self._admit()
            else:  # let in, and cancelled before it could know
                self.leave(size)
            raise

    def may_enter(self, size: int) -> bool:
        """Enter without waiting, where there is room that nobody waits for."""
        if self._waiting or self._used + size > self.bytes_max:
            return False
        self._used += size
        return True

    def grow(self, more: int) -> None:
        """Count what a group turned out to need beside; it is inside, so it does not wait."""
        self._used += more

    def leave(self, size: int) -> None:
        """A group is written, or given up. `size`: as it entered, and what it grew by."""
        self._used -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._used <= 0 or self._used + size <= self.bytes_max

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, waiter = self._waiting.popleft()
            if not waiter.cancelled():
                self._used += size
                waiter.set_result(None)


class Share:
    """The room of one object, from before it is read to its end. Loop thread only.

    `floor`: what it cannot do without, the most that its reader holds at a time; it is inside with
    that all the while. With more it goes ahead where room is left. Nobody waits for ever: with no
    group inside, the object goes on whatever the reader holds; else that group's end is near.
    """

    def __init__(self, window: Window, floor: int) -> None:
        self._window = window
        self._floor = min(floor, window.bytes_max)
        self._room = 0  # in the window
        self._held = 0  # by the reader, in no group yet
        self._inside = 0
        self._left = asyncio.Event()

    async def open(self) -> None:
        """Wait for the floor; then `close` once, whatever happens."""
        await self._window.enter(self._floor)
        self._room = self._floor

    def close(self) -> None:
        """All is written, or given up."""
        self._window.leave(self._room)
        self._room = self._held = self._inside = 0

    def hold(self, size: int) -> None:
        """The reader has so many bytes that are in no group inside."""
        self._held = size

    async def enter(self, size: int) -> None:
        """Wait until a group fits beside what there is; of 0 bytes, until the reader may go on."""
        while (need := self._held + self._inside + size - self._room) > 0:
            if self._window.may_enter(need):
                self._room += need
            elif not self._inside:
                self._take(need)
            else:
                self._left.clear()
                await self._left.wait()
        self._inside += size

    def grow(self, more: int) -> None:
        """A group turned out to need more; it is inside, so it does not wait."""
        self._inside += more
        self._take(self._held + self._inside - self._room)

    def leave(self, size: int) -> None:
        """A group is written. `size`: as it entered, and what it grew by."""
        self._inside -= size
        spare = self._room - max(self._floor, self._held + self._inside)
        if spare > 0:
            self._room -= spare
            self._window.leave(spare)
        self._left.set()

    def _take(self, need: int) -> None:
        if need > 0:
            self._room += need
            self._window.grow(need)
