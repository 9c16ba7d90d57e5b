"""HTTP with keys: every route refuses strangers, and lets in who may."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest
from fakes.gateway import Answered, FakeClock, FakeServing, ask
from fakes.keys import ALICE, BOB, READER, SECRETS, document
from fakes.signing import signed

from hostler.gateway import Access, Config, HttpGateway
from hostler.gateway.access import HTTP, OPEN, SERVER, parse_keys
from hostler.gateway.access.rights import ACTIONS
from hostler.gateway.http.routes import match

INFER = b'{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]}'
WARM = "/v2/models/warm"

# Method, path, body, and who may: alice only asks `warm`, reader only reads, bob does it all.
ROUTES = [
    ("GET", "/v2", b"", "reader"),
    ("GET", "/v2/models/stats", b"", "reader"),
    ("POST", "/v2/repository/index", b"", "reader"),
    ("GET", "/v2/hostler/models", b"", "reader"),
    ("GET", "/v2/logging", b"", "reader"),
    ("POST", "/v2/logging", b"{}", "bob"),
    ("GET", "/v2/trace/setting", b"", "reader"),
    ("POST", "/v2/trace/setting", b"{}", "bob"),
    ("GET", "/metrics", b"", "reader"),
    ("GET", WARM, b"", "reader"),
    ("GET", f"{WARM}/versions/1", b"", "reader"),
    ("GET", f"{WARM}/ready", b"", "reader"),
    ("GET", f"{WARM}/config", b"", "reader"),
    ("GET", f"{WARM}/stats", b"", "reader"),
    ("GET", f"{WARM}/trace/setting", b"", "reader"),
    ("POST", f"{WARM}/trace/setting", b"{}", "bob"),
    ("POST", f"{WARM}/infer", INFER, "alice"),
    ("POST", f"{WARM}/versions/1/infer", INFER, "alice"),
    ("POST", f"{WARM}/infer_stream", INFER, "alice"),
    ("POST", f"{WARM}/generate", b'{"X": [1, 2]}', "alice"),
    ("POST", f"{WARM}/generate_stream", b'{"X": [1, 2]}', "alice"),
    ("POST", "/v2/models/cold/infer", INFER, "bob"),
    ("POST", "/v2/models/absent/infer", INFER, "bob"),
    ("POST", "/v2/models/warm/versions/x/infer", INFER, "alice"),
    ("POST", "/v2/repository/models/m/load", b"", "bob"),
    ("POST", "/v2/repository/zoo/models/m/unload", b"", "bob"),
    ("GET", "/v2/systemsharedmemory/status", b"", "reader"),
    ("GET", "/v2/systemsharedmemory/region/r/status", b"", "reader"),
    ("POST", "/v2/systemsharedmemory/region/r/register", b"{}", "bob"),
    ("POST", "/v2/systemsharedmemory/unregister", b"", "bob"),
    ("GET", "/v2/cudasharedmemory/status", b"", "reader"),
    ("POST", "/v2/cudasharedmemory/region/r/register", b"", "bob"),
    ("POST", "/v2/cudasharedmemory/unregister", b"", "bob"),
]
TOKENS = {"alice": ALICE, "bob": BOB, "reader": READER}
KEYS = {"alice": "AKALICE", "bob": "AKBOB"}


class Case:
    """A gateway that asks who it is; its audit log is `noted`."""

    def __init__(self, given: Any = None, **settings: Any) -> None:
        self.serving = FakeServing()
        self.clock = FakeClock()
        config = Config(keys_file="keys.yaml", audit_file="audit", **settings)
        self.gateway = HttpGateway(config, self.serving, clock=self.clock)
        self.access = Access(config, lambda content, name: None, self.clock)
        self.access.adopt(parse_keys(document() if given is None else given))
        self.gateway.admit(self.access)
        self.application = self.gateway.application

    async def ask(
        self, method: str, path: str, body: Any = b"", headers: Any = None, **scope: Any
    ) -> Answered:
        scope = {"client": ("192.0.2.7", 1234), **scope}
        return await ask(self.application, method, path, body, headers, **scope)

    def signed(self, method: str, path: str, body: bytes, who: str = "bob") -> dict[bytes, bytes]:
        key = (KEYS[who], SECRETS[KEYS[who]])
        return signed(method, path, body, key=key, wall=self.clock.wall())

    def noted(self) -> list[dict[str, str]]:
        audit = self.access._audit
        assert audit is not None
        lines = []
        while not audit._queue.empty():
            item = audit._queue.get()
            assert item is not None
            lines.append(dict(item[1]))
        return lines


@pytest.fixture
def case() -> Case:
    return Case()


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token.encode()}


EACH = pytest.mark.parametrize(
    ("method", "path", "body", "who"),
    [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in ROUTES],
)


def test_every_action_has_its_right() -> None:
    application = Case().application
    served = {
        *application._without_body,
        *application._with_body,
        *application._in_full,
        "infer",
        "none",
    }
    assert served <= set(HTTP)


def test_these_are_all_routes_of_v2() -> None:
    known = {match(path.encode()) for _, path, _, _ in ROUTES}
    actions = {route.action for route in known if route is not None}
    ours = {name for name, right in HTTP.items() if right is not OPEN}
    foreign = {n for n in ours if n.startswith(("container_", "invoke", "aws", "endpoints"))}
    assert actions == ours - foreign


@EACH
async def test_strangers_are_refused(
    case: Case, method: str, path: str, body: bytes, who: str
) -> None:
    for headers in ({}, bearer("wrong"), {b"x-api-key": b"wrong"}, {b"authorization": b"?"}):
        answered = await case.ask(method, path, body, headers)
        assert answered.status == 401
        assert json.loads(answered.body)["error"]
        assert answered.headers[b"www-authenticate"] == b'Bearer realm="hostler"'
    assert not case.serving.calls
    assert not case.serving.contexts
    assert not case.serving.warm.requests
    noted = case.noted()
    assert [line["outcome"] for line in noted] == ["refused"] * 4
    for line in noted:
        assert line["action"] in ACTIONS
        assert line["resource"] == SERVER or line["resource"].startswith("model/")
    assert case.access.refusals == 4


@EACH
async def test_who_may_is_let_in_and_others_are_not(
    case: Case, method: str, path: str, body: bytes, who: str
) -> None:
    for other, token in TOKENS.items():
        case.noted()
        answered = await case.ask(method, path, body, bearer(token))
        assert (answered.status not in (401, 403)) is (other in (who, "bob")), (other, who)
        if answered.status == 403:
            (line,) = case.noted()
            assert (line["outcome"], line["principal"]) == ("refused", other)
            assert f"User: {other} is not authorized" in json.loads(answered.body)["error"]
    assert (case.serving.warm.pins, case.application.v2.bodies.held_bytes) == (0, 0)


@EACH
async def test_signatures_are_as_good_as_tokens(
    case: Case, method: str, path: str, body: bytes, who: str
) -> None:
    headers = case.signed(method, path, body)
    by_token = await Case().ask(method, path, body, bearer(BOB))
    by_key = await case.ask(method, path, body, headers)
    assert by_key.status == by_token.status
    if method == "POST":
        tampered = await case.ask(method, path, body + b" ", headers)
        assert tampered.status == 401
    assert case.application.v2.bodies.held_bytes == 0


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
async def test_probes_need_no_key(case: Case, path: str) -> None:
    assert (await case.ask("GET", path)).status == 200
    assert case.noted() == []


async def test_what_is_no_route_needs_no_key(case: Case) -> None:
    assert (await case.ask("GET", "/nowhere")).status == 404


async def test_models_that_one_may_not_ask_cannot_be_told_from_absent_ones(case: Case) -> None:
    answers = [
        await case.ask("POST", f"/v2/models/{name}/infer", INFER, bearer(ALICE))
        for name in ("cold", "absent")
    ]
    assert [answered.status for answered in answers] == [403, 403]
    first, second = (answered.body.replace(b"absent", b"cold") for answered in answers)
    assert first == second


@pytest.mark.parametrize(
    ("path", "body"),
    [("infer", INFER), ("infer_stream", INFER), ("generate", b'{"X": [1, 2]}')],
)
async def test_the_principal_goes_with_the_request(case: Case, path: str, body: bytes) -> None:
    await case.ask("POST", f"{WARM}/{path}", body, bearer(ALICE))
    await case.ask("POST", f"{WARM}/{path}", body, case.signed("POST", f"{WARM}/{path}", body))
    asked = [request.context.principal for request in case.serving.warm.requests]
    assert asked == ["alice", "bob"]


async def test_without_keys_nobody_is_known() -> None:
    serving = FakeServing()
    gateway = HttpGateway(Config(), serving, clock=FakeClock())
    answered = await ask(gateway.application, "POST", f"{WARM}/infer", INFER)
    assert answered.status == 200
    assert serving.warm.requests[0].context.principal is None


async def test_a_signed_body_in_pieces(case: Case) -> None:
    headers = case.signed("POST", f"{WARM}/infer", INFER)
    answered = await case.ask("POST", f"{WARM}/infer", [INFER[:9], INFER[9:], b""], headers)
    assert answered.status == 200
    answered = await case.ask("POST", f"{WARM}/infer", [INFER[:9], INFER[10:]], headers)
    assert answered.status == 401
    assert case.application.v2.bodies.held_bytes == 0


async def test_a_signed_body_in_tiny_pieces_takes_its_own_size_only(case: Case) -> None:
    body = bytes(50_000)
    pieces = [body[i : i + 1] for i in range(len(body))]
    headers = case.signed("POST", f"{WARM}/infer", body)
    tracemalloc.start()
    try:
        assert (await case.ask("POST", f"{WARM}/infer", pieces, headers)).status == 400
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("path", "action", "resource"),
    [
        (f"{WARM}/infer", "hostler:Infer", "model/warm"),
        ("/v2/repository/models/m/load", "hostler:ManageModel", "model/m"),
        ("/v2/logging", "hostler:ManageServer", "server"),
        (
            "/endpoints/Churn/invocations",
            "sagemaker:InvokeEndpoint",
            "arn:aws:sagemaker:*:*:endpoint/churn",
        ),
        ("/", "sagemaker:*", "*"),
    ],
)
async def test_refusals_of_strangers_say_what_they_wanted(
    case: Case, path: str, action: str, resource: str
) -> None:
    await case.ask("POST", path)
    (line,) = case.noted()
    assert (line["action"], line["resource"]) == (action, resource)


async def test_what_nobody_can_have_signed_is_not_read(case: Case) -> None:
    wall = case.clock.wall()
    headers = signed("POST", f"{WARM}/infer", INFER, key=("AKNOBODY", "x" * 16), wall=wall)
    pieces: list[bytes] = []
    answered = await case.ask("POST", f"{WARM}/infer", pieces, headers)
    assert answered.status == 401  # and not 0: a client that left while it was read
    assert case.noted()[0]["key"] == "AKNOBODY"


@pytest.mark.parametrize(
    "headers", [{b"content-length": b"5000"}, {}], ids=["announced", "chunked"]
)
async def test_signed_bodies_are_bounded(headers: dict[bytes, bytes]) -> None:
    case = Case(body_bytes_max=1024)
    sent = {**case.signed("POST", f"{WARM}/infer", b" " * 5000), **headers}
    answered = await case.ask("POST", f"{WARM}/infer", [b" " * 1000, b" " * 4000], sent)
    assert answered.status == 413
    assert case.application.v2.bodies.held_bytes == 0


async def test_a_client_that_leaves_while_it_sends_what_it_signed(case: Case) -> None:
    headers = case.signed("POST", f"{WARM}/infer", INFER)
    answered = await case.ask("POST", f"{WARM}/infer", [INFER[:9], None], headers)
    assert answered.status == 0
    assert case.application.v2.bodies.held_bytes == 0


class Lines:
    """Headers of which some come twice, as `fakes.gateway.ask` takes headers."""

    def __init__(self, lines: list[tuple[bytes, bytes]]) -> None:
        self.lines = lines

    def items(self) -> list[tuple[bytes, bytes]]:
        return self.lines


async def test_headers_that_come_twice_are_joined_as_the_signature_has_them(case: Case) -> None:
    path = f"{WARM}/infer"
    key = ("AKBOB", SECRETS["AKBOB"])
    headers = signed(
        "POST", path, INFER, key=key, wall=case.clock.wall(), headers={"X-Note": "a,b"}
    )
    del headers[b"x-note"]
    twice = Lines([*headers.items(), (b"x-note", b"a"), (b"x-note", b"b")])
    assert (await case.ask("POST", path, INFER, twice)).status == 200
    forged = Lines([*twice.lines, (b"x-note", b"c")])
    assert (await case.ask("POST", path, INFER, forged)).status == 401


async def test_too_many_requests() -> None:
    case = Case(document(rate={"requests_per_s": 0.5, "burst": 1}))
    assert (await case.ask("POST", f"{WARM}/infer", INFER, bearer(ALICE))).status == 200
    answered = await case.ask("POST", f"{WARM}/infer", INFER, bearer(ALICE))
    assert (answered.status, answered.headers[b"retry-after"]) == (429, b"2")
    assert "Rate exceeded: key 'AKALICE'" in json.loads(answered.body)["error"]


class Connection:
    """What the edge has at hand of a TLS client."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection = self.transport = self
        self.gone = False
        self.context = None

    def get_extra_info(self, what: str) -> Any:
        assert what == "peercert"
        return {"subject": ((("organizationName", "x"),), (("commonName", self.name),))}


