"""In whose behalf a model is asked here: of a client that may leave, until a time.

How it answers a body is `serving.asking`.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from hostler.core import Context
from hostler.gateway.http.answers import Gone
from hostler.serving import Answer, Askable, Prepared, Question, decodes_slowly
from hostler.serving import answer as answer_prepared
from hostler.serving import prepare as prepare_request

__all__ = ["Turn", "answer", "prepare", "prepare_aside"]


class Turn(NamedTuple):
    """In whose behalf a model is asked.

    `exchange`: whose client cancels the work by leaving, or None. `deadline`: `Clock.now()`
    seconds. `answer_bytes_max`: of the pieces of a streamed answer that are joined.
    """

    exchange: Any
    deadline: float
    principal: str | None
    answer_bytes_max: int

    def take(self, context: Context) -> None:
        """Let a request be this one's. Raises: Gone if its client has left."""
        context.deadline = self.deadline
        context.principal = self.principal
        if self.exchange is not None:
            if self.exchange.gone:
                raise Gone
            self.exchange.context = context

    def end(self) -> None:
        """Nothing is asked any more."""
        if self.exchange is not None:
            self.exchange.context = None


def prepare(live: Askable, question: Question, turn: Turn) -> Prepared:
    """Make the request, in behalf of a turn. Not of what `decodes_slowly`: see `prepare_aside`.

    Raises: as `serving.prepare`; Gone.
    """
    prepared = prepare_request(live, question)
    turn.take(prepared.request.context)
    return prepared


async def prepare_aside(live: Askable, question: Question, turn: Turn) -> Prepared:
    """As `prepare`, of any question: a slow one is decoded in a thread."""
    if not decodes_slowly(live, question):
        return prepare(live, question, turn)
    prepared = await asyncio.to_thread(prepare_request, live, question)
    turn.take(prepared.request.context)
    return prepared


async def answer(live: Askable, question: Question, turn: Turn) -> Answer:
    """Ask a pinned model for its one answer; the pieces of a streamed one are joined.

    Raises: HostlerError, as the model's own callers get it; Gone.
    """
    asked = await prepare_aside(live, question, turn)
    try:
        return await answer_prepared(live, asked, turn.answer_bytes_max)
    finally:
        turn.end()
