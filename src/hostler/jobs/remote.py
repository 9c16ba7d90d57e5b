"""Transform jobs whose tasks are done by other processes, one at a time: both sides.

driver   transform -> RemoteRunner --{"token", "task"}--> ... --> Tasks   node
                                   <------- Outcome -------
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from hostler.core import Code, HostlerError
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.hosted import HostedModel, Serving
from hostler.jobs.transform.local import GROUPS_PER_CORE, LocalRunner
from hostler.jobs.transform.plan import Plan
from hostler.jobs.transform.ports import Outcome, Site, Task
from hostler.jobs.transform.progress import Progress

__all__ = ["RemoteRunner", "Tasks"]


class _Errand(msgspec.Struct, frozen=True):
    """A task, and the token of the model that it is for."""

    token: str
    task: Task


_ENCODER = msgspec.json.Encoder()
_ERRANDS = msgspec.json.Decoder(_Errand)
_OUTCOMES = msgspec.json.Decoder(Outcome)


class RemoteRunner:
    """See `Runner`. `call`: has a node do an errand; WORKER_LOST where that died in the middle.

    Progress is counted when a task has ended.
    """

    def __init__(
        self,
        call: Callable[[bytes], Awaitable[bytes]],
        slots: int,
        token: str,
        progress: Progress,
    ) -> None:
        self._call = call
        self._slots = slots
        self._token = token
        self._progress = progress

    @property
    def slots(self) -> int:
        """As many as all nodes take."""
        return self._slots

    async def run(self, task: Task) -> Outcome:
        """See `Runner`. A task whose node died has failed for now: it may be begun anew."""
        try:
            said = await self._call(_ENCODER.encode(_Errand(self._token, task)))
        except HostlerError as error:
            if error.code is Code.WORKER_LOST:
                return Outcome(key=task.key, error=error.message, code=error.code)
            raise
        outcome = _OUTCOMES.decode(said)
        if not outcome.error:
            self._progress.records += outcome.records
            self._progress.skipped += outcome.skipped
            self._progress.bytes_done += sum(ref.size for ref in task.inputs)
        return outcome


class Tasks:
    """Does tasks of one job in this process, for a driver elsewhere. Loop thread only.

    `stages`: names of models as `serving` knows them. `token`: of them. `cores`: to compute with.
    """

    def __init__(
        self,
        plan: Plan,
        site: Site,
        serving: Serving,
        stages: Sequence[str],
        token: str,
        cores: int,
    ) -> None:
        self._hands = Hands(cores, site.config.decoded_bytes_max, site.clock)
        self._token = token
        model = HostedModel(serving, stages, self._hands, site.clock)
        groups_max = GROUPS_PER_CORE * cores
        self._runner = LocalRunner(
            plan, model, site, Progress(), self._hands, groups_max=groups_max
        )

    async def do(self, errand: bytes) -> bytes:
        """One task of `RemoteRunner`. Raises: HostlerError for what ends the job."""
        asked = _ERRANDS.decode(errand)
        if asked.token != self._token:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                "the model's files are others than those that the job began with; give all nodes "
                "the same ones, best by a URL of a store",
            )
        return _ENCODER.encode(await self._runner.run(asked.task))

    def close(self) -> None:
        """End the threads."""
        self._hands.close()