async def test_certificates_are_keys_too(case: Case) -> None:
    exchange = {"scheme": "https", "hostler.exchange": Connection("reader.example")}
    assert (await case.ask("GET", "/v2", **exchange)).status == 200
    exchange = {"scheme": "https", "hostler.exchange": Connection("stranger.example")}
    assert (await case.ask("GET", "/v2", **exchange)).status == 401
    exchange = {"scheme": "http", "hostler.exchange": Connection("reader.example")}
    assert (await case.ask("GET", "/v2", **exchange)).status == 401


async def test_changes_are_written_down(case: Case) -> None:
    sent = {**bearer(BOB), b"x-request-id": b"r-1"}
    await case.ask("POST", "/v2/repository/models/m/load", b"", sent)
    await case.ask("POST", f"{WARM}/infer", INFER, sent)
    await case.ask("GET", "/v2/logging", b"", sent)
    await case.ask("POST", "/v2/logging", b'{"no_such": 1}', sent)
    done, failed = case.noted()
    assert done == {
        "outcome": "done",
        "principal": "bob",
        "key": "AKBOB",
        "action": "hostler:ManageModel",
        "resource": "model/m",
        "remote": "192.0.2.7:1234",
        "request_id": "r-1",
    }
    assert (failed["outcome"], failed["action"]) == ("failed", "hostler:ManageServer")
    assert "no_such" in failed["reason"]


