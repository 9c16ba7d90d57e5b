"""Mini-batches -> answers: retries, and finding the bad records of a mini-batch that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, ParamSpec

from hostler.core import Code, HostlerError
from hostler.jobs.transform.chunks import Batch, Cutter
from hostler.jobs.transform.filters import DataProcessing
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.plan import Plan, Split
from hostler.jobs.transform.ports import Model, Payload, Prediction
from hostler.jobs.transform.setaside import SetAside
from hostler.jobs.transform.window import Window

__all__ = ["HURTING", "NOT_AGAIN", "Answer", "Asking", "may_pass", "pause_s"]

P = ParamSpec("P")

_PASSING: Final = frozenset(
    {
        Code.DEADLINE_EXCEEDED,
        Code.MODEL_ERROR,
        Code.QUEUE_FULL,
        Code.RESOURCE_EXHAUSTED,
        Code.THROTTLED,
        Code.UNAVAILABLE,
        Code.WORKER_LOST,
    }
)
_OF_RECORDS: Final = frozenset(
    {
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.INVALID_ARGUMENT,
        Code.MODEL_ERROR,
        Code.PAYLOAD_TOO_LARGE,
        Code.UNIMPLEMENTED,
        Code.UNSUPPORTED_ENCODING,
        Code.WORKER_LOST,  # a record may be what kills it
    }
)
"""What may be a record's own fault. All else would hold for every record of the job."""

HURTING: Final = frozenset({Code.DEADLINE_EXCEEDED, Code.WORKER_LOST})
"""What a record does to whatever is asked beside it."""

NOT_AGAIN: Final = HURTING | {Code.MODEL_ERROR}
"""What is not tried again for the pieces of what has failed with it in spite of retries."""

_NARROWING_BYTES_MAX: Final = 24 << 20
"""Of mini-batches that are halved at a time: each takes four times its size."""

_CROWD: Final = 4096
"""Pieces and bad records of a mini-batch, some KiB each: of more, one mini-batch at a time."""

_PAUSE_S: Final = 0.2
_PAUSE_MAX_S: Final = 30.0
_INLINE_BYTES_MAX: Final = 64 << 10  # filters look at some 50 MB/s; more goes to a thread


class Answer(NamedTuple):
    """Of a mini-batch. `body`: its records' answers, None if it has none; `bad`: without one."""

    body: bytes | None
    records: int
    bad: tuple[SetAside, ...] = ()


def may_pass(error: HostlerError) -> bool:
    """Whether the same request may be answered later."""
    status = error.details.get("status")
    refused = isinstance(status, int) and 400 <= status < 500
    return error.code in _PASSING and not (error.code is Code.MODEL_ERROR and refused)


def pause_s(tries: int, error: HostlerError | None = None) -> float:
    """Seconds before the next try, after so many: growing, or as the error says."""
    pause = min(_PAUSE_S * 2.0**tries, _PAUSE_MAX_S)
    asked = error.retry_after_s if error is not None else None
    return pause if asked is None else min(max(pause, asked), _PAUSE_MAX_S)


