"""Gives loads their place in memory, in order, and has idle models evicted for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Protocol

from hostler.core import HostlerError
from hostler.serving.live import Changes
from hostler.serving.memory import Ledger, Resident, for_jobs, movable_bytes, plan, shortage

__all__ = ["Residents", "Room"]

# So many claims from the head are tried at each change: a large model that waits does not hold
# back small ones, and a thousand that wait do not make every change a thousand plans.
_LOOK_AHEAD: Final = 8

# So often a claim may be passed by smaller ones behind it; then they are held back, so that memory
# can gather for it, but no longer than this: those in its way may be busy for hours.
_PASSED_MAX: Final = 8
_HOLD_BACK_S: Final = 2.0

# So long jobs stay away from memory that a client has waited for in vain: it was told to come back
# in a second, and would else find new requests of jobs there each time.
_OWED_S: Final = 5.0


class Residents(Protocol):
    """Who is in memory, and who can send them away."""

    def residents(self) -> list[Resident]:
        """All models in memory; those that are loading are not there yet."""
        ...

    def evict(self, victims: list[Resident], needed_bytes: int, reason: str) -> None:
        """Start the eviction of idle models; calls `Ledger.leave` for each before it returns."""
        ...


def _of_client() -> float:
    return 0.0


class _Claim:
    """`yields_s`: see `Room.take`. `as_job`: its time began to run while it was a job's."""

    __slots__ = (
        "as_job",
        "held",
        "key",
        "label",
        "needed_bytes",
        "passed",
        "placed",
        "timer",
        "until",
        "yields_s",
    )

    def __init__(
        self, key: Hashable, label: str, needed_bytes: int, yields_s: Callable[[], float]
    ) -> None:
        self.key = key
        self.label = label
        self.needed_bytes = needed_bytes
        self.yields_s = yields_s
        self.as_job = bool(yields_s())
        self.timer: asyncio.TimerHandle | None = None
        self.placed = False
        self.passed = 0
        self.until: float | None = None
        self.held: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Room:
    """The queue of loads that want memory. Loop thread only.

    A claim is *placed* when the budget can take it once some evictions are through, which start
    then, and *held* when they are; so evictions come before the load that needs them allocates.

    Claims of clients go first. As long as one waits that has a place once jobs are out of the way,
    `clears` says so, and those who ask for jobs take no new pins.
    """

    def __init__(
        self, ledger: Ledger, residents: Residents, changes: Changes, wait_s: float
    ) -> None:
        self._ledger = ledger
        self._residents = residents
        self._changes = changes
        self._wait_s = wait_s
        self._waiting: list[_Claim] = []
        self._placed: list[_Claim] = []
        self._owed: dict[str, tuple[float, int]] = {}
        self._listening = False

    def fits(self, needed_bytes: int) -> bool:
        """Whether a load can be placed without evicting anybody."""
        ledger = self._ledger
        return not self._waiting and ledger.committed_bytes + needed_bytes <= ledger.budget_bytes

    def clears(self) -> bool:
        """Whether a client waits for memory, or just has, that jobs could let it have."""
        if not (self._waiting or self._owed):
            return False
        now = asyncio.get_running_loop().time()
        self._owed = {label: owed for label, owed in self._owed.items() if owed[0] > now}
        needed = [size for _, size in self._owed.values()]
        needed += [claim.needed_bytes for claim in self._waiting if not claim.yields_s()]
        if not needed:
            return False
        left = self._ledger.committed_bytes - movable_bytes(self._residents.residents())
        return left + min(needed) <= self._ledger.budget_bytes

    async def take(
        self,
        key: Hashable,
        label: str,
        needed_bytes: int,
        yields_s: Callable[[], float] = _of_client,
    ) -> None:
        """Wait until `key` holds this much; the caller gives it back with `Ledger.free`.

        Waits at most `wait_s` for busy models to become idle. `yields_s`: asked again and again;
        not 0 for as long as only jobs want it: models that clients have had in the last so many
        seconds do not go for it then. Raises: RESOURCE_EXHAUSTED.
        """
        if needed_bytes > self._ledger.budget_bytes:
            raise shortage(label, needed_bytes, self._ledger, self._residents.residents())
        claim = _Claim(key, label, needed_bytes, yields_s)
        self._waiting.append(claim)
        self.pump()
        if claim.held.done():
            return
        self._time(claim)
        try:
            await claim.held
        except BaseException:
            self._drop(claim)
            raise
        finally:
            if claim.timer is not None:
                claim.timer.cancel()

    def _time(self, claim: _Claim) -> None:
        claim.timer = asyncio.get_running_loop().call_later(self._wait_s, self._expire, claim)

    def relieve(self, reason: str) -> bool:
        """Evict idle models until the budget is kept; False where that cannot be."""
        excess = self._ledger.committed_bytes - self._ledger.budget_bytes
        if excess <= 0:
            return True
        victims = plan(self._residents.residents(), excess)
        if victims is None:
            return False
        self._residents.evict(victims, excess, reason)
        return True

    def pump(self) -> None:
        """Place and hold what can be, in order; those of jobs when none of a client waits."""
        self._place_some([claim for claim in self._waiting if not claim.yields_s()])
        if all(claim.yields_s() for claim in self._waiting) and not self.clears():
            self._place_some(self._waiting)
        for claim in tuple(self._placed):
            if not claim.held.done() and self._ledger.may_hold(claim.key):
                self._ledger.hold(claim.key)
                self._placed.remove(claim)
                claim.held.set_result(None)
        self._listen()

    def _place_some(self, claims: Sequence[_Claim]) -> None:
        before: list[_Claim] = []
        for claim in claims[:_LOOK_AHEAD]:
            if self._place(claim):
                for passed in before:
                    passed.passed += 1
            elif self._holds_back(claim):
                break
            else:
                before.append(claim)

    def _place(self, claim: _Claim) -> bool:
        ledger = self._ledger
        excess = ledger.committed_bytes + claim.needed_bytes - ledger.budget_bytes
        victims = plan(self._seen_by(claim), excess) if excess > 0 else []
        if victims is None or claim.held.done():  # done: its load gave up, and takes it away soon
            return False
        self._waiting.remove(claim)
        self._placed.append(claim)
        claim.placed = True
        self._owed.pop(claim.label, None)
        ledger.claim(claim.key, claim.needed_bytes)
        if victims:
            self._residents.evict(victims, claim.needed_bytes, "room")
        return True

    @staticmethod
    def _holds_back(claim: _Claim) -> bool:
        """Whether those behind this claim have passed it often enough, and must wait for it now."""
        if claim.passed < _PASSED_MAX or claim.held.done():
            return False
        now = asyncio.get_running_loop().time()
        if claim.until is None:
            claim.until = now + _HOLD_BACK_S
        return now < claim.until

    def _expire(self, claim: _Claim) -> None:
        if claim.placed or claim.held.done():
            return
        of_client = not claim.yields_s()
        if of_client and claim.as_job:  # a client has joined since
            claim.as_job = False
            self._time(claim)
            return
        if of_client:
            end = asyncio.get_running_loop().time() + _OWED_S
            self._owed[claim.label] = (end, claim.needed_bytes)
        claim.held.set_exception(self._no_room(claim))
        self._waiting.remove(claim)

    def _no_room(self, claim: _Claim) -> HostlerError:
        residents = self._seen_by(claim)
        return shortage(claim.label, claim.needed_bytes, self._ledger, residents)

    def _seen_by(self, claim: _Claim) -> list[Resident]:
        residents = self._residents.residents()
        yields_s = claim.yields_s()
        return for_jobs(residents, yields_s) if yields_s else residents

    def _drop(self, claim: _Claim) -> None:
        """The load has given up, perhaps just as it was given its place."""
        for claims in (self._waiting, self._placed):
            if claim in claims:
                claims.remove(claim)
        self._ledger.free(claim.key)
        self.pump()

    def _listen(self) -> None:
        wanted = bool(self._waiting or self._placed)
        if wanted and not self._listening:
            self._changes.listeners.append(self.pump)
        elif self._listening and not wanted:
            self._changes.listeners.remove(self.pump)
        self._listening = wanted
