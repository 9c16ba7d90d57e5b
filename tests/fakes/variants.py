"""Endpoints without serving: variants whose models are given by hand, and which count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fakes.gateway import Answered, FakeClock, FakeLive, FakeServing, ask

from hostler.control import Config as ControlConfig
from hostler.control.ports import Known, Observed
from hostler.core import (
    DATATYPES,
    OPAQUE_SIGNATURE,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    Tensor,
    payload_body,
)
from hostler.gateway import BodyLimit, Config, HttpGateway
from hostler.protocols.sagemaker import Arns
from hostler.serving import EndpointPlan, StagePlan, VariantPlan

__all__ = ["Case", "FakeEndpoint", "FakeVariant", "HandlerLive", "Peer", "piece"]

UINT8 = DATATYPES["UINT8"]


class Peer:
    """What the edge puts into a scope. `leave`: as a client that closes its connection."""

    def __init__(self) -> None:
        self.context: Context | None = None
        self.gone = False

    def leave(self) -> None:
        self.gone = True
        if self.context is not None:
            self.context.cancel()


def piece(body: bytes, *, final: bool = False, **parameters: str) -> InferResponse:
    """One response of a handler."""
    data = np.frombuffer(body, np.uint8)
    response = InferResponse([Tensor("body", UINT8, data.shape, data)], parameters)
    response.final = final
    return response


class HandlerLive(FakeLive):
    """An opaque model. `reply`: of a body and its parameters, a body and the answer's own.

    Unless told, it says what it was asked: `<name>(<body>)`, of the type that was wanted.
    """

    def __init__(
        self,
        name: str,
        reply: Callable[[bytes, Mapping[str, Any]], tuple[bytes, dict[str, str]]] | None = None,
        *,
        streams: bool = False,
    ) -> None:
        super().__init__(name)
        self.reply = reply
        self.signature = OPAQUE_SIGNATURE
        self.spec = replace(self.spec, opaque=True, decoupled=streams, signature=OPAQUE_SIGNATURE)
        self.asked: list[tuple[bytes, dict[str, Any]]] = []

    def answer(self, request: InferRequest) -> InferResponse:
        body = bytes(payload_body(InferResponse([request.inputs["body"]])))
        parameters = dict(request.parameters)
        self.asked.append((body, parameters))
        if self.reply is not None:
            said, told = self.reply(body, parameters)
        else:
            said = b"%s(%s)" % (self.name.encode(), body)
            told = {"content_type": str(parameters.get("accept") or "text/plain")}
        return piece(said, final=True, **told)

    def give(self, *responses: InferResponse) -> None:
        """More pieces of a held stream."""
        for response in responses:
            self.streams[-1].put(response)
            if response.final:
                self.streams[-1].end()


class FakeVariant:
    """Counts as `serving.Variant` does. `ended`: of each request, its error or None.

    `lives`: the model of each container. `cold`: it has to be acquired. `refusal`: of `acquire`.
    """

    def __init__(
        self,
        name: str,
        lives: Sequence[FakeLive],
        *,
        stages: Sequence[StagePlan] | None = None,
        **plan: Any,
    ) -> None:
        stages = stages or [StagePlan(model=live.name) for live in lives]
        self.name = name
        self.generation = 1
        self.plan = VariantPlan(name, tuple(stages), **plan)
        self.lives = lives
        self.cold = False
        self.refusal: Exception | None = None
        self.full = False
        self.begun = 0
        self.ended: list[HostlerError | None] = []
        self.seconds: list[float] = []
        self.targets: list[tuple[int, str]] = []
        self.contexts: list[Context] = []
        self.gate: asyncio.Event | None = None

    def live(self, stage: int, target_model: str = "") -> FakeLive | None:
        self.targets.append((stage, target_model))
        return None if self.cold else self.lives[stage]

    async def acquire(self, stage: int, target_model: str, context: Context) -> FakeLive:
        if self.targets[-1:] != [(stage, target_model)]:
            self.targets.append((stage, target_model))
        self.contexts.append(context)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        self.lives[stage].pin()
        return self.lives[stage]

    def begin(self) -> None:
        if self.full:
            raise HostlerError(Code.QUEUE_FULL, "full", retry_after_s=1.0)
        self.begun += 1

    def end(self, seconds: float, error: HostlerError | None) -> None:
        self.seconds.append(seconds)
        self.ended.append(error)

    @property
    def codes(self) -> list[Code | None]:
        """How each request ended."""
        return [None if error is None else error.code for error in self.ended]

    def check(self) -> None:
        """Whatever began has ended, once, and nothing is held."""
        assert self.begun == len(self.ended)
        assert [live.pins for live in self.lives] == [0] * len(self.lives)


class FakeEndpoint:
    """`choose` gives the named variant, or the first."""

    def __init__(self, name: str, *variants: FakeVariant, **plan: Any) -> None:
        self.plan = EndpointPlan(name, "arn", (), **plan)
        self.variants = variants
        self.shadows: tuple[Any, ...] = ()

    def choose(self, target_variant: str = "") -> FakeVariant:
        for variant in self.variants:
            if target_variant in ("", variant.name):
                return variant
        raise HostlerError(Code.NOT_FOUND, f"variant '{target_variant}' is not found")


class FakeEndpoints:
    """By name."""

    def __init__(self, endpoints: Sequence[FakeEndpoint]) -> None:
        self._endpoints = {endpoint.plan.name: endpoint for endpoint in endpoints}

    def find(self, name: str) -> FakeEndpoint | None:
        return self._endpoints.get(name)


class FakeControl:
    """Answers with `{}`. `asks`: what it asks `allow` for. `resuming`: endpoints come back yet."""

    def __init__(self) -> None:
        self.problem = ""
        self.known: dict[str, Known] = {}
        self.calls: list[tuple[str, bytes]] = []
        self.asks: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.resuming = False

    def endpoints(self) -> Mapping[str, Known]:
        return self.known

    def observe(self, endpoint: str) -> Observed:
        return Observed()

    async def call(self, target: str, body: bytes, allow: Callable[[str, str], None]) -> Any:
        self.calls.append((target, body))
        for action, resource in self.asks:
            allow(action, resource)
        if self.error is not None:
            raise self.error
        return 200, [(b"content-type", b"application/x-amz-json-1.1")], b"{}"


class FakeLines:
    """Keeps what is captured."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bytes]] = []

    def put(self, url_prefix: str, record: bytes) -> bool:
        self.lines.append((url_prefix, record))
        return True


