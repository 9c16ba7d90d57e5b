"""Stand-ins for asking other models."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hostler.core import (
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ResponseStream,
    Signature,
)

__all__ = ["NoInvoke", "ScriptedInvoke"]


class NoInvoke:
    """For models that ask no other."""

    async def infer(self, model: str, version: int | None, request: InferRequest) -> InferResponse:
        raise AssertionError(f"model '{model}' was asked")

    async def stream(
        self, model: str, version: int | None, request: InferRequest
    ) -> ResponseStream:
        raise AssertionError(f"model '{model}' was asked")

    async def signature(self, model: str, version: int | None, context: Context) -> Signature:
        raise AssertionError(f"model '{model}' was asked")


Answer = InferResponse | HostlerError | Sequence[InferResponse | HostlerError]


class ScriptedInvoke:
    """Answers by functions: `models[name](request)` gives a response, an error or several.

    `calls`: who was asked, which version, and what. A function may be a coroutine function. Of a
    stream `taken` counts the responses that were read, by model. `signatures`: what else is told.
    """

    def __init__(self, **models: Callable[[InferRequest], Any]) -> None:
        self.models = models
        self.calls: list[tuple[str, int | None, InferRequest]] = []
        self.taken: Counter[str] = Counter()
        self.cancelled: list[str] = []
        self.signatures: dict[str, Signature] = {}

    async def _ask(self, model: str, version: int | None, request: InferRequest) -> Any:
        self.calls.append((model, version, request))
        if model not in self.models:
            raise HostlerError(Code.NOT_FOUND, f"model '{model}' is unknown")
        try:
            answer = self.models[model](request)
            if inspect.isawaitable(answer):
                answer = await answer
        except asyncio.CancelledError:
            self.cancelled.append(model)
            raise
        return answer

    async def infer(self, model: str, version: int | None, request: InferRequest) -> InferResponse:
        answer = await self._ask(model, version, request)
        if isinstance(answer, HostlerError):
            raise answer
        return answer

    async def stream(
        self, model: str, version: int | None, request: InferRequest
    ) -> ResponseStream:
        answers = await self._ask(model, version, request)
        stream = ResponseStream(lambda: self.cancelled.append(model))
        for answer in answers:
            if isinstance(answer, HostlerError):
                stream.end(answer)
                return stream
            answer.final = False
            stream.put(answer, functools.partial(self._count, model, stream))
        stream.end()
        return stream

    async def signature(self, model: str, version: int | None, context: Context) -> Signature:
        if model not in self.signatures:
            raise HostlerError(Code.NOT_FOUND, f"model '{model}' is unknown")
        return self.signatures[model]

    def _count(self, model: str, stream: ResponseStream) -> None:
        if not stream._closed:
            self.taken[model] += 1
