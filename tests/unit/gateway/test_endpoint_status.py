"""What operators see of endpoints, without a socket; and the ids of answers on AWS's wires."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.archives import FakeArchives, endpoint_plan, fleet, package, target_plan
from fakes.clock import virtual
from fakes.gateway import Answered, FakeServing, ask
from fakes.serving import World

from hostler.control.ports import Known
from hostler.core import Code, HostlerError
from hostler.gateway import BodyLimit, Config, HttpGateway
from hostler.gateway.access.rights import HTTP, READ_SERVER
from hostler.gateway.http.routes import match
from hostler.protocols.sagemaker import Arns
from hostler.serving import (
    CapturePlan,
    Outcome,
    ShadowPlan,
    StagePlan,
    Variant,
    VariantPlan,
    compare,
)

OURS = "/v2/hostler/endpoints"
V = "endpoint/e/1/blue/0"


@dataclass
class Seen:
    progress: str = "fetching"
    instances: Mapping[tuple[int, str], int] = field(default_factory=lambda: {(1, "blue"): 3})


class FakeControl:
    def __init__(self) -> None:
        self.resuming = False
        self.problem = ""
        self.known: dict[str, Known] = {}

    def endpoints(self) -> Mapping[str, Known]:
        return self.known

    def observe(self, endpoint: str) -> Seen:
        return Seen()

    async def call(self, target: str, body: bytes, allow: Any) -> Any:
        return 200, [(b"content-type", b"application/x-amz-json-1.1")], b"{}"


@dataclass
class Lines:
    written: int = 7
    dropped: int = 2
    waiting_bytes: int = 99

    def put(self, url_prefix: str, record: bytes) -> bool:
        return True


class Case:
    """A gateway over the endpoints of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.endpoints = world.serving.endpoints
        self.control = FakeControl()
        self.gateway = HttpGateway(Config(), FakeServing(), clock=world.clock)
        self.gateway.mount_endpoints(
            self.endpoints,
            self.control,
            BodyLimit(4096, "x"),
            Arns("us-east-1", "000000000000"),
            Lines(),
            lambda: 4242,
        )

    async def ask(self, method: str, path: str, *args: Any) -> Answered:
        return await ask(self.gateway.application, method, path, *args)

    async def get(self, path: str) -> Any:
        answered = await self.ask("GET", path)
        assert answered.status == 200, answered.body
        return json.loads(answered.body)

    def blue(self) -> Variant:
        endpoint = self.endpoints.find("e")
        assert endpoint is not None
        return endpoint.variants[1, "blue"]


def done(variant: Variant, seconds: float, error: HostlerError | None = None) -> None:
    variant.begin()
    variant.end(seconds, error)


@virtual
async def test_nothing_yet() -> None:
    document = await Case(World()).get(OURS)
    assert document["endpoints"] == []
    assert document["totals"] == {
        "captured": 7,
        "capture_dropped": 2,
        "capture_waiting_bytes": 99,
        "copies_left_out": 0,
        "archives_bytes": 4242,
    }


@virtual
async def test_an_endpoint() -> None:
    case = Case(World())
    plan = endpoint_plan(fleet(1, 1.0, blue=3, green=1), capture=CapturePlan("s3://b/c", 25.0))
    case.endpoints.apply(plan)
    done(case.blue(), 0.004)
    done(case.blue(), 0.2, HostlerError(Code.MODEL_ERROR, "so", details={"status": 500}))
    case.blue().begin()
    document = await case.get(f"{OURS}/e")
    assert document["name"] == "e"
    assert document["progress"] == "fetching"
    assert document["capture"] == {"url": "s3://b/c", "percentage": 25.0}
    blue, green = document["variants"]
    assert (blue["name"], blue["share"], blue["instances"], blue["in_flight"]) == (
        "blue", 0.75, 3, 1,
    )  # fmt: skip
    assert (green["name"], green["share"], green["instances"]) == ("green", 0.25, None)
    minute = blue["last_minute"]
    assert (minute["invocations"], minute["errors_5xx"], minute["model_errors"]) == (2, 1, 1)
    assert 0.0025 <= minute["p50_s"] <= 0.005
    assert 0.1 <= minute["p99_s"] <= 0.25
    case.world.clock.advance(120.0)
    blue = (await case.get(OURS))["endpoints"][0]["variants"][0]
    assert (blue["last_minute"]["invocations"], blue["total"]["invocations"]) == (0, 2)


@virtual
async def test_shadows_and_what_was_compared() -> None:
    case = Case(World())
    shadow = VariantPlan("s", (StagePlan(model="endpoint/e/1/s/0"),))
    case.endpoints.apply(endpoint_plan(fleet(1, 1.0, blue=1), shadows=(ShadowPlan(shadow, 0.5),)))
    endpoint = case.endpoints.find("e")
    assert endpoint is not None
    [found] = endpoint.shadows
    found.record(compare(Outcome(0.1, b"1,2", "text/csv"), Outcome(0.2, b"1,3", "text/csv")))
    document = await case.get(f"{OURS}/e")
    assert [v["shadow"] for v in document["variants"]] == [False, True]
    [summary] = document["shadows"]
    assert (summary["variant"], summary["compared"], summary["equal"]) == ("s", 1, 0)
    scraped = (await case.ask("GET", "/metrics")).body.decode()
    labels = '{endpoint="e",variant="s",generation="1"}'
    assert f"hostler_shadow_compared_total{labels} 1\n" in scraped
    assert f"hostler_shadow_equal_total{labels} 0\n" in scraped
    assert f"hostler_shadow_rows_agreed_total{labels} 1\n" in scraped
    assert f"hostler_endpoint_variant_share{labels}" not in scraped


