"""InvokeEndpoint and InvokeEndpointWithResponseStream: from a request to a variant's answer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from hostler.core import Clock, Code, Context, HostlerError, InferResponse
from hostler.gateway.config import Config
from hostler.gateway.held import BodyLimit
from hostler.gateway.http.answers import Gone, Receive, Reply, Scope
from hostler.gateway.http.body import Bodies, Body
from hostler.gateway.http.guard import Admission
from hostler.gateway.http.pieces import Asked, StreamReply, stream_reply
from hostler.gateway.http.routes import Route
from hostler.gateway.http.sagemaker.ask import Turn, answer, prepare, prepare_aside
from hostler.gateway.http.sagemaker.aws import ControlPlane
from hostler.gateway.http.sagemaker.capture import Capture, Seen
from hostler.gateway.http.sagemaker.ids import RequestIds
from hostler.gateway.http.sagemaker.shadows import Shadowing
from hostler.gateway.ports import Live
from hostler.protocols import sagemaker
from hostler.protocols.sagemaker import Invocation
from hostler.serving import (
    Answer,
    Endpoint,
    Endpoints,
    Outcome,
    Prepared,
    Question,
    Variant,
    decodes_slowly,
    read_answer,
    refused,
)

__all__ = ["Invocations"]

INVOKE: Final = "sagemaker:InvokeEndpoint"
INVOKE_STREAM: Final = "sagemaker:InvokeEndpointWithResponseStream"

_RETRY_S: Final = 1.0

Headers = Mapping[bytes, bytes]


class _Work:
    """One invocation: what was asked, which variant answers, when it has to be done.

    `plain`: the variant has one container, and no other way to be asked.
    """

    __slots__ = (
        "_owed",
        "endpoint",
        "invocation",
        "plain",
        "question",
        "started",
        "turn",
        "variant",
    )

    def __init__(
        self,
        invocation: Invocation,
        endpoint: Endpoint,
        variant: Variant,
        question: Question,
        turn: Turn,
        started: float,
    ) -> None:
        self.started = started
        self.invocation = invocation
        self.endpoint = endpoint
        self.variant = variant
        plan = variant.plan
        self.plain = not (plan.direct or len(plan.stages) > 1 or invocation.target_container)
        self.question = question
        self.turn = turn
        self._owed = True

    def end(self, now: float, failure: HostlerError | None) -> None:
        """Count it out of its variant; what is said first holds, nothing is counted twice."""
        if self._owed:
            self._owed = False
            self.variant.end(now - self.started, failure)


class Invocations:
    """The handlers of the runtime API. `arns`: as the control plane names things.

    `control`: set it to have it said why an endpoint is not found. `request_id`: gives the header
    that tells an answer of `invoke` from all others.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        bodies: Bodies,
        clock: Clock,
        *,
        arns: sagemaker.Arns,
        capture: Capture | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._bodies = bodies
        self._now = clock.now
        self._admission = Admission()
        self._arns = arns
        self._capture = capture
        self.control: ControlPlane | None = None
        self.request_id = RequestIds().line
        self._shadows = Shadowing(clock, config.shadow_requests_max, config.body_bytes_max)
        self._timeout_s = config.invoke_timeout_s
        self._stream_timeout_s = config.invoke_stream_timeout_s
        self._limit = BodyLimit(config.invoke_body_bytes_max, "gateway.invoke_body_bytes_max")
        self._serverless_bytes_max = config.serverless_body_bytes_max
        self._joined_bytes_max = config.body_bytes_max

    async def invoke(self, route: Route, headers: Headers, scope: Scope, receive: Receive) -> Reply:
        """POST /endpoints/{name}/invocations."""
        invocation = sagemaker.read_invocation(route.segment, headers)
        body = await self._bodies.read(receive, headers, self._limit)
        try:
            work = self._begin(invocation, body, scope, INVOKE, self._timeout_s)
            said = await self._answered(work)
            endpoint = work.endpoint
            if endpoint.shadows or endpoint.plan.capture is not None:
                self._copy(work, said)
        finally:
            self._bodies.release(body)
        # The id is put here, not around: a wrapper costs every invocation a coroutine.
        return 200, [*_lines(said, work.variant.name), self.request_id()], said.body

    async def invoke_stream(
        self, route: Route, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """POST /endpoints/{name}/invocations-response-stream."""
        invocation = sagemaker.read_invocation(route.segment, headers, stream=True)
        body = await self._bodies.read(receive, headers, self._limit)
        asked = Asked(self._bodies, body, scope.get("hostler.exchange"))
        work: _Work | None = None
        try:
            work = self._begin(invocation, body, scope, INVOKE_STREAM, self._stream_timeout_s)
            question, last = await self._lead(work)
            target = work.invocation.target_model
            if (work.variant.plan.stages[last].archives is None) is not (not target):
                _check_target(work)
                target = ""
            live = asked.live = await self._acquired(work, last, target)
            prepared = await prepare_aside(live, question, work.turn)
            writer = _Parts(work, live, prepared, _announced(prepared, question), self._now)
            return await _streamed(asked, prepared, writer)
        except BaseException as error:
            asked.release()
            if work is not None:
                work.end(self._now(), _failure_of(error))
            raise

    async def invoke_async(
        self, route: Route, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply:
        """POST /endpoints/{name}/async-invocations: not served yet."""
        raise HostlerError(
            Code.UNIMPLEMENTED,
            "InvokeEndpointAsync is not served yet; use InvokeEndpoint or its stream variant",
        )

    # -- one invocation --------------------------------------------------------------------

    def _begin(
        self, invocation: Invocation, body: Body, scope: Scope, action: str, timeout_s: float
    ) -> _Work:
        """Let it in and choose who answers; the variant's `end` is owed from here on."""
        name = invocation.endpoint
        principal = self._admission.admit(scope, body, action, self._arns.endpoint(name))
        endpoint = self._endpoints.find(name)
        if endpoint is None:
            raise self._unknown(name)
        if invocation.inference_component or invocation.session_id:
            raise _unserved(invocation)
        variant = endpoint.choose(invocation.target_variant)
        if variant.plan.concurrency_max and len(body) > self._serverless_bytes_max:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"the body of {len(body)} bytes exceeds the limit of serverless variants, "
                f"{self._serverless_bytes_max} (gateway.serverless_body_bytes_max)",
            )
        started = self._now()
        turn = Turn(
            scope.get("hostler.exchange"),
            started + timeout_s,
            principal,
            self._joined_bytes_max,
        )
        question = Question(
            body, invocation.content_type, invocation.accept, invocation.custom_attributes
        )
        variant.begin()
        return _Work(invocation, endpoint, variant, question, turn, started)

    def _unknown(self, name: str) -> HostlerError:
        control = self.control
        if control is not None and control.resuming:
            why = control.problem or (
                "the server has just been started and looks for the endpoints that it had"
            )
            said = f"endpoint {name} is not known yet: {why}"
            return HostlerError(Code.UNAVAILABLE, said, retry_after_s=_RETRY_S)
        said = f"Endpoint {name} of account {self._arns.account} not found."
        known = None if control is None else control.endpoints().get(name)
        if known is not None:
            why = known.failure_reason or known.progress
            said += f" It is {known.status}: {why}" if why else f" It is {known.status}."
        return HostlerError(Code.NOT_FOUND, said)

    @property
    def copies_left_out(self) -> int:
        """Copies for shadows that were not sent, because too many were in flight."""
        return self._shadows.left_out

    async def _answered(self, work: _Work) -> Answer:
        """Through all containers; counted and timed."""
        try:
            if work.plain:
                said = await self._ask(work, 0, work.question)
            else:
                question, last = await self._lead(work)
                said = await self._ask(work, last, question)
        except BaseException as error:
            work.end(self._now(), _failure_of(error))
            raise
        work.end(self._now(), None)
        return said

    async def _lead(self, work: _Work) -> tuple[Question, int]:
        """Ask all containers of a pipeline but the last: what that one is asked, and which it is.

        Of containers that are asked directly, the named one is the last and only one.
        """
        plan, wanted = work.variant.plan, work.invocation.target_container
        if plan.direct or wanted:
            return work.question, _named(work)
        question = work.question
        for stage in range(len(plan.stages) - 1):
            said = await self._ask(work, stage, question._replace(accept=""))
            question = question._replace(body=said.body, content_type=said.content_type)
        return question, len(plan.stages) - 1

    async def _ask(self, work: _Work, stage: int, question: Question) -> Answer:
        target = work.invocation.target_model
        if (work.variant.plan.stages[stage].archives is None) is not (not target):
            _check_target(work)
            target = ""
        live: Live | None = work.variant.live(stage, target)
        if live is None:
            live = await self._acquired(work, stage, target)
        else:
            live.pin()
        turn = work.turn
        try:
            if live.spec.decoupled or decodes_slowly(live, question):
                return await answer(live, question, turn)
            asked = prepare(live, question, turn)
            return read_answer(live, asked, await live.infer(asked.request))
        except HostlerError as error:
            raise refused(error) from None
        finally:
            turn.end()
            live.release()

    async def _acquired(self, work: _Work, stage: int, target: str) -> Live:
        """A model that is not in memory, pinned; a client that leaves cancels its wait."""
        context = Context()
        work.turn.take(context)
        try:
            return await work.variant.acquire(stage, target, context)
        finally:
            work.turn.end()

    # -- what is done beside ---------------------------------------------------------------

    def _copy(self, work: _Work, said: Answer) -> None:
        """Shadow it, and write it down."""
        plan = work.endpoint.plan
        if plan.capture is not None and self._capture is not None:
            capture = self._capture
            if capture.wants(plan.name, plan.capture):
                seen = Seen(
                    work.variant.name,
                    work.invocation.inference_id,
                    work.question.content_type,
                    bytes(work.question.body),
                )
                seen.answer, seen.accept_type = said.body, said.content_type
                capture.write(plan.name, plan.capture, seen)
        if work.endpoint.shadows:
            outcome = Outcome(self._now() - work.started, said.body, said.content_type)
            self._shadows.copy(work.endpoint, work.variant, work.question, outcome, work.invocation)


class _Parts:
    """Responses -> messages of an event stream; ends the variant's count with the stream.

    `announced`: the media type where no response says one.
    """

    def __init__(
        self,
        work: _Work,
        live: Live,
        prepared: Prepared,
        announced: str,
        now: Callable[[], float],
    ) -> None:
        self._work = work
        self._live = live
        self._prepared = prepared
        self._first = Answer(b"", announced)
        self._said = False
        self._now = now

    def lines(self) -> Iterator[tuple[bytes, bytes]]:
        """The headers; read once the first response is there, which says of what type it is."""
        answered = sagemaker.Answered(
            content_type=self._first.content_type,
            variant=self._work.variant.name,
            custom_attributes=self._first.custom_attributes or "",
        )
        yield from sagemaker.answer_headers(answered, stream=True)

    def encode(self, response: InferResponse) -> bytes:
        """One response."""
        part = b""
        if response.outputs:
            said = read_answer(self._live, self._prepared, response)
            if not self._said:
                self._first, self._said = said._replace(body=b""), True
            part = sagemaker.payload_part(said.body) if said.body else b""
        if response.final:
            self._end(None)
        return part

    def end(self) -> bytes:
        """The model ended without a last response."""
        self._end(None)
        return b""

    def failure(self, error: HostlerError) -> bytes:
        """The stream breaks."""
        self._end(error)
        return sagemaker.stream_error(error)

    def closed(self) -> None:
        """Nobody reads on."""
        self._end(_failure_of(Gone()))

    def _end(self, error: HostlerError | None) -> None:
        self._work.end(self._now(), error)


async def _streamed(asked: Asked, prepared: Prepared, writer: _Parts) -> Reply | StreamReply:
    """The parts. Once they have begun, their end is that of the invocation."""
    try:
        reply = await stream_reply(asked, prepared.request, writer, writer.lines())
    except HostlerError as error:
        raise refused(error) from None
    asked.after = writer.closed
    return reply


def _failure_of(error: BaseException) -> HostlerError:
    """As what a variant counts the end of an invocation."""
    if isinstance(error, HostlerError):
        return error
    if isinstance(error, (Gone, asyncio.CancelledError)):
        return HostlerError(Code.CANCELLED, "the client closed the connection")
    return HostlerError(Code.INTERNAL, type(error).__name__)


def _announced(prepared: Prepared, question: Question) -> str:
    if prepared.form is None:
        return question.accept or "application/octet-stream"
    return question.accept or question.content_type or "application/json"


def _named(work: _Work) -> int:
    """The container that a request names. Raises: INVALID_ARGUMENT."""
    plan, wanted = work.variant.plan, work.invocation.target_container
    hostnames = [stage.hostname for stage in plan.stages]
    if not plan.direct:
        reason = "its containers are a pipeline (InferenceExecutionConfig Mode Serial)"
    elif not wanted:
        reason = f"name one of its containers with TargetContainerHostname: {hostnames}"
    elif wanted in hostnames:
        return hostnames.index(wanted)
    else:
        reason = f"it has no container '{wanted}'; it has {hostnames}"
    raise HostlerError(Code.INVALID_ARGUMENT, f"endpoint {work.invocation.endpoint}: {reason}")


def _check_target(work: _Work) -> None:
    """Refuse a target model that no container takes, or none where one must be named.

    Beside a multi-model container there may be others, which take none. Raises: INVALID_ARGUMENT.
    """
    name = work.invocation.endpoint
    if not work.invocation.target_model:
        text = f"endpoint {name} serves many models: name one with TargetModel, as in a/b.tar.gz"
    elif not any(stage.archives is not None for stage in work.variant.plan.stages):
        # AWS's words. Source: issue 1026 of aws/amazon-sagemaker-examples.
        text = (
            f"Endpoint {name} is not a multi-model endpoint and does not support target model "
            "header."
        )
    else:
        return
    raise HostlerError(Code.INVALID_ARGUMENT, text)


def _lines(said: Answer, variant: str) -> list[tuple[bytes, bytes]]:
    if said.custom_attributes:
        answered = sagemaker.Answered(
            content_type=said.content_type,
            variant=variant,
            custom_attributes=said.custom_attributes,
        )
        return sagemaker.answer_headers(answered)
    return _usual_lines(said.content_type, variant)


@functools.lru_cache(maxsize=1024)
def _usual_lines(content_type: str, variant: str) -> list[tuple[bytes, bytes]]:
    return sagemaker.answer_headers(sagemaker.Answered(content_type=content_type, variant=variant))


def _unserved(invocation: Invocation) -> HostlerError:
    what = "inference components" if invocation.inference_component else "stateful sessions"
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f"endpoint {invocation.endpoint} has no {what}; leave "
        f"{'InferenceComponentName' if invocation.inference_component else 'SessionId'} out",
    )
