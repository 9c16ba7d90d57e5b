"""One request to an ensemble: asks the models of its steps. Loop thread only.

Each is asked through its own scheduler, so that it batches as for anybody else; tensors are handed
on as they are. Which step runs when is decided in `ensemble_progress`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from hostler.core import (
    NEVER,
    Clock,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    Invoke,
    ResponseStream,
    Stats,
    Tensor,
)
from hostler.scheduler import count_response
from hostler.serving.ensemble_layout import Layout, Step
from hostler.serving.ensemble_progress import (
    FLAGS,
    Absent,
    Call,
    Held,
    Progress,
    held_inputs,
    held_outputs,
    misfits,
    missing_output,
)

__all__ = ["EnsembleRun", "Owner", "again"]

log = logging.getLogger("hostler.serving")

_INFLIGHT: Final = 32
"""Responses of a decoupled step that may be on their way where the package sets no limit: enough to
keep the steps after it busy, and a bound for what a slow reader makes us hold."""

_INFLIGHT_BYTES: Final = 4 << 20
"""The same in bytes; one response may pass it. As much as a worker may be ahead of its reader."""

_CLIENT_LEFT: Final = "the client closed the connection"


class Owner(Protocol):
    """What a run needs of the ensemble that it belongs to."""

    layout: Layout
    stats: Stats
    invoke: Invoke
    clock: Clock

    def ended(self, run: EnsembleRun, outcome: HostlerError | None, seconds: float) -> None:
        """A request is over: answered, or failed with `outcome`."""
        ...


class EnsembleRun:
    """One request, from admission to its last response, for one of two kinds of caller.

    `future`: of a caller who wants one response, else None. `stream`: of one who wants all there
    are, else None.
    """

    __slots__ = (
        "_aborted",
        "_answer",
        "_future",
        "_last_given",
        "_layout",
        "_owner",
        "_position",
        "_responded_at",
        "_specs",
        "_started",
        "_stream",
        "_task",
        "_timer",
        "_wanted",
        "_window",
        "request",
    )

    def __init__(
        self,
        owner: Owner,
        request: InferRequest,
        future: asyncio.Future[InferResponse] | None,
        stream: ResponseStream | None,
    ) -> None:
        self.request = request
        self._owner = owner
        self._future = future
        self._stream = stream
        self._layout = layout = owner.layout
        signature = layout.spec.signature
        assert signature is not None
        specs = signature.outputs
        if request.outputs is not None:
            named = (signature.output(output.name) for output in request.outputs)
            specs = tuple(spec for spec in named if spec is not None)
        self._specs = specs
        self._wanted = layout.wanted([spec.name for spec in specs])
        self._started = owner.clock.now()
        self._last_given = False
        self._position = 0
        self._responded_at = self._started
        self._answer: InferResponse | None = None
        self._aborted: HostlerError | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._window: _Window | None = None

    # -- its life --------------------------------------------------------------------------

    def begin(self) -> None:
        """Start, on the next turn of the loop."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._live())
        self._task.add_done_callback(self._over)
        context = self.request.context
        context.on_cancel(self._abandon)
        # Waiting for one answer is waiting for a step, which keeps the deadline itself.
        if self._stream is not None and context.deadline != NEVER:
            left_s = max(0.0, context.deadline - self._started)
            self._timer = loop.call_later(left_s, self._expire)

    def abort(self, error: HostlerError) -> None:
        """End it with this error: its steps are cancelled."""
        if self._aborted is None and self._task is not None:
            self._aborted = error
            self._task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        """One that is aborted before its first turn never comes to end itself."""
        if task.cancelled():
            self._finish(self._aborted or HostlerError(Code.CANCELLED, _CLIENT_LEFT))

    def _abandon(self) -> None:
        self.abort(HostlerError(Code.CANCELLED, _CLIENT_LEFT))

    def _expire(self) -> None:
        if self.request.context.deadline == NEVER:
            return  # it was lifted: responses have come
        waited_s = self._owner.clock.now() - self._started
        self.abort(
            HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"Request timeout expired: ensemble '{self._layout.spec.label}' did not answer "
                f"within {waited_s:.3f} s",
            )
        )

    async def _live(self) -> None:
        error: HostlerError | None = None
        try:
            await self._walk(0, held_inputs(self._layout, self.request.inputs), _Turn(last=True))
            if self._future is not None and self._answer is None:
                error = self._wrong_count("none")
        except HostlerError as failure:
            error = self._aborted or failure
        except asyncio.CancelledError:
            error = self._aborted or HostlerError(Code.CANCELLED, _CLIENT_LEFT)
        except Exception as failure:
            event = {"model": self._layout.spec.label}
            log.exception("ensemble.crashed", extra={"event": event})
            error = HostlerError(
                Code.INTERNAL, f"ensemble '{self._layout.spec.label}' failed: internal error"
            )
            error.__cause__ = failure
        self._finish(error)

    def _finish(self, error: HostlerError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.request.context.on_cancel(None)
        self._owner.ended(self, error, self._owner.clock.now() - self._started)
        if self._stream is not None:
            if error is not None or not self._last_given:
                self._count(error)
            self._stream.end(error)
        elif self._future is not None and not self._future.done():
            if error is not None:
                self._future.set_exception(error)
            elif self._answer is not None:
                self._future.set_result(self._answer)

    # -- through the regions ---------------------------------------------------------------

    async def _walk(self, region: int, given: Mapping[str, Held | Absent], turn: _Turn) -> None:
        """Run a region and all behind it, and give what comes out at its turn."""
        progress = Progress(self._layout, region, self._wanted, given)
        crossing = await self._work(progress)
        if region == self._layout.last_region:
            named = self.request.outputs is not None
            try:
                tensors = progress.outputs(self._specs, named=named)
            except HostlerError as error:
                raise self._named(error) from None
            await turn.mine()
            self._give(tensors, progress, turn)
        elif crossing is not None:
            await self._cross(crossing, turn)
        elif self._specs and self.request.outputs is not None:
            raise self._named(missing_output(self._layout, self._specs[0].name))

    async def _work(self, progress: Progress) -> Call | None:
        """Run the steps of a region; gives the decoupled one that leads on from it, if any."""
        crossings: list[Call] = []
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    calls = progress.start()
                except HostlerError as error:
                    raise self._named(error) from None
                await self._follow(group, progress, calls, crossings)
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        if len(crossings) > 1:
            places = " and ".join(call.step.place for call in crossings)
            raise self._named(
                HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"{places} both run for this request, and lead to the same ensemble tensors; "
                    "their conditions must exclude one another",
                )
            )
        return crossings[0] if crossings else None

    async def _follow(
        self,
        group: asyncio.TaskGroup,
        progress: Progress,
        calls: list[Call],
        crossings: list[Call],
    ) -> None:
        """Run these calls and what follows from them: one here, the others beside it."""
        while calls:
            mine: Call | None = None
            for call in calls:
                if call.step.decoupled:
                    crossings.append(call)
                elif mine is None:
                    mine = call
                else:
                    group.create_task(self._follow(group, progress, [call], crossings))
            if mine is None:
                return
            response = await self._ask(mine)
            try:
                calls = progress.finish(mine.step, response)
            except HostlerError as error:
                raise self._named(error) from None

    async def _cross(self, call: Call, turn: _Turn) -> None:
        """Run the region behind a decoupled step for each of its responses."""
        step = call.step
        request = self._request(call)
        try:
            stream = await self._owner.invoke.stream(step.model, step.version, request)
        except HostlerError as error:
            raise self._step_failed(step, error, call) from error
        try:
            if step.leads_to == self._layout.last_region:
                await self._pipeline(step, stream, turn)
            else:
                await self._one_by_one(step, stream, turn)
        finally:
            stream.close()

    async def _one_by_one(self, step: Step, stream: ResponseStream, turn: _Turn) -> None:
        """Further decoupled steps follow: those of one response are through before the next."""
        while (response := await self._next(step, stream)) is not None:
            given = held_outputs(self._layout, step, response)
            await self._walk(step.leads_to, given, _Turn(last=turn.last and response.final))
            if response.final:
                break

    async def _pipeline(self, step: Step, stream: ResponseStream, turn: _Turn) -> None:
        """Work on several responses at the same time; what comes out keeps their order."""
        if self._window is None:  # one for the whole request, however many streams come here
            self._window = _Window(self._layout.inflight_max or _INFLIGHT, _INFLIGHT_BYTES)
        window = self._window
        before: asyncio.Future[None] | None = None
        failure: HostlerError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await window.room.wait()
                    try:
                        response = await self._next(step, stream)
                    except HostlerError as error:
                        failure = error  # for the caller to get after what came before it
                        break
                    if response is None:
                        break
                    last = turn.last and response.final
                    taken = window.enter(response)
                    following = _Turn(last=last, before=before, taken=taken)
                    before = following.given
                    given = held_outputs(self._layout, step, response)
                    group.create_task(self._walk(step.leads_to, given, following))
                    if response.final:
                        break
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        if failure is not None:
            raise failure

    async def _next(self, step: Step, stream: ResponseStream) -> InferResponse | None:
        try:
            return await anext(stream, None)
        except HostlerError as error:
            raise self._step_failed(step, error) from error

    # -- one step --------------------------------------------------------------------------

    async def _ask(self, call: Call) -> InferResponse:
        step = call.step
        request = self._request(call)
        try:
            return await self._owner.invoke.infer(step.model, step.version, request)
        except HostlerError as error:
            raise self._step_failed(step, error, call) from error
        except asyncio.CancelledError:
            request.context.cancel()  # another step failed: nobody wants this answer any more
            raise

    def _request(self, call: Call) -> InferRequest:
        """What the client sent with its request goes to every step.

        Source: Triton core `EnsembleContext::InitStep`.
        """
        mine = self.request
        if mine.context.cancelled:
            raise HostlerError(Code.CANCELLED, _CLIENT_LEFT)
        context = mine.context.child(self._layout.spec.name)
        context.queue_timeout_s = mine.context.queue_timeout_s
        parameters = mine.parameters
        if call.sequence is not None:
            kept = {key: value for key, value in parameters.items() if key not in FLAGS}
            parameters = {**kept, **call.sequence}
        return InferRequest(
            call.inputs,
            id=mine.id,
            outputs=call.step.asked,
            parameters=parameters,
            context=context,
        )

    def _give(self, tensors: list[Tensor], progress: Progress, turn: _Turn) -> None:
        response = InferResponse(tensors, progress.sequence(self._specs))
        response.final = turn.last
        if self._stream is not None:
            self._count(response)
            self._last_given = turn.last
            self._stream.put(response, turn.taken)
        elif self._answer is None:
            self._answer = response
            turn.take()
        else:
            raise self._wrong_count("several")
        turn.done()

    def _count(self, result: InferResponse | HostlerError | None) -> None:
        now = self._owner.clock.now()
        responses = self._owner.stats.responses
        count_response(responses, self._position, now - self._responded_at, result)
        self._position += 1
        self._responded_at = now

    # -- errors ----------------------------------------------------------------------------

    def _step_failed(
        self, step: Step, error: HostlerError, call: Call | None = None
    ) -> HostlerError:
        message = f"{step.place}: {error.message}"
        if call is not None and error.code is Code.INVALID_ARGUMENT:
            message += misfits(self._layout, step, call.inputs)
        return self._named(again(error, message))

    def _named(self, error: HostlerError) -> HostlerError:
        """With the ensemble's name in front. Source: Triton core `FinishEnsemble`."""
        return again(error, f"in ensemble '{self._layout.spec.name}', {error.message}")

    def _wrong_count(self, count: str) -> HostlerError:
        # Source: Triton `InferResponseComplete`: "expected a single response, got N".
        return HostlerError(
            Code.MODEL_ERROR,
            f"expected a single response, ensemble '{self._layout.spec.name}' gave {count}; ask "
            "it through a stream",
            details={"responses": count},
        )