@virtual
async def test_metrics() -> None:
    async with World() as world:
        case = Case(world)
        await world.serving.host([package(V)])
        case.endpoints.apply(endpoint_plan(fleet(1, 1.0, blue=1)))
        done(case.blue(), 0.004)
        done(case.blue(), 0.004, HostlerError(Code.INVALID_ARGUMENT, "so"))
        scraped = (await case.ask("GET", "/metrics")).body.decode()
        of = 'endpoint="e",variant="blue",generation="1"'
        name = "hostler_endpoint_invocations_total"
        assert f'{name}{{{of},outcome="success"}} 1\n' in scraped
        assert f'{name}{{{of},outcome="client_error"}} 1\n' in scraped
        assert f"hostler_endpoint_latency_seconds_count{{{of}}} 2\n" in scraped
        assert "hostler_archive_cache_bytes 4242\n" in scraped
        assert "hostler_capture_records_written_total 7\n" in scraped
        case.endpoints.remove("e")


@virtual
async def test_target_models() -> None:
    async with World() as world:
        case = Case(world)
        store = FakeArchives()
        case.endpoints.apply(target_plan(store))
        document = await case.get(f"{OURS}/e")
        [target] = document["variants"][0]["targets"]
        assert (target["known"], target["loaded"], target["cold"]) == (0, 0, 0)
        scraped = (await case.ask("GET", "/metrics")).body.decode()
        assert 'hostler_target_requests_total{endpoint="e",variant="v",generation="1"' in scraped
        case.endpoints.remove("e")


@virtual
async def test_an_endpoint_that_is_not_there() -> None:
    answered = await Case(World()).ask("GET", f"{OURS}/e%20f")
    assert answered.status == 404
    assert "no endpoint 'e f' is known" in json.loads(answered.body)["error"]


@virtual
async def test_those_that_do_not_serve_are_shown_too() -> None:
    case = Case(World())
    case.control.known = {
        "b": Known("arn:b", "Failed", "no such archive"),
        "a": Known("arn:a", "Creating", "", "fetching s3://b/a"),
        "e": Known("arn:e", "Updating"),
    }
    case.endpoints.apply(endpoint_plan(fleet(1, 1.0, blue=1)))
    shown = (await case.get(OURS))["endpoints"]
    told = [(s["name"], s["state"], s["failure_reason"], len(s["variants"])) for s in shown]
    assert told == [
        ("a", "Creating", "", 0),
        ("b", "Failed", "no such archive", 0),
        ("e", "Updating", "", 1),
    ]
    assert shown[0]["progress"] == "fetching s3://b/a"
    one = await case.get(f"{OURS}/b")
    assert (one["arn"], one["failure_reason"]) == ("arn:b", "no such archive")
    answered = await case.ask("POST", "/endpoints/b/invocations", b"[]")
    assert answered.status == 400
    said = json.loads(answered.body)["Message"]
    assert said.endswith("account 000000000000 not found. It is Failed: no such archive")


@virtual
async def test_why_endpoints_of_an_earlier_run_cannot_be_looked_at() -> None:
    case = Case(World())
    case.control.resuming, case.control.problem = True, "used by another server (process 7)"
    answered = await case.ask("POST", "/endpoints/e/invocations", b"[]")
    assert answered.status == 503
    assert "used by another server (process 7)" in json.loads(answered.body)["Message"]
    answered = await case.ask("GET", f"{OURS}/e")
    assert answered.status == 503
    assert "(process 7)" in json.loads(answered.body)["error"]
    assert "(process 7)" in (await case.get(OURS))["problem"]


def test_who_may_see_them() -> None:
    for path in (OURS, f"{OURS}/e"):
        route = match(path.encode())
        assert route is not None
        assert HTTP[route.action].without_model == READ_SERVER
        assert route.methods == ("GET", "HEAD")


@virtual
async def test_while_endpoints_of_an_earlier_run_are_looked_for() -> None:
    case = Case(World())
    path = "/endpoints/e/invocations"
    case.control.resuming = True
    answered = await case.ask("POST", path, b"[]")
    assert (answered.status, answered.headers[b"retry-after"]) == (503, b"1")
    assert answered.headers[b"x-amzn-errortype"] == b"ServiceUnavailable"
    case.control.resuming = False
    answered = await case.ask("POST", path, b"[]")
    assert (answered.status, answered.headers[b"x-amzn-errortype"]) == (400, b"ValidationError")


@virtual
async def test_every_answer_of_aws_wires_has_another_id() -> None:
    case = Case(World())
    refused = await case.ask("POST", "/endpoints/e/invocations", b"[]")
    wordless = await case.ask("POST", "/", b"{}")
    answered = await ask(
        case.gateway.application, "POST", "/", b"{}", {b"x-amz-target": b"SageMaker.X"}
    )
    ids = [found.headers[b"x-amzn-requestid"] for found in (refused, wordless, answered)]
    assert [found.status for found in (refused, wordless, answered)] == [400, 400, 200]
    assert len(set(ids)) == 3
    assert len({one[:24] for one in ids}) == 1
    assert all(len(one) == 36 for one in ids)
    assert b"x-amzn-requestid" not in (await case.ask("GET", "/v2")).headers


@pytest.mark.parametrize("path", [f"{OURS}/", f"{OURS}/e/f"])
def test_other_paths(path: str) -> None:
    route = match(path.encode())
    assert route is None or not route.segment
