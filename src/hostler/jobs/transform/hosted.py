"""The models of a job, asked by the back door: after everything that clients ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final, Protocol

from hostler.core import (
    Clock,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    Signature,
    element_count,
)
from hostler.jobs.transform.bodies import joined, pieces
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.ports import Payload, Prediction
from hostler.jobs.transform.window import Window
from hostler.serving import Answer, LiveModel, Question, answer_many, infer_many, is_room_short

__all__ = ["HostedModel", "Serving"]

_LOAD_TIMEOUT_S: Final = 3600.0  # a model that was evicted comes back before it is asked

_ROOM_S: Final = 1.0

_TEXT_GROWTH: Final = 4
"""Bytes of tensors that a byte of text may make: `1,` is four of FP32, eight of FP64."""

_PICTURE_GROWTH: Final = 60
"""The same of a compressed picture whose size the model does not fix: FP32 of a good JPEG."""


class Serving(Protocol):
    """Where live models are: `serving.Serving`."""

    async def acquire(self, name: str, version: int | None, context: Context) -> LiveModel:
        """A model of the repository, pinned."""
        ...

    async def acquire_hosted(self, name: str, context: Context) -> LiveModel:
        """A hosted model, pinned."""
        ...


class HostedModel:
    """See `ports.Model`. `stages`: models, each of which gets the answers of the one before.

    A name with a `/` is that of a hosted model, any other one of the repository. `principal`: in
    whose behalf.
    """

    def __init__(
        self,
        serving: Serving,
        stages: Sequence[str],
        hands: Hands,
        clock: Clock,
        principal: str | None = None,
    ) -> None:
        self._serving = serving
        self._stages = tuple(stages)
        self._hands = hands
        self._room = Window(hands.decoded_bytes_max, 1)
        self._clock = clock
        self._principal = principal

    async def signature(self) -> Signature | None:
        """See `ports.Model`. Of a pipeline, that of the first; its tensors are never seen."""
        async with self._live(self._stages[0], _LOAD_TIMEOUT_S) as live:
            return None if live.spec.opaque else live.signature

    async def ask(
        self, payloads: Sequence[Payload], timeout_s: float
    ) -> list[Prediction | HostlerError]:
        """See `ports.Model`."""
        found: list[Prediction | HostlerError] = [
            Prediction(payload.body, payload.content_type) for payload in payloads
        ]
        for index, stage in enumerate(self._stages):
            is_last = index == len(self._stages) - 1
            asked = [place for place, one in enumerate(found) if isinstance(one, Prediction)]
            if not asked:
                break
            questions = []
            for place in asked:
                one = found[place]
                assert isinstance(one, Prediction)
                accept = payloads[place].accept if is_last else ""
                questions.append(Question(one.body, one.content_type, accept))
            async with self._live(stage, timeout_s) as live:
                said = await self._answers(live, questions, timeout_s)
            for place, answer in zip(asked, said, strict=True):
                found[place] = (
                    answer
                    if isinstance(answer, HostlerError)
                    else Prediction(answer.body, answer.content_type)
                )
        return found

    async def _answers(
        self, live: LiveModel, questions: Sequence[Question], timeout_s: float
    ) -> list[Answer | HostlerError]:
        size = sum(_decoded_bytes(live, question) for question in questions)
        if live.spec.opaque:
            cut = [[question] for question in questions]
        else:
            cut = [pieces(question, live.signature) for question in questions]
        asked = [question for some in cut for question in some]
        await self._room.enter(size)
        try:
            new_context = self._contexts(timeout_s)
            said = iter(await answer_many(live, asked, new_context, self._hands.executor))
        finally:
            self._room.leave(size)
        return [joined(list(islice(said, len(some)))) for some in cut]

    async def infer(
        self, requests: Sequence[InferRequest], timeout_s: float
    ) -> list[InferResponse | HostlerError]:
        """See `ports.Model`. Raises: UNIMPLEMENTED for a pipeline."""
        if len(self._stages) > 1:
            raise HostlerError(
                Code.UNIMPLEMENTED,
                "a pipeline of containers takes bodies, not tables; give records and a content "
                "type, or name one of its models",
            )
        new_context = self._contexts(timeout_s)
        for request in requests:
            request.context = new_context()
        async with self._live(self._stages[0], timeout_s) as live:
            return await infer_many(live, requests)

    @asynccontextmanager
    async def _live(self, name: str, timeout_s: float) -> AsyncIterator[LiveModel]:
        wait_s = max(timeout_s, _LOAD_TIMEOUT_S)
        context = Context(
            deadline=self._clock.now() + wait_s, principal=self._principal, background=True
        )
        while True:
            try:
                live = await self._acquired(name, context)
                break
            except HostlerError as error:
                if not is_room_short(error) or self._clock.now() >= context.deadline:
                    raise
            await asyncio.sleep(_ROOM_S)  # clients want the memory that it needs, or are busy in it
        live.lend()
        try:
            yield live
        finally:
            live.take_back()

    async def _acquired(self, name: str, context: Context) -> LiveModel:
        if "/" in name:
            return await self._serving.acquire_hosted(name, context)
        return await self._serving.acquire(name, None, context)

    def _contexts(self, timeout_s: float) -> Callable[[], Context]:
        """Requests wait for clients and for each other; their time is what a replica takes."""

        def new() -> Context:
            context = Context(principal=self._principal, background=True)
            context.run_timeout_s = timeout_s
            return context

        return new


def _decoded_bytes(live: LiveModel, question: Question) -> int:
    """What the tensors of a body take, more or less; the body itself is counted elsewhere."""
    if live.spec.opaque:
        return 0
    size = len(question.body)
    if "image" not in question.content_type:
        return size * _TEXT_GROWTH
    fixed = [spec for spec in live.signature.inputs if -1 not in spec.dims]
    if len(fixed) < len(live.signature.inputs):
        return size * _PICTURE_GROWTH
    return sum(element_count(spec.dims) * spec.datatype.itemsize for spec in fixed)