class Case:
    """A gateway with these endpoints."""

    def __init__(self, *endpoints: FakeEndpoint, **settings: Any) -> None:
        self.clock = FakeClock()
        self.control = FakeControl()
        self.lines = FakeLines()
        self.gateway = HttpGateway(Config(**settings), FakeServing(), clock=self.clock)
        self.application = self.gateway.application
        limit = BodyLimit(ControlConfig().body_bytes_max, "control.body_bytes_max")
        self.gateway.mount_endpoints(
            FakeEndpoints(endpoints),
            self.control,
            limit,
            Arns("us-east-1", "000000000000"),
            self.lines,
        )

    async def invoke(
        self, endpoint: str, body: bytes = b"1", *, stream: bool = False, **more: Any
    ) -> Answered:
        """InvokeEndpoint; `more`: headers without their prefix, the peer, and `answered`."""
        scope = {"hostler.exchange": more.pop("peer", None) or Peer()}
        answered = more.pop("answered", None)
        headers = {b"content-type": b"text/csv"}
        for name, value in more.items():
            plain = name in ("content_type", "accept") and not (stream and name == "accept")
            prefix = "" if plain else "x-amzn-sagemaker-"
            headers[f"{prefix}{name.replace('_', '-')}".encode()] = value.encode()
        kind = "invocations-response-stream" if stream else "invocations"
        path = f"/endpoints/{endpoint}/{kind}"
        found = await ask(self.application, "POST", path, body, headers, answered=answered, **scope)
        assert self.application.v2.bodies.held_bytes == 0
        return found