class Asking:
    """Asks a model for the records of a plan.

    `requests_max`: asked in one go, as far as they are one group. `hands`: run filters.
    """

    def __init__(
        self,
        plan: Plan,
        model: Model,
        processing: DataProcessing | None,
        requests_max: int,
        hands: Hands,
    ) -> None:
        self._plan = plan
        self._model = model
        self._processing = processing
        self._requests_max = requests_max
        self._hands = hands
        self._alone = asyncio.Lock()  # for what may hurt others
        self._crowd = asyncio.Lock()
        self._narrowing = Window(_NARROWING_BYTES_MAX, turns=1)
        self._join = b"\n" if plan.split is Split.LINE else b""

    async def answers(self, batches: Sequence[Batch], cutter: Cutter) -> list[Answer]:
        """One for each mini-batch.

        Bad records are in the answers if the plan skips them. Raises: HostlerError else for the
        first one, with its index and offset; and for what is no record's fault.
        """
        skip = self._plan.errors.skip
        found = await self._ask_all(batches, cutter)
        answers: list[Answer] = []
        for batch, one in zip(batches, found, strict=True):
            if isinstance(one, bytes):
                answers.append(Answer(one, batch.records))
            elif one.code not in _OF_RECORDS:
                raise one
            elif not skip:
                raise await self._first_bad(batch, one, cutter)
            elif batch.records > 1:
                async with AsyncExitStack() as crowd:
                    await self._narrowing.enter(len(batch.body))
                    crowd.callback(self._narrowing.leave, len(batch.body))
                    answers.append(await self._apart(batch, one, cutter, crowd))
            else:
                answers.append(Answer(None, 0, (self._aside(batch, one, cutter),)))
        return answers

    async def _ask_all(
        self, batches: Sequence[Batch], cutter: Cutter, *, narrowing: bool = False
    ) -> list[bytes | HostlerError]:
        """What is written, or why there is nothing, after retries.

        `narrowing`: these are pieces of what has failed in spite of retries; what fails as that may
        have, see `NOT_AGAIN`, is not tried again: each level of halving would take as long.
        """
        found: list[bytes | HostlerError] = []
        for at in range(0, len(batches), self._requests_max):
            group = batches[at : at + self._requests_max]
            found += await self._ask_group(group, cutter, narrowing=narrowing)
        return found

    async def _ask_group(
        self, batches: Sequence[Batch], cutter: Cutter, *, narrowing: bool
    ) -> list[bytes | HostlerError]:
        bodies = await self._compute(batches, self._bodies, batches, cutter)
        said = list(bodies)
        left = [i for i, body in enumerate(bodies) if isinstance(body, bytes)]
        for tries in range(self._plan.retries_max + 1):
            if not left:
                break
            payloads = [self._payload(batches[i], bodies[i]) for i in left]
            for i, one in zip(left, await self._ask(payloads), strict=True):
                said[i] = one.body if isinstance(one, Prediction) else one
            failed = [(i, e) for i in left if isinstance(e := said[i], HostlerError)]
            again = [
                (i, error)
                for i, error in failed
                if may_pass(error) and not (narrowing and error.code in NOT_AGAIN)
            ]
            if not again or tries == self._plan.retries_max:
                break
            left = [i for i, _ in again]
            await asyncio.sleep(pause_s(tries, again[0][1]))
        if self._processing is None:
            return said
        return await self._compute(batches, self._finals, batches, said, cutter)

    def _payload(self, batch: Batch, body: object) -> Payload:
        assert isinstance(body, bytes)
        plan = self._plan
        return Payload(body, plan.input.content_type, plan.output.accept, batch.records)

    async def _ask(self, payloads: Sequence[Payload]) -> Sequence[Prediction | HostlerError]:
        try:
            return await self._model.ask(payloads, self._plan.timeout_s)
        except HostlerError as error:  # it could not be asked at all
            return [error] * len(payloads)

    async def _apart(
        self, batch: Batch, error: HostlerError, cutter: Cutter, crowd: AsyncExitStack
    ) -> Answer:
        """The answers for the good records of a mini-batch that failed with `error`.

        It is halved until what fails is one record. Where that is of the kind that hurts others,
        pieces are asked one by one, so that no record is blamed for its neighbour. The answers for
        its pieces are put together: of lines with a line break between, where a piece's answer has
        none.
        """
        pieces: list[tuple[int, bytes]] = []
        bad: list[SetAside] = []
        hurts, is_crowded = error.code in HURTING, False
        left = await self._halved([batch], cutter)
        while left:
            if not is_crowded and len(left) + len(bad) > _CROWD:
                await crowd.enter_async_context(self._crowd)
                is_crowded = True
            asked, alone = left, hurts
            found = await (self._ask_apart if alone else self._ask_pieces)(asked, cutter)
            left, large = [], []
            for one, said in zip(asked, found, strict=True):
                if isinstance(said, bytes):
                    pieces.append((one.first, said))
                    continue
                if said.code not in _OF_RECORDS:
                    raise said
                hurts = hurts or said.code in HURTING
                if one.records > 1:
                    large.append(one)
                elif said.code in HURTING and not alone:
                    left.append(one)  # perhaps for another's sake
                else:
                    bad.append(self._aside(one, said, cutter))
            del asked
            left += await self._halved(large, cutter)
        pieces.sort()
        bad.sort(key=lambda one: one.record)
        body = None
        if pieces:
            ended = [self._ended(piece) for _, piece in pieces[:-1]]
            body = b"".join([*ended, pieces[-1][1]])
        return Answer(body, batch.records - len(bad), tuple(bad))

    async def _ask_pieces(
        self, batches: Sequence[Batch], cutter: Cutter
    ) -> list[bytes | HostlerError]:
        return await self._ask_all(batches, cutter, narrowing=True)

    async def _ask_apart(
        self, batches: Sequence[Batch], cutter: Cutter
    ) -> list[bytes | HostlerError]:
        """One after the other, also of other groups."""
        found: list[bytes | HostlerError] = []
        for batch in batches:
            async with self._alone:
                found += await self._ask_pieces([batch], cutter)
        return found

    def _ended(self, piece: bytes) -> bytes:
        return piece if piece.endswith(self._join) else piece + self._join

    async def _first_bad(self, batch: Batch, error: HostlerError, cutter: Cutter) -> HostlerError:
        """The error of a mini-batch, in the words for its first bad record if one can be told."""
        one = batch
        while one.records > 1:
            for part in await self._halved([one], cutter):
                [said] = await self._ask_pieces([part], cutter)
                if isinstance(said, HostlerError):
                    one, error = part, said
                    break
            else:
                break  # each half is fine by itself
        if error.code not in _OF_RECORDS:
            return error
        return _placed(one, error, whole=self._plan.split is Split.NONE)

    async def _halved(self, batches: Sequence[Batch], cutter: Cutter) -> list[Batch]:
        """The halves of all of them."""

        def halved() -> list[Batch]:
            return [half for batch in batches for half in cutter.halves(batch)]

        if sum(len(batch.body) for batch in batches) <= _INLINE_BYTES_MAX:
            return halved()
        return await self._hands.run(halved)

    def _aside(self, batch: Batch, error: HostlerError, cutter: Cutter) -> SetAside:
        data = cutter.payloads(batch)[0]
        return SetAside(batch.first, batch.offset, batch.size, data, error)

    # -- filters: nothing of the loop in these --------------------------------------------------

    def _bodies(self, batches: Sequence[Batch], cutter: Cutter) -> list[bytes | HostlerError]:
        """What the model gets."""
        return [self._body(batch, cutter) for batch in batches]

    def _body(self, batch: Batch, cutter: Cutter) -> bytes | HostlerError:
        if batch.problem:
            return HostlerError(batch.code, batch.problem)
        if self._processing is None:
            return batch.body
        try:
            rows = [self._processing.model_input(row) for row in cutter.payloads(batch)]
        except HostlerError as error:
            return error
        return b"\n".join(rows)

    def _finals(
        self, batches: Sequence[Batch], said: Sequence[bytes | HostlerError], cutter: Cutter
    ) -> list[bytes | HostlerError]:
        """What is written of what the model said."""
        return [self._final(*pair, cutter) for pair in zip(batches, said, strict=True)]

    def _final(
        self, batch: Batch, said: bytes | HostlerError, cutter: Cutter
    ) -> bytes | HostlerError:
        processing = self._processing
        if isinstance(said, HostlerError) or processing is None:
            return said
        try:
            rows = zip(
                cutter.payloads(batch), processing.predictions(said, batch.records), strict=True
            )
            return b"\n".join([processing.final(*row) for row in rows])
        except HostlerError as error:
            return error

    async def _compute(
        self,
        batches: Sequence[Batch],
        function: Callable[P, list[bytes | HostlerError]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[bytes | HostlerError]:
        """Run it here or, where it takes longer than the way there, in a thread."""
        if self._processing is None or sum(len(one.body) for one in batches) <= _INLINE_BYTES_MAX:
            return function(*args, **kwargs)
        return await self._hands.run(function, *args, **kwargs)


def _placed(one: Batch, error: HostlerError, *, whole: bool) -> HostlerError:
    """The error with the place that it is about; once."""
    if one.problem or whole:
        where = ""
    elif one.records == 1:
        where = f"record {one.first} (from 0) at byte {one.offset}: "
    else:
        end = one.first + one.records - 1
        where = f"records {one.first} to {end} (from 0) from byte {one.offset} on: "
    details = {**error.details, "record": one.first, "offset": one.offset}
    return HostlerError(error.code, f"{where}{error.message}", details=details)