class _Window:
    """The responses of a decoupled step that are on their way. `room`: set while one more may be.

    `count_max`, `bytes_max`: of them; `bytes_max` may be passed by the size of one.
    """

    __slots__ = ("_bytes", "_bytes_max", "_count", "_count_max", "room")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self._count = self._bytes = 0
        self._count_max, self._bytes_max = count_max, bytes_max

    def enter(self, response: InferResponse) -> Callable[[], None]:
        """One more; call what this gives once, when the reader has what became of it."""
        size = sum([tensor.data.nbytes for tensor in response.outputs])
        self._change(1, size)
        return functools.partial(self._change, -1, -size)

    def _change(self, count: int, size: int) -> None:
        self._count += count
        self._bytes += size
        if self._count < self._count_max and self._bytes < self._bytes_max:
            self.room.set()
        else:
            self.room.clear()


class _Turn:
    """The place of some responses among all of a request.

    `last`: none follow. `before`: done when those before have been given. `taken`: to be called
    when the reader has them. `given`: done when they have been given.
    """

    __slots__ = ("_before", "_taken", "given", "last")

    def __init__(
        self,
        *,
        last: bool,
        before: asyncio.Future[None] | None = None,
        taken: Callable[[], None] | None = None,
    ) -> None:
        self.last = last
        self.given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._before = before
        self._taken = taken

    @property
    def taken(self) -> Callable[[], None] | None:
        return self._taken

    async def mine(self) -> None:
        """Wait for those before."""
        if self._before is not None:
            await self._before

    def take(self) -> None:
        """The reader has them."""
        if self._taken is not None:
            self._taken()

    def done(self) -> None:
        """They have been given."""
        self.given.set_result(None)


def again(error: HostlerError, message: str) -> HostlerError:
    """The same failure in other words; what is missing is not what the client has asked for."""
    code = Code.UNAVAILABLE if error.code is Code.NOT_FOUND else error.code
    return HostlerError(code, message, details=error.details, retry_after_s=error.retry_after_s)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of steps failed with: the first of them, the others were cancelled for it."""
    return failures.exceptions[0]
