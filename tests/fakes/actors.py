"""Actors of a cluster that lose and find their places as a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hostler.core import Code, HostlerError
from hostler.placement.actors import ActorLost

__all__ = ["REFUSAL", "FakeActor"]

REFUSAL = (Code.INVALID_ARGUMENT, "other files")


@dataclass
class FakeActor:
    """Calls take `call_s`. `place_s`: until it has a place, None for never.

    `loads`: what happens at each load: what is said, or an error; the last one for all after it.
    """

    name: str = "a"
    call_s: float = 1.0
    place_s: float | None = 0.5
    loads: list[bytes | Exception] = field(default_factory=lambda: [b"token"])
    done: list[bytes] = field(default_factory=list)
    busy: int = 0
    busy_max: int = 0
    cancelled: int = 0
    ended: str = ""
    _here: list[asyncio.Task[None]] = field(default_factory=list)
    lost: set[asyncio.Task[None]] = field(default_factory=set)

    async def placed(self) -> str:
        if self.place_s is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.place_s or 0.0)
        return f"host-{self.name}"

    async def load(self) -> bytes:
        said = self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]
        if isinstance(said, Exception):
            raise said
        return said

    async def call(self, payload: bytes) -> bytes:
        self.busy += 1
        self.busy_max = max(self.busy_max, self.busy)
        work = asyncio.create_task(asyncio.sleep(self.call_s))
        self._here.append(work)
        try:
            await work
        except asyncio.CancelledError:
            if work in self.lost:
                raise ActorLost("socket closed") from None
            work.cancel()
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1
            self._here.remove(work)
        if payload == b"refuse":
            raise HostlerError(*REFUSAL)
        self.done.append(payload)
        return payload.upper()

    def die(self) -> None:
        """Lose what it does."""
        for work in self._here:
            self.lost.add(work)
            work.cancel()

    async def close(self) -> None:
        self.ended = "closed"

    def kill(self) -> None:
        self.ended = self.ended or "killed"
