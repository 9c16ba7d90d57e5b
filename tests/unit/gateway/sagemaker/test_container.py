"""The container contract over a hosting of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway import Answered, FakeClock, FakeLive, FakeServing, ask
from fakes.variants import HandlerLive, Peer, piece

from hostler.core import Code, Context, HostlerError
from hostler.gateway import Config, HttpGateway
from hostler.repository import Package

ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"


class Hosting:
    """Hosts what `made` has, or else handlers. `refusals`: of a load, by name."""

    def __init__(self) -> None:
        self.lives: dict[str, FakeLive] = {}
        self.made: dict[str, FakeLive] = {}
        self.refusals: dict[str, Exception] = {}
        self.is_ready = True
        self.is_well = True
        self.unhosted: list[str] = []
        self.contexts: list[Context] = []
        self.gate: asyncio.Event | None = None
        self.warming = asyncio.Event()

    async def host(self, packages: Sequence[Package], *, idle_ttl_s: float = 0.0) -> None:
        for package in packages:
            self.lives[package.name] = self.made.get(package.name) or HandlerLive(package.name)

    async def warm(self, name: str) -> None:
        self.warming.set()
        if self.gate is not None:
            await self.gate.wait()
        if name in self.refusals:
            raise self.refusals[name]

    async def unhost(self, names: Sequence[str]) -> None:
        for name in names:
            live = self.lives.pop(name, None)
            assert live is None or not live.pins, "held while it is taken away"
            self.unhosted.append(name)

    async def acquire_hosted(self, name: str, context: Context) -> FakeLive:
        self.contexts.append(context)
        live = self.lives[name]
        live.pin()
        return live

    def hosted_ready(self, name: str) -> bool:
        return self.is_well and name in self.lives

    def ready(self) -> bool:
        return self.is_ready


class Case:
    """A container. `root`: its /opt/ml."""

    def __init__(self, root: Path, *, many: bool = False) -> None:
        self.root = root
        for number in range(3):
            (root / "models" / f"h{number}" / "model").mkdir(parents=True)
        (root / "model").mkdir()
        self.hosting = Hosting()
        self.gateway = HttpGateway(Config(), FakeServing(), clock=FakeClock())
        self.application = self.gateway.application
        models = root / "models" if many else None
        self.container = self.gateway.mount_container(self.hosting, self.read, models)
        self.reading: list[tuple[str, Path]] = []
        self.unreadable: Exception | None = None

    def read(self, name: str, folder: Path) -> Sequence[Package]:
        self.reading.append((name, folder))
        if self.unreadable is not None:
            raise self.unreadable
        return (Package(name, ()), Package(f"{name}/part", ()))

    async def open(self) -> None:
        await self.container.open(self.root / "model")

    async def ask(
        self, method: str, path: str, body: Any = b"", headers: Any = None, **scope: Any
    ) -> Answered:
        found = await ask(self.application, method, path, body, headers, **scope)
        assert self.application.v2.bodies.held_bytes == 0
        return found

    async def load(self, name: str, url: str | None = None) -> Answered:
        url = str(self.root / "models" / name / "model") if url is None else url
        body = json.dumps({"model_name": name, "url": url}).encode()
        return await self.ask("POST", "/models", body)

    def pins(self) -> dict[str, int]:
        return {name: live.pins for name, live in self.hosting.lives.items()}


@pytest.fixture
def single(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture
def many(tmp_path: Path) -> Case:
    return Case(tmp_path, many=True)


def error_of(answered: Answered) -> str:
    return str(json.loads(answered.body)["error"])


# -- one model -------------------------------------------------------------------------------


async def test_ping(single: Case) -> None:
    assert (await single.ask("GET", "/ping")).status == 503
    answered = await single.ask("POST", "/invocations", b"x")
    assert (answered.status, answered.headers[b"retry-after"]) == (503, b"1")
    await single.open()
    answered = await single.ask("GET", "/ping")
    assert (answered.status, answered.body) == (200, b"")
    single.hosting.is_well = False
    assert error_of(await single.ask("GET", "/ping")) == "the model cannot answer for now"
    single.hosting.is_well, single.hosting.is_ready = True, False
    assert error_of(await single.ask("GET", "/ping")) == "the container is stopping"


async def test_the_one_model_stays_in_memory_until_the_end(single: Case) -> None:
    await single.open()
    assert single.reading == [("container/model", single.root / "model")]
    assert single.pins() == {"container/model": 1, "container/model/part": 0}
    single.container.close()
    single.container.close()
    assert set(single.pins().values()) == {0}


async def test_a_model_that_cannot_be_loaded(single: Case) -> None:
    single.hosting.refusals["container/model"] = HostlerError(Code.MODEL_ERROR, "no weights")
    with pytest.raises(HostlerError, match="no weights"):
        await single.open()
    assert single.hosting.lives == {}
    assert (await single.ask("GET", "/ping")).status == 503


async def test_an_invocation(single: Case) -> None:
    told = {"content_type": "c/d", "custom_attributes": "b\r\n"}
    live = HandlerLive("h", lambda body, parameters: (body.upper(), told))
    single.hosting.made["container/model"] = live
    await single.open()
    peer = Peer()
    headers = {b"content-type": b"x/y", b"accept": b"z/z", ATTRIBUTES: b"a"}
    answered = await single.ask(
        "POST", "/invocations", b"said", headers, **{"hostler.exchange": peer}
    )
    assert (answered.status, answered.body) == (200, b"SAID")
    assert (answered.headers[b"content-type"], answered.headers[ATTRIBUTES]) == (b"c/d", b"b??")
    asked = {"content_type": "x/y", "accept": "z/z", "custom_attributes": "a"}
    assert live.asked == [(b"said", asked)]
    assert single.hosting.contexts[-1].deadline == 160.0
    assert (peer.context, live.pins) == (None, 1)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (HostlerError(Code.MODEL_ERROR, "no"), 500, "no"),
        (HostlerError(Code.MODEL_ERROR, "no", details={"status": 418}), 418, "no"),
        (HostlerError(Code.MODEL_ERROR, "no", details={"status": 200}), 500, "no"),
        (HostlerError(Code.INVALID_ARGUMENT, "rows"), 400, "rows"),
        (HostlerError(Code.RESOURCE_EXHAUSTED, "memory"), 507, "memory"),
        (HostlerError(Code.DEADLINE_EXCEEDED, "late"), 503, "late"),
        (HostlerError(Code.QUEUE_FULL, "full"), 503, "full"),
        (RuntimeError("ours"), 500, "internal error"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_errors(
    single: Case, error: Exception, status: int, said: str, streams: bool
) -> None:
    single.hosting.made["container/model"] = live = HandlerLive("h", streams=streams)
    await single.open()
    live.error = error
    answered = await single.ask("POST", "/invocations", b"x")
    assert (answered.status, said in error_of(answered)) == (status, True), answered.body
    assert live.pins == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({b"content-type": b"text/xml"}, b"", 415),
        ({b"content-type": b"text/csv", b"accept": b"image/png"}, b"1,2", 406),
        ({b"content-type": b"text/csv"}, b"1,x", 400),
    ],
)
async def test_what_cannot_be_read(
    single: Case, headers: dict[bytes, bytes], body: bytes, status: int
) -> None:
    single.hosting.made["container/model"] = live = FakeLive("m")
    await single.open()
    assert (await single.ask("POST", "/invocations", body, headers)).status == status
    good = await single.ask("POST", "/invocations", b"1,2", {b"content-type": b"text/csv"})
    assert (good.status, good.body, live.pins) == (200, b"1.0,2.0\n", 1)


async def streaming(case: Case) -> tuple[HandlerLive, Peer, Answered, asyncio.Future[Answered]]:
    case.hosting.made["container/model"] = live = HandlerLive("h", streams=True)
    await case.open()
    live.hold = True
    peer, answered = Peer(), Answered()
    asking = asyncio.ensure_future(
        ask(
            case.application,
            "POST",
            "/invocations",
            b"x",
            answered=answered,
            **{"hostler.exchange": peer},
        )
    )
    await asyncio.sleep(0)
    return live, peer, answered, asking


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_in_pieces(single: Case) -> None:
    live, _, answered, asking = await streaming(single)
    live.give(piece(b"a", content_type="text/event-stream", custom_attributes="n"))
    await settle()
    assert answered.headers[b"content-type"] == b"text/event-stream"
    assert answered.headers[ATTRIBUTES] == b"n"
    assert b"content-length" not in answered.headers
    assert (answered.pieces, answered.whole) == ([b"a"], False)
    live.give(piece(b"b"), piece(b"c", final=True))
    await asking
    assert (answered.body, answered.whole, live.pins) == (b"abc", True, 1)


async def test_an_answer_in_pieces_that_breaks_is_cut(single: Case) -> None:
    live, _, answered, asking = await streaming(single)
    live.give(piece(b"a"))
    await settle()
    live.streams[0].end(HostlerError(Code.MODEL_ERROR, "it broke"))
    await asking
    assert (answered.body, answered.whole, live.pins) == (b"a", False, 1)


async def test_a_reader_who_leaves(single: Case) -> None:
    live, peer, _, asking = await streaming(single)
    live.give(piece(b"a"))
    await settle()
    peer.leave()
    await asking
    assert live.requests[0].context.cancelled
    assert live.pins == 1


async def test_a_client_that_left_before(single: Case) -> None:
    await single.open()
    peer = Peer()
    peer.gone = True
    answered = await single.ask("POST", "/invocations", b"x", **{"hostler.exchange": peer})
    assert answered.status == 0
    assert single.hosting.lives["container/model"].pins == 1


@pytest.mark.parametrize("path", ["/models", "/models/h0", "/models/h0/invoke"])
async def test_one_model_is_not_many(single: Case, path: str) -> None:
    await single.open()
    method = "POST" if path.endswith(("models", "invoke")) else "DELETE"
    answered = await single.ask(method, path, b"{}")
    assert (answered.status, "SAGEMAKER_MULTI_MODEL" in error_of(answered)) == (404, True)


# -- many models -----------------------------------------------------------------------------


async def test_many_are_not_one(many: Case) -> None:
    assert (await many.load("h0")).status == 503
    assert (await many.ask("GET", "/ping")).status == 503
    await many.open()
    assert (await many.ask("GET", "/ping")).status == 200
    assert (many.reading, (await many.ask("POST", "/invocations")).status) == ([], 404)


async def test_load_and_unload(many: Case) -> None:
    await many.open()
    assert (await many.load("h0")).status == 200
    assert many.reading == [("container/models/h0", many.root / "models" / "h0" / "model")]
    assert many.pins() == {"container/models/h0": 1, "container/models/h0/part": 0}
    assert (await many.load("h0")).status == 409
    row = {"modelName": "h0", "modelUrl": str(many.root / "models" / "h0" / "model")}
    assert json.loads((await many.ask("GET", "/models/h0")).body) == row
    assert json.loads((await many.ask("GET", "/models")).body) == {"models": [row]}
    answered = await many.ask("POST", "/models/h0/invoke", b"x")
    assert answered.body == b"container/models/h0(x)"
    assert (await many.ask("DELETE", "/models/h0")).status == 200
    assert many.hosting.unhosted == ["container/models/h0", "container/models/h0/part"]
    for method, path in (("DELETE", "/models/h0"), ("GET", "/models/h0")):
        assert (await many.ask(method, path)).status == 404
    assert (await many.ask("POST", "/models/h0/invoke")).status == 404
    assert (await many.load("h0")).status == 200
    many.container.close()
    assert set(many.pins().values()) == {0}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HostlerError(Code.RESOURCE_EXHAUSTED, "budget", retry_after_s=1), 507),
        (HostlerError(Code.MODEL_ERROR, "weights"), 500),
        (HostlerError(Code.INVALID_ARGUMENT, "what is it"), 400),
        (RuntimeError("ours"), 500),
    ],
)
@pytest.mark.parametrize("where", ["read", "warm"])
async def test_a_load_that_fails(many: Case, where: str, error: Exception, status: int) -> None:
    await many.open()
    if where == "read":
        many.unreadable = error
    else:
        many.hosting.refusals["container/models/h0"] = error
    assert (await many.load("h0")).status == status
    assert many.hosting.lives == {}
    assert json.loads((await many.ask("GET", "/models")).body) == {"models": []}
    many.unreadable = None
    many.hosting.refusals.clear()
    assert (await many.load("h0")).status == 200


async def test_a_model_that_is_being_loaded(many: Case) -> None:
    await many.open()
    many.hosting.gate = asyncio.Event()
    first = asyncio.ensure_future(many.load("h0"))
    await many.hosting.warming.wait()
    assert (await many.load("h0")).status == 409
    assert (await many.ask("DELETE", "/models/h0")).status == 404
    assert (await many.ask("POST", "/models/h0/invoke")).status == 404
    many.hosting.gate.set()
    assert (await first).status == 200


async def test_pages(many: Case) -> None:
    await many.open()
    for name in ("h2", "h0", "h1"):
        await many.load(name)

    async def page(query: str) -> tuple[list[str], str | None]:
        found = json.loads((await many.ask("GET", f"/models?{query}")).body)
        return [row["modelName"] for row in found["models"]], found.get("nextPageToken")

    assert await page("limit=2") == (["h0", "h1"], "h1")
    assert await page("limit=2&next_page_token=h1") == (["h2"], None)
    assert await page("limit=3") == (["h0", "h1", "h2"], None)
    assert await page("next_page_token=%68%31") == (["h2"], None)
    assert await page("next_page_token=zzz") == ([], None)
    for limit in ("0", "-1", "x", "1e3", "999999", "%D9%A1"):
        assert (await many.ask("GET", f"/models?limit={limit}")).status == 400


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("{root}", 400),
        ("{root}/", 400),
        ("{root}/h0/..", 400),
        ("{root}/../model", 400),
        ("/", 400),
        ("/dev/null", 400),
        ("/proc/1/root", 400),
        ("file:///etc", 400),
        ("s3://bucket/x", 400),
        ("\0", 400),
        ("", 400),
        ("{root}/" + "y" * 5000, 400),
        ("{root}/" + "y" * 300, 400),
        ("{root}/h9/model", 404),
        ("{root}/h0/model", 200),
        ("file://{root}/h0/model/", 200),
    ],
)
async def test_urls(many: Case, url: str, status: int) -> None:
    await many.open()
    answered = await many.load("m", url.replace("{root}", str(many.root / "models")))
    assert answered.status == status, answered.body
    assert len(many.reading) == (status == 200)


async def test_links_out_of_the_folder(many: Case) -> None:
    await many.open()
    (many.root / "models" / "out").symlink_to(many.root / "model")
    (many.root / "models" / "loop").symlink_to(many.root / "models" / "loop")
    for name in ("out", "loop"):
        assert (await many.load("m", str(many.root / "models" / name))).status == 400


async def test_names_and_documents(many: Case) -> None:
    await many.open()
    for name in ("", ".", "..", "a/b", "a b", "é", "x" * 257):
        assert (await many.load(name, str(many.root / "models" / "h0"))).status == 400
    for body in (b"", b"[]", b"{", b'{"url": "/"}', b'{"model_name": "m", "url": 1}', b"\xff"):
        assert (await many.ask("POST", "/models", body)).status == 400
    assert (await many.ask("POST", "/models", b" " * 70_000)).status == 413
    assert many.reading == []
