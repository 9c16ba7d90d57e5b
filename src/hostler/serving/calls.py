"""Models that ask other models: what `core.Invoke` promises to ensembles and user code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hostler.core import Context, InferRequest, InferResponse, ResponseStream, Signature
from hostler.serving.live import LiveModel
from hostler.serving.waits import Waits, refuse_recursion

__all__ = ["Acquire", "Calls", "Resolve"]

Resolve = Callable[[str, tuple[str, ...]], str]
"""The name of the model that is meant by a name, asked along a call path. Raises: NOT_FOUND."""


class Acquire(Protocol):
    """`Serving.acquire`, and hosted models are within reach."""

    def __call__(self, name: str, version: int | None, context: Context) -> Awaitable[LiveModel]:
        """A pinned model."""
        ...


class Calls:
    """See `core.Invoke`. Sub-calls take the path of all requests, without authentication.

    They never wait for their own callers: not for a replica that these hold (`waits`), and not for
    memory that only these could give back (`Driver.demand`). `replicas`: see `Waits`. `resolve`:
    hosted models ask those beside them by their short names.
    """

    def __init__(self, acquire: Acquire, replicas: Callable[[str], int], resolve: Resolve) -> None:
        self._acquire = acquire
        self._resolve = resolve
        self._waits = Waits(replicas)

    async def infer(self, model: str, version: int | None, request: InferRequest) -> InferResponse:
        """See `core.Invoke`. Raises: INVALID_ARGUMENT, UNAVAILABLE where it would wait for ever."""
        context = request.context
        model = self._resolve(model, context.call_path)
        refuse_recursion(context.call_path, model)
        wait = self._waits.begin(context.call_path, model)
        try:
            live = await self._acquire(model, version, context)
            release = _releasing(live, context)
            try:
                return await live.infer(request)
            finally:
                release()
        finally:
            if wait is not None:
                self._waits.end(wait)

    async def stream(
        self, model: str, version: int | None, request: InferRequest
    ) -> ResponseStream:
        """See `core.Invoke`. Raises: INVALID_ARGUMENT, UNAVAILABLE, as `infer`."""
        context = request.context
        model = self._resolve(model, context.call_path)
        refuse_recursion(context.call_path, model)
        wait = self._waits.begin(context.call_path, model)
        release: Callable[[], None] | None = None
        try:
            live = await self._acquire(model, version, context)
            release = _releasing(live, context)
            stream = live.stream(request)
        except BaseException:
            self._over(release, wait)
            raise
        stream.on_done(lambda: self._over(release, wait))
        return stream

    async def signature(self, model: str, version: int | None, context: Context) -> Signature:
        """See `core.Invoke`. Raises: INVALID_ARGUMENT for a model that asks itself."""
        model = self._resolve(model, context.call_path)
        refuse_recursion(context.call_path, model)
        live = await self._acquire(model, version, context)
        try:
            return live.signature
        finally:
            live.release()

    def _over(self, release: Callable[[], None] | None, wait: tuple[str, str] | None) -> None:
        if release is not None:
            release()
        if wait is not None:
            self._waits.end(wait)


def _releasing(live: LiveModel, context: Context) -> Callable[[], None]:
    """What gives the pin back that has just been taken."""
    if not context.background:
        return live.release
    live.lend()
    return live.take_back
