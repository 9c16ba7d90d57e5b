"""Groups of rows -> answers: retries, and finding the bad rows of a request that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from hostler.core import Code, HostlerError, InferResponse, Signature
from hostler.jobs.transform.asking import NOT_AGAIN, may_pass, pause_s
from hostler.jobs.transform.plan import Plan
from hostler.jobs.transform.ports import Model
from hostler.jobs.transform.table.chunks import Fault
from hostler.jobs.transform.table.faults import fault_error
from hostler.jobs.transform.table.mapping import Asked
from hostler.jobs.transform.table.outputs import Column, answered
from hostler.jobs.transform.table.rows import Answer, Group, halves

__all__ = ["TableAsking"]

_OF_ROWS: Final = frozenset(
    {
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.INVALID_ARGUMENT,
        Code.MODEL_ERROR,
        Code.PAYLOAD_TOO_LARGE,
        Code.WORKER_LOST,  # a row may be what kills it
    }
)
"""What may be a row's own fault. All else would hold for every row of the job."""

_REQUESTS_MAX: Final = 256
"""Asked in one go: as many as the scheduler needs to fill its batches, whatever it joins."""

Said = InferResponse | HostlerError


class TableAsking:
    """Asks a model for the rows of one table. `columns`: that its answers fill."""

    def __init__(
        self, plan: Plan, model: Model, signature: Signature, columns: Sequence[Column]
    ) -> None:
        self._plan = plan
        self._model = model
        self._batched = signature.batched
        self._columns = columns
        self._requests_max = 1 if plan.concurrency else _REQUESTS_MAX

    async def answers(self, group: Group) -> tuple[list[Answer], list[Fault]]:
        """Of the good rows, and all bad ones of the group in their order.

        Raises: HostlerError for the first bad row, if the plan does not skip them; and for what is
        no row's fault.
        """
        skip = self._plan.errors.skip
        if group.faults and not skip:
            raise fault_error(group.faults[0])
        answers: list[Answer] = []
        faults = list(group.faults)
        left: list[Asked] = list(group.asked)
        narrowing = False
        while left:
            runs, left = left, []
            found = await self._ask(runs, narrowing=narrowing)
            narrowing = True
            for one, said in zip(runs, found, strict=True):
                if isinstance(said, InferResponse):
                    answers.append(self._answer(one, said))
                elif said.code not in _OF_ROWS:
                    raise said
                elif not skip:
                    raise await self._first_bad(group, one, said)
                elif len(one.rows) > 1:
                    left += halves(one)
                else:
                    faults.append(_fault(group, one, said))
        return answers, sorted(faults, key=lambda fault: fault.row)

    def _answer(self, one: Asked, said: InferResponse) -> Answer:
        return Answer(one.rows, answered(said, self._columns, len(one.rows), self._batched))

    async def _ask(self, asked: Sequence[Asked], *, narrowing: bool) -> list[Said]:
        """One for each, with retries.

        `narrowing`: these are pieces of what has failed in spite of them; what fails as that may
        have, see `NOT_AGAIN`, is not tried again.
        """
        said: list[Said] = []
        left = list(range(len(asked)))
        tries = 0
        while True:
            found = await self._ask_once([asked[place] for place in left])
            if tries == 0:
                said = list(found)
            for place, one in zip(left, found, strict=True):
                said[place] = one
            passing = [
                (place, one)
                for place in left
                if isinstance(one := said[place], HostlerError)
                and may_pass(one)
                and not (narrowing and one.code in NOT_AGAIN)
            ]
            if tries == self._plan.retries_max or not passing:
                return said
            await asyncio.sleep(pause_s(tries, passing[0][1]))
            left = [place for place, _ in passing]
            tries += 1

    async def _ask_once(self, asked: Sequence[Asked]) -> list[Said]:
        said: list[Said] = []
        for start in range(0, len(asked), self._requests_max):
            requests = [one.request for one in asked[start : start + self._requests_max]]
            try:
                said += await self._model.infer(requests, self._plan.timeout_s)
            except HostlerError as error:  # it could not be asked at all
                said += [error] * len(requests)
        return said

    async def _first_bad(self, group: Group, one: Asked, error: HostlerError) -> HostlerError:
        """The error of a request, in the words for its first bad row if one can be told."""
        while len(one.rows) > 1:
            for part in halves(one):
                [said] = await self._ask([part], narrowing=True)
                if isinstance(said, HostlerError):
                    one, error = part, said
                    break
            else:
                break  # each half is fine by itself
        if error.code not in _OF_ROWS or len(one.rows) > 1:
            return error
        return fault_error(_fault(group, one, error))


def _fault(group: Group, one: Asked, error: HostlerError) -> Fault:
    found = group.fault(int(one.rows[0]), error.message)
    return Fault(found.row, found.reason, found.values, error.code)
