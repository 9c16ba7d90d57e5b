"""How a model answers a body: what it is asked, and what is written of its answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fakes.gateway import FakeLive
from fakes.variants import HandlerLive, Peer, piece

from hostler.core import Code, Context, HostlerError, InferResponse
from hostler.gateway.http.answers import Gone
from hostler.gateway.http.sagemaker import ask
from hostler.gateway.http.sagemaker.ask import Turn, answer, prepare, prepare_aside
from hostler.serving import Prepared, Question, read_answer, refused

V2 = b'{"id": "7", "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}'


def turn(peer: Peer | None = None, bytes_max: int = 100, principal: str | None = None) -> Turn:
    return Turn(peer, 130.0, principal, bytes_max)


@pytest.mark.parametrize(
    ("content_type", "accept", "body", "said", "kind"),
    [
        ("text/csv", "", b"1,2\n3,4", b"1.0,2.0\n3.0,4.0\n", "text/csv"),
        ("text/csv", "application/json", b"1,2", b"[[1.0,2.0]]", "application/json"),
        ("application/json", "", b"[[1, 2]]", b"[[1.0,2.0]]", "application/json"),
        ("application/json", "text/csv", b"[[1, 2]]", b"1.0,2.0\n", "text/csv"),
        (
            "application/json",
            "",
            b'{"instances": [[1, 2]]}',
            b'{"predictions":',
            "application/json",
        ),
        ("application/jsonlines", "", b"[1, 2]\n[3, 4]", b"[1.0,2.0]\n", "application/jsonlines"),
        ("application/json", "", V2, b'{"model_name":"m","model_ver', "application/json"),
    ],
)
async def test_tensors(content_type: str, accept: str, body: bytes, said: bytes, kind: str) -> None:
    found = await answer(FakeLive("m"), Question(body, content_type, accept), turn())
    assert found.body.startswith(said)
    assert found.content_type.startswith(kind)
    assert found.custom_attributes is None


async def test_binary_v2() -> None:
    header = (
        b'{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], '
        b'"parameters": {"binary_data_size": 8}}], "parameters": {"binary_data_output": true}}'
    )
    kind = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    question = Question(header + bytes(8), f"{kind}{len(header)}")
    found = await answer(FakeLive("m"), question, turn())
    assert found.content_type.startswith(kind)
    size = int(found.content_type.removeprefix(kind))
    assert (found.body[:1], found.body[size:]) == (b"{", bytes(8))


@pytest.mark.parametrize(
    ("content_type", "accept", "body", "status"),
    [
        ("text/xml", "", b"", 415),
        ("text/csv", "image/png", b"1,2", 406),
        ("text/csv", "", b"1,x", 400),
        ("application/json", "", b"[[1", 400),
        ("application/vnd.sagemaker-triton.binary+json;json-header-size=9", "", b"{}", 400),
        ("application/vnd.sagemaker-triton.binary+json;json-header-size=-1", "", b"{}", 400),
    ],
)
def test_what_cannot_be_read_has_a_container_s_status(
    content_type: str, accept: str, body: bytes, status: int
) -> None:
    peer = Peer()
    with pytest.raises(HostlerError) as raised:
        prepare(FakeLive("m"), Question(body, content_type, accept), turn(peer))
    assert raised.value.code is Code.MODEL_ERROR
    assert raised.value.details["status"] == status
    assert peer.context is None


def test_refused_leaves_other_errors_and_statuses_alone() -> None:
    late = HostlerError(Code.DEADLINE_EXCEEDED, "late")
    assert refused(late) is late
    own = HostlerError(Code.INVALID_ARGUMENT, "x", details={"status": 422, "more": 1})
    assert refused(own).details == {"status": 422, "more": 1}


async def test_a_request_is_its_client_s() -> None:
    peer, live = Peer(), FakeLive("m")
    live.hold = True
    asking = asyncio.ensure_future(
        answer(live, Question(b"1,2", "text/csv"), turn(peer, principal="alice"))
    )
    await asyncio.sleep(0)
    [request] = live.requests
    assert peer.context is request.context
    assert (request.context.deadline, request.context.principal) == (130.0, "alice")
    live.let_go()
    await asking
    assert peer.context is None


async def test_the_client_hears_no_more_after_an_error() -> None:
    peer, live = Peer(), FakeLive("m")
    live.error = HostlerError(Code.INVALID_ARGUMENT, "rows")
    with pytest.raises(HostlerError) as raised:
        await answer(live, Question(b"1,2", "text/csv"), turn(peer))
    assert (raised.value.code, raised.value.details["status"]) == (Code.MODEL_ERROR, 400)
    assert peer.context is None


async def test_nothing_is_asked_for_one_who_has_left() -> None:
    peer, live = Peer(), FakeLive("m")
    peer.gone = True
    with pytest.raises(Gone):
        await answer(live, Question(b"1,2", "text/csv"), turn(peer))
    assert live.requests == []
    with pytest.raises(Gone):
        turn(peer).take(Context())


async def test_handlers() -> None:
    live = HandlerLive("h")
    found = await answer(live, Question(b"\x00\xff", "x/y", "", "a=1"), turn())
    assert found == (b"h(\x00\xff)", "text/plain", None)
    [(body, told)] = live.asked
    assert (body, told) == (
        b"\x00\xff",
        {"content_type": "x/y", "accept": "", "custom_attributes": "a=1"},
    )
    await answer(live, Question(b""), turn())
    assert live.asked[1] == (b"", {"content_type": "", "accept": ""})


@pytest.mark.parametrize(
    ("accept", "told", "kind"),
    [
        ("a/b", {"content_type": "c/d"}, "c/d"),
        ("a/b", {}, "a/b"),
        ("", {}, "application/octet-stream"),
        ("", {"content_type": ""}, "application/octet-stream"),
    ],
)
def test_the_type_of_an_answer(accept: str, told: dict[str, str], kind: str) -> None:
    live = HandlerLive("h")
    asked = prepare(live, Question(b"", "", accept), turn())
    assert read_answer(live, asked, piece(b"x", **told)).content_type == kind


def test_what_user_code_says_in_headers_is_bounded() -> None:
    """Headers of answers are remembered by their media type."""
    live = HandlerLive("m")
    asked = prepare(live, Question(b"", "", ""), turn())
    told = {"content_type": "t" * 100_000, "custom_attributes": "a" * 100_000}
    said = read_answer(live, asked, piece(b"x", **told))
    assert (said.content_type, said.custom_attributes) == ("t" * 1024, "a" * 1024)


def test_an_answer_without_tensors_is_empty() -> None:
    live = HandlerLive("h")
    asked = prepare(live, Question(b""), turn())
    assert read_answer(live, asked, InferResponse([])).body == b""


# -- several responses -----------------------------------------------------------------------


async def joined(live: Any, question: Question, bytes_max: int = 100) -> Any:
    live.hold = True
    asking = asyncio.ensure_future(answer(live, question, turn(bytes_max=bytes_max)))
    await asyncio.sleep(0)
    return asking


async def test_pieces_are_joined_and_the_first_names_the_type() -> None:
    live = HandlerLive("h", streams=True)
    asking = await joined(live, Question(b""))
    live.give(piece(b"a", content_type="c/d", custom_attributes="n"), piece(b"b", content_type="x"))
    live.give(piece(b"c", final=True))
    assert await asking == (b"abc", "c/d", "n")


async def test_a_stream_without_pieces_is_no_answer() -> None:
    live = HandlerLive("h", streams=True)
    asking = await joined(live, Question(b""))
    live.give(InferResponse([]))
    with pytest.raises(HostlerError, match="gave no response") as raised:
        await asking
    assert raised.value.code is Code.MODEL_ERROR


async def test_joined_pieces_have_a_limit() -> None:
    live = HandlerLive("h", streams=True)
    asking = await joined(live, Question(b""), bytes_max=4)
    live.give(piece(b"abc"), piece(b"de"))
    with pytest.raises(HostlerError, match=r"gateway\.body_bytes_max") as raised:
        await asking
    assert raised.value.code is Code.MODEL_ERROR
    assert live.requests[0].context.cancelled


async def test_tensors_in_several_responses_are_not_joined() -> None:
    live = FakeLive("m")
    object.__setattr__(live.spec, "decoupled", True)
    asking = await joined(live, Question(b"1,2", "text/csv"))
    live.put(1, 2)
    live.put(3, 4, final=True)
    with pytest.raises(HostlerError, match="several responses") as raised:
        await asking
    assert raised.value.code is Code.UNIMPLEMENTED
    live.hold = False
    assert (await answer(live, Question(b"1,2", "text/csv"), turn())).body == b"1.0,2.0\n"


@pytest.mark.parametrize(("kind", "elsewhere"), [("text/csv", False), ("image/png", True)])
async def test_pictures_are_decoded_off_the_loop(
    kind: str, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, live, threads = Peer(), FakeLive("m"), []
    made = prepare(live, Question(b"1,2", "text/csv"), turn())

    def prepared(_live: Any, _question: Question) -> Prepared:
        threads.append(threading.current_thread())
        return made

    monkeypatch.setattr(ask, "prepare_request", prepared)
    found = await prepare_aside(live, Question(b"1,2", kind), turn(peer, principal="alice"))
    assert (threads[0] is not threading.main_thread()) is elsewhere
    assert found is made
    assert peer.context is made.request.context
    assert made.request.context.principal == "alice"