async def test_invocations_are_written_down_where_that_is_wanted() -> None:
    case = Case(audit_invocations=True)
    await case.ask("POST", f"{WARM}/infer", INFER, bearer(ALICE))
    await case.ask("GET", "/v2/health/live")
    (line,) = case.noted()
    assert (line["outcome"], line["action"], line["resource"]) == (
        "done",
        "hostler:Infer",
        "model/warm",
    )


async def test_no_secret_is_written_down(case: Case) -> None:
    body = b'{"inputs": "in the body"}'
    path = f"{WARM}/infer"
    await case.ask("POST", path, body, bearer("a-wrong-token"))
    await case.ask("POST", path, body + b"x", case.signed("POST", path, body, "alice"))
    await case.ask("POST", path, body, case.signed("POST", path, body, "alice"))
    text = json.dumps(case.noted())
    for secret in ("a-wrong-token", "in the body", "Signature=", *SECRETS.values()):
        assert secret not in text


async def test_a_cancelled_change_is_written_down(case: Case) -> None:
    begun = asyncio.Event()

    async def load(name: str, override: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    case.serving.load = load  # type: ignore[method-assign]
    asking = asyncio.ensure_future(
        case.ask("POST", "/v2/repository/models/m/load", b"", bearer(BOB))
    )
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    (line,) = case.noted()
    assert (line["outcome"], line["reason"]) == ("failed", "CancelledError")
