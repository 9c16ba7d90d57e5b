"""Invocations of endpoints: who answers, what is answered, and that each is counted once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fakes.gateway import Answered, FakeLive, ask
from fakes.variants import Case, FakeEndpoint, FakeVariant, HandlerLive, Peer, piece

from hostler.core import Code, HostlerError
from hostler.protocols import sagemaker
from hostler.serving import StagePlan

ERROR_TYPE = b"x-amzn-errortype"
VARIANT = b"x-amzn-invoked-production-variant"


def one(live: FakeLive, **plan: Any) -> tuple[Case, FakeVariant]:
    """A case whose endpoint `e` has one variant of one model."""
    variant = FakeVariant("v", [live], **plan)
    return Case(FakeEndpoint("e", variant)), variant


def refusal(answered: Answered) -> tuple[int, str, str]:
    document = json.loads(answered.body)
    return answered.status, answered.headers.get(ERROR_TYPE, b"").decode(), document["Message"]


def frames(answered: Answered) -> list[tuple[str, bytes]]:
    """Type and payload of the messages of an event stream."""
    return [
        (frame.headers.get(":event-type") or frame.headers[":exception-type"], frame.payload)
        for frame in sagemaker.decode_frames(answered.body)
    ]


# -- one answer ------------------------------------------------------------------------------


async def test_tensors() -> None:
    case, variant = one(FakeLive("m"))
    answered = await case.invoke("e", b"1.5,2")
    assert (answered.status, answered.body) == (200, b"1.5,2.0\n")
    assert answered.headers[VARIANT] == b"v"
    assert answered.headers[b"content-type"].startswith(b"text/csv")
    assert (variant.codes, variant.targets) == ([None], [(0, "")])
    variant.check()


async def test_a_handler_gets_all_and_says_all() -> None:
    live = HandlerLive("m", lambda body, told: (b"said", {"custom_attributes": "b"}))
    case, variant = one(live)
    answered = await case.invoke(
        "e", b"raw", content_type="x/y", accept="a/b", custom_attributes="trace=1"
    )
    told = {"content_type": "x/y", "accept": "a/b", "custom_attributes": "trace=1"}
    assert live.asked == [(b"raw", told)]
    assert (answered.body, answered.headers[b"content-type"]) == (b"said", b"a/b")
    assert answered.headers[b"x-amzn-sagemaker-custom-attributes"] == b"b"
    variant.check()


async def test_a_model_that_is_not_in_memory_is_acquired() -> None:
    case, variant = one(HandlerLive("m"))
    variant.cold = True
    peer = Peer()
    assert (await case.invoke("e", b"x", peer=peer)).body == b"m(x)"
    [context] = variant.contexts
    assert (context.deadline, context.principal) == (160.0, None)
    assert peer.context is None
    variant.check()


async def test_a_streamed_answer_is_joined() -> None:
    live = HandlerLive("m", streams=True)
    live.hold = True
    case, variant = one(live)
    asking = asyncio.ensure_future(case.invoke("e"))
    await asyncio.sleep(0)
    live.give(piece(b"a", content_type="x/y"), piece(b"b"), piece(b"c", final=True))
    answered = await asking
    assert (answered.body, answered.headers[b"content-type"]) == (b"abc", b"x/y")
    assert variant.codes == [None]
    variant.check()


FAILURES = [
    (HostlerError(Code.MODEL_ERROR, "no", details={"status": 418}), 424, "ModelError"),
    (HostlerError(Code.WORKER_LOST, "crash"), 424, "ModelError"),
    (HostlerError(Code.INVALID_ARGUMENT, "shape"), 424, "ModelError"),
    (HostlerError(Code.DEADLINE_EXCEEDED, "late"), 424, "ModelError"),
    (HostlerError(Code.QUEUE_FULL, "full", retry_after_s=2), 400, "ThrottlingException"),
    (HostlerError(Code.UNAVAILABLE, "loading", details={"loading": True}), 429, "ModelNotReady"),
    (HostlerError(Code.UNAVAILABLE, "later"), 503, "ServiceUnavailable"),
    (RuntimeError("ours"), 500, "InternalFailure"),
]


@pytest.mark.parametrize("where", ["infer", "acquire"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "kind"), FAILURES)
async def test_failures(where: str, stream: bool, error: Exception, status: int, kind: str) -> None:
    case, variant = one(HandlerLive("m"))
    if where == "infer":
        variant.lives[0].error = error
    else:
        variant.cold, variant.refusal = True, error
        if isinstance(error, HostlerError) and error.code is Code.INVALID_ARGUMENT:
            status, kind = 400, "ValidationError"  # of the endpoint, not of its model
    answered = await case.invoke("e", stream=stream)
    found = refusal(answered)
    assert (found[0], found[1].startswith(kind)) == (status, True), found
    [ended] = variant.ended
    assert ended is not None
    if isinstance(error, RuntimeError):
        assert ended.code is Code.INTERNAL
        assert "ours" not in found[2]
    variant.check()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "body", "original"),
    [
        ({"content_type": "text/xml"}, b"<x/>", 415),
        ({"content_type": "application/json"}, b"[[1, 2", 400),
        ({"accept": "image/png"}, b"1,2", 406),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_model_s_to_refuse(
    stream: bool, headers: dict[str, str], body: bytes, original: int
) -> None:
    case, variant = one(FakeLive("m"))
    answered = await case.invoke("e", body, stream=stream, **headers)
    assert refusal(answered)[:2] == (424, "ModelError")
    document = json.loads(answered.body)
    assert document["OriginalStatusCode"] == original
    assert document["OriginalMessage"]
    assert variant.codes == [Code.MODEL_ERROR]
    variant.check()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("endpoint", "headers", "said"),
    [
        ("none", {}, "Endpoint none of account 000000000000 not found."),
        ("e", {"target_variant": "w"}, "variant 'w' is not found"),
        ("e", {"inference_component": "c"}, "has no inference components"),
        ("e", {"session_id": "NEW_SESSION"}, "has no stateful sessions"),
        ("-", {}, "endpointName"),
    ],
)
async def test_what_is_refused_before_it_counts(
    stream: bool, endpoint: str, headers: dict[str, str], said: str
) -> None:
    case, variant = one(HandlerLive("m"))
    status, kind, message = refusal(await case.invoke(endpoint, stream=stream, **headers))
    assert (status, kind, said in message) == (400, "ValidationError", True), message
    assert (variant.begun, variant.ended) == (0, [])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_variant_that_is_full_is_not_counted(stream: bool) -> None:
    case, variant = one(HandlerLive("m"))
    variant.full = True
    answered = await case.invoke("e", stream=stream)
    assert refusal(answered)[:2] == (400, "ThrottlingException")
    assert answered.headers[b"retry-after"] == b"1"
    assert variant.ended == []


async def test_bodies_have_limits() -> None:
    variant = FakeVariant("v", [HandlerLive("m")])
    serverless = FakeVariant("s", [HandlerLive("m")], concurrency_max=2)
    limits = {"invoke_body_bytes_max": 2048, "serverless_body_bytes_max": 1024}
    case = Case(FakeEndpoint("e", variant, serverless), **limits)
    assert (await case.invoke("e", bytes(2048))).status == 200
    answered = await case.invoke("e", bytes(2049))
    assert (answered.status, b"gateway.invoke_body_bytes_max" in answered.body) == (413, True)
    answered = await case.invoke("e", bytes(1025), target_variant="s")
    assert (answered.status, b"gateway.serverless_body_bytes_max" in answered.body) == (413, True)
    assert (await case.invoke("e", bytes(1024), target_variant="s")).status == 200
    variant.check()
    serverless.check()


# -- a client that goes away -----------------------------------------------------------------


async def test_gone_while_the_model_computes() -> None:
    case, variant = one(FakeLive("m"))
    variant.lives[0].hold = True
    peer = Peer()
    asking = asyncio.ensure_future(case.invoke("e", b"1,2", peer=peer))
    await asyncio.sleep(0)
    peer.leave()
    await asking
    assert variant.codes == [Code.CANCELLED]
    variant.check()


@pytest.mark.parametrize("stream", [False, True])
async def test_gone_while_the_model_is_loaded(stream: bool) -> None:
    case, variant = one(HandlerLive("m"))
    variant.cold, variant.gate = True, asyncio.Event()
    peer = Peer()
    asking = asyncio.ensure_future(case.invoke("e", stream=stream, peer=peer))
    await asyncio.sleep(0)
    peer.leave()
    assert variant.contexts[0].cancelled
    variant.gate.set()
    assert (await asking).status == 0
    assert variant.codes == [Code.CANCELLED]
    variant.check()


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled(stream: bool) -> None:
    case, variant = one(HandlerLive("m"))
    variant.cold, variant.gate = True, asyncio.Event()
    asking = asyncio.ensure_future(case.invoke("e", stream=stream))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert variant.codes == [Code.CANCELLED]
    variant.check()


# -- streams ---------------------------------------------------------------------------------


def streaming() -> tuple[Case, FakeVariant, HandlerLive]:
    live = HandlerLive("m", streams=True)
    live.hold = True
    case, variant = one(live)
    return case, variant, live


async def test_a_stream_of_one() -> None:
    case, variant = one(HandlerLive("m"))
    answered = await case.invoke("e", b"x", stream=True, accept="a/b")
    assert answered.headers[b"content-type"] == b"application/vnd.amazon.eventstream"
    assert answered.headers[b"x-amzn-sagemaker-content-type"] == b"a/b"
    assert answered.headers[VARIANT] == b"v"
    assert frames(answered) == [("PayloadPart", b"m(x)")]
    assert variant.codes == [None]
    variant.check()


async def test_a_stream_says_what_its_first_response_says() -> None:
    case, variant, live = streaming()
    answered = Answered()
    asking = asyncio.ensure_future(case.invoke("e", stream=True, accept="*/*", answered=answered))
    await asyncio.sleep(0)
    case.clock.time += 2.0
    live.give(piece(b"a", content_type="text/event-stream", custom_attributes="n=1"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert answered.headers[b"x-amzn-sagemaker-content-type"] == b"text/event-stream"
    assert answered.headers[b"x-amzn-sagemaker-custom-attributes"] == b"n=1"
    assert variant.ended == []
    case.clock.time += 3.0
    live.give(piece(b""), piece(b"b", final=True))
    await asking
    assert frames(answered) == [("PayloadPart", b"a"), ("PayloadPart", b"b")]
    assert (variant.codes, variant.seconds) == ([None], [5.0])
    variant.check()


async def test_a_stream_that_breaks() -> None:
    case, variant, live = streaming()
    asking = asyncio.ensure_future(case.invoke("e", stream=True))
    await asyncio.sleep(0)
    live.give(piece(b"a"))
    live.streams[0].end(HostlerError(Code.MODEL_ERROR, "it broke"))
    answered = await asking
    [first, (kind, payload)] = frames(answered)
    assert first == ("PayloadPart", b"a")
    assert (kind, json.loads(payload)["ErrorCode"]) == ("ModelStreamError", "StreamBroken")
    assert variant.codes == [Code.MODEL_ERROR]
    variant.check()


async def test_a_stream_that_ends_without_a_last_response() -> None:
    case, variant, live = streaming()
    asking = asyncio.ensure_future(case.invoke("e", stream=True))
    await asyncio.sleep(0)
    live.give(piece(b"a"))
    live.streams[0].end()
    assert frames(await asking) == [("PayloadPart", b"a")]
    assert variant.codes == [None]
    variant.check()


async def test_a_stream_without_responses() -> None:
    case, variant, live = streaming()
    asking = asyncio.ensure_future(case.invoke("e", stream=True))
    await asyncio.sleep(0)
    live.streams[0].end()
    assert frames(await asking) == []
    assert variant.codes == [None]
    variant.check()


async def test_a_stream_whose_reader_leaves() -> None:
    case, variant, live = streaming()
    peer = Peer()
    asking = asyncio.ensure_future(case.invoke("e", stream=True, peer=peer))
    await asyncio.sleep(0)
    live.give(piece(b"a"))
    for _ in range(5):
        await asyncio.sleep(0)
    peer.leave()
    await asking
    assert variant.codes == [Code.CANCELLED]
    variant.check()


async def test_a_stream_whose_reader_is_found_gone() -> None:
    case, variant, live = streaming()
    peer = Peer()
    asking = asyncio.ensure_future(case.invoke("e", stream=True, peer=peer))
    await asyncio.sleep(0)
    live.give(piece(b"a"))
    for _ in range(5):
        await asyncio.sleep(0)
    peer.gone = True  # while nothing was read
    live.give(piece(b"b"))
    await asking
    assert live.requests[0].context.cancelled
    assert variant.codes == [Code.CANCELLED]
    variant.check()


async def test_the_type_is_that_of_the_first_response() -> None:
    case, variant, live = streaming()
    answered = Answered()
    asking = asyncio.ensure_future(case.invoke("e", stream=True, answered=answered))
    await asyncio.sleep(0)
    live.give(piece(b"a", content_type="c/d"), piece(b"b", content_type="x/y", final=True))
    await asking
    assert answered.headers[b"x-amzn-sagemaker-content-type"] == b"c/d"
    variant.check()


# -- several containers ------------------------------------------------------------------------


def pipeline(**plan: Any) -> tuple[Case, FakeVariant, list[HandlerLive]]:
    lives = [
        HandlerLive("a", lambda body, told: (b"a(%s)" % body, {"content_type": "x/a"})),
        HandlerLive("b", lambda body, told: (b"b(%s)" % body, {"content_type": "x/b"})),
        HandlerLive("c"),
    ]
    variant = FakeVariant("v", lives, **plan)
    return Case(FakeEndpoint("e", variant)), variant, lives


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pipeline(stream: bool) -> None:
    case, variant, lives = pipeline()
    answered = await case.invoke("e", b"x", stream=stream, accept="z/z", custom_attributes="t")
    said = frames(answered)[0][1] if stream else answered.body
    assert said == b"c(b(a(x)))"
    told = [live.asked[0][1] for live in lives]
    assert [t["content_type"] for t in told] == ["text/csv", "x/a", "x/b"]
    assert [t["accept"] for t in told] == ["", "", "z/z"]
    assert [t.get("custom_attributes") for t in told] == ["t", "t", "t"]
    assert variant.codes == [None]
    variant.check()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pipeline_that_fails_in_the_middle(stream: bool) -> None:
    case, variant, lives = pipeline()
    lives[1].error = HostlerError(Code.MODEL_ERROR, "no")
    answered = await case.invoke("e", stream=stream)
    assert refusal(answered)[:2] == (424, "ModelError")
    assert lives[2].asked == []
    assert variant.codes == [Code.MODEL_ERROR]
    variant.check()


STAGES = [StagePlan("one", "a"), StagePlan("two", "b"), StagePlan("three", "c")]


@pytest.mark.parametrize("stream", [False, True])
async def test_containers_that_are_asked_directly(stream: bool) -> None:
    case, variant, lives = pipeline(stages=STAGES, direct=True)
    answered = await case.invoke("e", b"x", stream=stream, target_container_hostname="two")
    assert b"b(x)" in answered.body
    assert (lives[0].asked, lives[2].asked) == ([], [])
    for headers, said in (
        ({}, "name one of its containers"),
        ({"target_container_hostname": "four"}, "has no container 'four'"),
    ):
        status, kind, message = refusal(await case.invoke("e", stream=stream, **headers))
        assert (status, kind, said in message) == (400, "ValidationError", True), message
    assert variant.codes == [None, Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT]
    variant.check()


async def test_a_pipeline_has_no_container_to_name() -> None:
    case, variant, _ = pipeline(stages=STAGES)
    answered = await case.invoke("e", target_container_hostname="two")
    assert "pipeline" in refusal(answered)[2]
    variant.check()


class Archives:
    """Stands for those of a multi-model container."""


MULTI: Any = StagePlan(archives=Archives())  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [False, True])
async def test_target_models(stream: bool) -> None:
    case, variant = one(HandlerLive("m"), stages=[MULTI])
    assert b"m(x)" in (await case.invoke("e", b"x", stream=stream, target_model="a.tar.gz")).body
    refused = refusal(await case.invoke("e", stream=stream))
    assert (refused[:2], "TargetModel" in refused[2]) == ((400, "ValidationError"), True)
    assert variant.targets == [(0, "a.tar.gz")]
    plain, other = one(HandlerLive("m"))
    refused = refusal(await plain.invoke("e", stream=stream, target_model="a.tar.gz"))
    assert (refused[:2], "multi-model" in refused[2]) == ((400, "ValidationError"), True)
    assert other.targets == []
    variant.check()
    other.check()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_target_model_within_a_pipeline(stream: bool) -> None:
    case, variant, _ = pipeline(stages=[StagePlan("", "a"), MULTI, StagePlan("", "c")])
    answered = await case.invoke("e", b"x", stream=stream, target_model="t")
    assert b"c(b(a(x)))" in answered.body
    assert variant.targets[:2] == [(0, ""), (1, "t")]
    variant.check()


async def test_async_invocations_are_not_there_yet() -> None:
    case, _ = one(HandlerLive("m"))
    answered = await ask(case.application, "POST", "/endpoints/e/async-invocations")
    assert refusal(answered)[:2] == (400, "ValidationError")
