"""Copies of requests for shadow variants: asked aside, compared, and thrown away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from hostler.core import Clock, Code, Context, HostlerError
from hostler.gateway.http.sagemaker.ask import Turn, answer
from hostler.protocols.sagemaker import Invocation
from hostler.serving import Answer, Endpoint, Outcome, Question, Shadow, Variant, compare

__all__ = ["Shadowing"]

log = logging.getLogger("hostler.gateway")

_TIMEOUT_S: Final = 60.0


class Shadowing:
    """Asks shadow variants what a production variant was asked. Loop thread only.

    `requests_max`: copies at the same time; more are left out and counted (`left_out`), so that a
    slow shadow costs memory of this many bodies and never an answer.
    """

    def __init__(self, clock: Clock, requests_max: int, answer_bytes_max: int) -> None:
        self._now = clock.now
        self._requests_max = requests_max
        self._answer_bytes_max = answer_bytes_max
        self._tasks: set[asyncio.Task[None]] = set()
        self.left_out = 0

    def copy(
        self,
        endpoint: Endpoint,
        variant: Variant,
        question: Question,
        said: Outcome,
        invocation: Invocation,
    ) -> None:
        """Ask those shadows of a variant that want this request; returns at once."""
        for shadow in endpoint.shadows:
            if not shadow.wants(variant):
                continue
            if len(self._tasks) >= self._requests_max:
                self.left_out += 1
                continue
            work = self._ask(shadow, question, said, invocation)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(
        self, shadow: Shadow, question: Question, said: Outcome, invocation: Invocation
    ) -> None:
        variant = shadow.variant
        started = self._now()
        failure: HostlerError | None = None
        found: Answer | None = None
        try:
            variant.begin()
        except HostlerError:
            self.left_out += 1
            return
        try:
            found = await self._answered(shadow, question, started + _TIMEOUT_S, invocation)
        except HostlerError as error:
            failure = error
        except Exception:
            failure = HostlerError(Code.INTERNAL, "it crashed")
            log.exception("endpoint.shadow_crashed", extra={"event": {"variant": variant.name}})
        finally:
            variant.end(self._now() - started, failure)
        took_s = self._now() - started
        if found is not None:
            outcome = Outcome(took_s, found.body, found.content_type)
        else:
            outcome = Outcome(took_s, error=failure)
        shadow.record(await asyncio.to_thread(compare, said, outcome))

    async def _answered(
        self, shadow: Shadow, question: Question, deadline: float, invocation: Invocation
    ) -> Answer:
        variant = shadow.variant
        turn = Turn(None, deadline, None, self._answer_bytes_max)
        stages = _stages(variant, invocation)
        said: Answer | None = None
        for stage in stages:
            multi = variant.plan.stages[stage].archives is not None
            target = invocation.target_model if multi else ""
            live = variant.live(stage, target)
            if live is None:
                live = await variant.acquire(stage, target, Context(deadline=deadline))
            else:
                live.pin()
            accept = question.accept if stage == stages[-1] else ""
            try:
                said = await answer(live, question._replace(accept=accept), turn)
            finally:
                live.release()
            question = question._replace(body=said.body, content_type=said.content_type)
        assert said is not None, "a variant has a container"
        return said


def _stages(variant: Variant, invocation: Invocation) -> Sequence[int]:
    """The containers that answer in turn: the named one of those that are asked directly.

    Raises: INVALID_ARGUMENT where the shadow has none of this name.
    """
    stages, wanted = variant.plan.stages, invocation.target_container
    if not variant.plan.direct:
        return range(len(stages))
    named = [index for index, stage in enumerate(stages) if stage.hostname == wanted]
    if not named:
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"shadow variant '{variant.name}' has no container '{wanted}'"
        )
    return named
