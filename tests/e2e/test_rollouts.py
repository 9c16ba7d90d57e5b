"""Deployments of endpoints while clients ask all the time: what they see, and what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from fakes.aws import ACCOUNT, Aws, scale_archive, variant, wait_deleted
from fakes.invokers import Invokers, Reply, handler_archive, invoke, invoking, says
from fakes.server import ServerProcess, wait_for

CLIENTS = 6
ALARMED_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    state = tmp_path_factory.mktemp("state")
    flags = ["--state-dir", str(state), "--set", "control.alarm_interval_s=0.1"]
    with ServerProcess([], *flags, cwd=state) as running:
        yield running


@pytest.fixture(scope="module")
def aws(server: ServerProcess) -> Aws:
    return Aws(f"http://{server.url}")


@pytest.fixture(scope="module", autouse=True)
def models(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Models `old` and `new` that say so, and the ways in which a new one can be bad."""
    folder = tmp_path_factory.mktemp("archives")
    aws.create_model("old", says(folder / "old.tar.gz", "old", 0.003))
    aws.create_model("new", says(folder / "new.tar.gz", "new", 0.003))
    aws.create_model("slow", says(folder / "slow.tar.gz", "slow", 0.3))
    aws.create_model("raises", handler_archive(folder / "raises.tar.gz", "raise KeyError('bad')"))
    dies = handler_archive(folder / "dies.tar.gz", "os._exit(3)")
    aws.create_model("dies", dies)
    broken = "def model_fn(model_dir):\n    raise OSError('no weights')"
    aws.create_model("unloadable", handler_archive(folder / "u.tar.gz", "return b''", broken))
    garbage = folder / "garbage.tar.gz"
    garbage.write_bytes(b"this is no archive" * 100)
    aws.create_model("garbage", garbage)
    aws.create_model("two", scale_archive(folder / "two.tar.gz", 2.0, width=1))
    aws.create_model("three", scale_archive(folder / "three.tar.gz", 3.0, width=1))


def deploy(aws: Aws, name: str, model: str, to: str = "v") -> str:
    """An endpoint in service, of a configuration called `<name>-<model>`."""
    config(aws, name, model, to)
    aws.create_endpoint(name, f"{name}-{model}")
    aws.in_service(name)
    return name


def config(aws: Aws, name: str, model: str, to: str = "v", **more: Any) -> str:
    aws.create_config(f"{name}-{model}", variant(model, to, **more))
    return f"{name}-{model}"


def blue_green(kind: str, *alarms: str, wait_s: int = 0, last_s: int = 0, **size: Any) -> Any:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait_s, **size}
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": last_s}
    found: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": text} for text in alarms]}
    return found


def percent(number: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": number}


def settled(aws: Aws, name: str) -> dict[str, Any]:
    """DescribeEndpoint once nothing goes on any more."""

    def look() -> dict[str, Any] | None:
        found = aws.sagemaker.describe_endpoint(EndpointName=name)
        return dict(found) if found["EndpointStatus"] in ("InService", "Failed") else None

    found = wait_for(look, ALARMED_S, f"endpoint {name} to settle", poll_s=0.1)
    assert found is not None
    return found


def stages(server: ServerProcess, endpoint: str) -> list[tuple[str, float | None]]:
    return [(e["to"], e["share"]) for e in server.events("endpoint.stage", endpoint=endpoint)]


def drained(server: ServerProcess, prefix: str) -> None:
    """Until no model of this name's generation is hosted any more."""
    wait_for(
        lambda: f'"{prefix}'.encode() not in server.get("/v2/hostler/models")[2],
        20,
        f"{prefix} to be gone",
    )


# -- a good new version ------------------------------------------------------------------------


def test_all_at_once_without_a_dropped_request(server: ServerProcess, aws: Aws) -> None:
    deploy(aws, "switch", "old")
    new = config(aws, "switch", "new")
    with invoking(server, "switch", CLIENTS) as crowd:
        crowd.wait_more(50)
        aws.sagemaker.update_endpoint(EndpointName="switch", EndpointConfigName=new)
        found = settled(aws, "switch")
        crowd.wait_more(50)
    assert crowd.failures == []
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", new)
    assert "FailureReason" not in found
    replies = sorted(crowd.replies, key=lambda reply: reply.sent)
    assert {reply.said for reply in replies} == {"old", "new"}
    first_new = min(reply.received for reply in replies if reply.said == "new")
    late = [reply for reply in replies if reply.sent > first_new and reply.said == "old"]
    assert late == [], "the old fleet was asked after the new one had all the traffic"
    drained(server, "endpoint/switch/1/")


STREAM = """
def pieces():
    yield "begins;"
    while not os.path.exists({!r}):
        time.sleep(0.01)
    yield "ends"
return pieces(), "text/plain"
"""


def test_a_stream_outlives_its_fleet(server: ServerProcess, aws: Aws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = STREAM.format(str(gate))
    aws.create_model("stream", handler_archive(tmp_path / "stream.tar.gz", script))
    deploy(aws, "stream", "stream")
    answer = aws.runtime.invoke_endpoint_with_response_stream(
        EndpointName="stream", Body=b"1", ContentType="text/csv"
    )
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"begins;"
    new = config(aws, "stream", "new")
    aws.sagemaker.update_endpoint(EndpointName="stream", EndpointConfigName=new)
    assert settled(aws, "stream")["EndpointConfigName"] == new
    assert ask(aws, "stream") == "new"
    server.wait_event("endpoint.stopping", endpoint="stream")
    gate.touch()
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b"ends"]
    drained(server, "endpoint/stream/1/")


def test_linear_goes_through_all_its_steps(server: ServerProcess, aws: Aws) -> None:
    deploy(aws, "steps", "two")
    new = config(aws, "steps", "three")
    deployment = blue_green(
        "LINEAR", "error_rate > 1% min 1", wait_s=1, last_s=1, LinearStepSize=percent(40)
    )
    with invoking(server, "steps") as crowd:
        crowd.add(CLIENTS, pause_s=0.01)
        crowd.wait_more(20)
        aws.sagemaker.update_endpoint(
            EndpointName="steps", EndpointConfigName=new, DeploymentConfig=deployment
        )
        pending = wait_for(
            lambda: aws.sagemaker.describe_endpoint(EndpointName="steps").get(
                "PendingDeploymentSummary"
            ),
            10,
            "a deployment to be seen",
        )
        found = settled(aws, "steps")
        crowd.wait_more(20)
    assert crowd.failures == [], crowd.told()
    assert pending["EndpointConfigName"] == new
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", new)
    assert found["LastDeploymentConfig"] == deployment
    assert set(crowd.told()) == {"200  2.0\n", "200  3.0\n"}
    assert stages(server, "steps")[1:] == [
        ("shifting", 0.4),
        ("shifting", 0.8),
        ("baking", 1.0),
        ("in_service", None),
    ]
    for share, replies in parts(server, "steps", crowd).items():
        part = sum(reply.said == "3.0\n" for reply in replies) / len(replies)
        assert len(replies) > 50
        assert abs(part - share) < 0.05, f"{part:.2f} of {len(replies)} instead of {share}"


def parts(server: ServerProcess, endpoint: str, crowd: Invokers) -> dict[float, list[Reply]]:
    """Replies to what was sent while the new fleet had each share."""
    ahead = time.time() - time.monotonic()
    events = server.events("endpoint.stage", endpoint=endpoint)
    times = [datetime.fromisoformat(event["ts"]).timestamp() - ahead for event in events]
    found = {}
    for event, begins, ends in zip(events, times, times[1:], strict=False):
        if event["to"] in ("shifting", "baking"):
            found[event["share"]] = [
                r for r in crowd.replies if begins + 0.1 < r.sent and r.received < ends - 0.1
            ]
    return found


# -- a bad new version -------------------------------------------------------------------------


def rolled_back(
    server: ServerProcess, aws: Aws, name: str, bad: str, deployment: dict[str, Any]
) -> tuple[Invokers, dict[str, Any]]:
    """An update from `old` to a bad model under load.

    Half of the clients name the old fleet's variant, so that they only ever hit that fleet.
    """
    deploy(aws, name, "old", "first")
    new = config(aws, name, bad, "second")
    with invoking(server, name, CLIENTS) as crowd:
        crowd.add(CLIENTS, to="first")
        crowd.wait_more(50)
        aws.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=new, DeploymentConfig=deployment
        )
        found = settled(aws, name)
        failed = len(crowd.failures)
        crowd.wait_more(100)
    assert len(crowd.failures) - failed <= CLIENTS, "it went on after the roll-back"
    check_old(aws, name, found, crowd)
    drained(server, f"endpoint/{name}/2/")
    return crowd, found


def check_old(aws: Aws, name: str, found: dict[str, Any], crowd: Invokers) -> None:
    """The old configuration serves, its clients have noticed nothing, and it says why."""
    assert found["EndpointStatus"] == "InService"
    assert found["EndpointConfigName"] == f"{name}-old"
    assert [v["VariantName"] for v in found["ProductionVariants"]] == ["first"]
    assert "PendingDeploymentSummary" not in found
    assert found["FailureReason"]
    own = [reply for reply in crowd.replies if reply.to == "first"]
    assert len(own) > 50
    assert {(reply.status, reply.said) for reply in own} == {(200, "old")}
    assert ask(aws, name) == "old"


def ask(aws: Aws, name: str) -> str:
    answer = aws.runtime.invoke_endpoint(EndpointName=name, Body=b"1", ContentType="text/csv")
    return str(answer["Body"].read().decode())


CANARY = {"CanarySize": percent(10), "wait_s": 600}


def test_a_canary_that_fails_is_taken_back(server: ServerProcess, aws: Aws) -> None:
    alarm = "model_error_rate > 20% for 30s min 30"
    crowd, found = rolled_back(
        server, aws, "errors", "raises", blue_green("CANARY", alarm, **CANARY)
    )
    assert found["FailureReason"].startswith(
        f"rolled back from endpoint config 'errors-raises': alarm '{alarm}': variant 'second' had "
        "model_error_rate 100.0% in "
    )
    failures = crowd.failures
    assert {(reply.status, reply.kind, reply.to) for reply in failures} == {(424, "ModelError", "")}
    assert all("KeyError: 'bad'" in reply.said for reply in failures), crowd.told()
    assert len(failures) >= 30
    check_share(crowd)
    assert [to for to, _ in stages(server, "errors")] == [
        "in_service",
        "shifting",
        "rolling_back",
        "in_service",
    ]


def test_a_canary_whose_process_dies_is_taken_back(server: ServerProcess, aws: Aws) -> None:
    """Without any alarm: that instances live is always watched."""
    crowd, found = rolled_back(server, aws, "deaths", "dies", blue_green("CANARY", **CANARY))
    assert found["FailureReason"].startswith(
        "rolled back from endpoint config 'deaths-dies': the instances of variant 'second' are "
        "unhealthy"
    )
    told = {(reply.status, reply.kind, reply.to) for reply in crowd.failures}
    assert (424, "ModelError", "") in told
    assert told <= {(424, "ModelError", ""), (503, "ServiceUnavailable", "")}
    check_share(crowd)


def check_share(crowd: Invokers) -> None:
    """Of what was sent to whichever fleet, from first failure to last, every tenth failed."""
    failures = crowd.failures
    began, ended = min(r.sent for r in failures), max(r.received for r in failures)
    sent = [r for r in crowd.replies if not r.to and began <= r.sent and r.received <= ended]
    assert len(failures) <= 0.1 * len(sent) + CLIENTS, f"{len(failures)} of {len(sent)}"


def test_a_slow_canary_is_taken_back(server: ServerProcess, aws: Aws) -> None:
    alarm = "p50_latency > 150ms for 10s min 3"
    deployment = blue_green("CANARY", alarm, **CANARY)
    crowd, found = rolled_back(server, aws, "latency", "slow", deployment)
    assert f"alarm '{alarm}': variant 'second' had p50_latency" in found["FailureReason"]
    assert crowd.failures == [], "slow is no failure"
    assert {reply.said for reply in crowd.replies} == {"old", "slow"}


def test_a_bad_version_with_all_the_traffic_is_taken_back(server: ServerProcess, aws: Aws) -> None:
    """ALL_AT_ONCE: it is watched while the old fleet is still there."""
    deploy(aws, "bake", "old")
    new = config(aws, "bake", "raises")
    deployment = blue_green("ALL_AT_ONCE", "model_errors > 20 for 10s", last_s=600)
    with invoking(server, "bake", CLIENTS) as crowd:
        crowd.wait_more(50)
        aws.sagemaker.update_endpoint(
            EndpointName="bake", EndpointConfigName=new, DeploymentConfig=deployment
        )
        found = settled(aws, "bake")
        place = len(crowd.replies) + CLIENTS
        crowd.wait_more(50)
    assert found["EndpointConfigName"] == "bake-old"
    assert "variant 'v' had model_errors" in found["FailureReason"]
    assert {reply.status for reply in crowd.failures} == {424}
    assert {reply.said for reply in crowd.replies[place:]} == {"old"}
    assert [to for to, _ in stages(server, "bake")][1:] == [
        "baking",
        "rolling_back",
        "in_service",
    ]


@pytest.mark.parametrize(
    ("bad", "why"), [("unloadable", "OSError: no weights"), ("garbage", "garbage.tar.gz")]
)
def test_a_version_that_does_not_come_up_takes_no_traffic(
    server: ServerProcess, aws: Aws, bad: str, why: str
) -> None:
    name = f"never-{bad}"
    crowd, found = rolled_back(server, aws, name, bad, blue_green("ALL_AT_ONCE"))
    assert (
        f"the new fleet (endpoint config '{name}-{bad}') did not come up"
        in (found["FailureReason"])
    )
    assert why in found["FailureReason"]
    assert {reply.said for reply in crowd.replies} == {"old"}
    assert [to for to, _ in stages(server, name)][1:] == ["rolling_back", "in_service"]


# -- weights, capacities, the end --------------------------------------------------------------


def test_weights_and_capacities_under_load(server: ServerProcess, aws: Aws) -> None:
    aws.create_config("shift", variant("old", "a"), variant("new", "b", InitialVariantWeight=0.0))
    aws.create_endpoint("shift", "shift")
    aws.in_service("shift")

    def change(*wanted: dict[str, Any]) -> dict[str, tuple[float, int]]:
        aws.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="shift", DesiredWeightsAndCapacities=list(wanted)
        )
        found = settled(aws, "shift")
        assert "FailureReason" not in found
        return {
            v["VariantName"]: (v["CurrentWeight"], v["CurrentInstanceCount"])
            for v in found["ProductionVariants"]
        }

    with invoking(server, "shift", CLIENTS) as crowd:
        crowd.wait_more(20)
        assert {reply.said for reply in crowd.replies} == {"old"}
        # Other instances of the variant that has the traffic, while they are asked.
        more = {"VariantName": "a", "DesiredInstanceCount": 2}
        assert change(more) == {"a": (1.0, 2), "b": (0.0, 1)}
        assert len(server.children()) >= 3
        even = {"VariantName": "b", "DesiredWeight": 1.0}
        assert change({**more, "DesiredInstanceCount": 1}, even) == {"a": (1.0, 1), "b": (1.0, 1)}
        place = len(crowd.replies)
        crowd.wait_more(100)
        both = [reply.said for reply in crowd.replies[place + CLIENTS :]]
        assert abs(both.count("new") / len(both) - 0.5) < 0.1
        assert change({"VariantName": "a", "DesiredWeight": 0.0})["a"] == (0.0, 1)
        place = len(crowd.replies)
        crowd.wait_more(50)
        assert {reply.said for reply in crowd.replies[place + CLIENTS :]} == {"new"}
    assert crowd.failures == []


def test_delete_under_load(server: ServerProcess, aws: Aws) -> None:
    deploy(aws, "gone", "slow")
    with invoking(server, "gone", 4) as crowd:
        crowd.wait_more(4)
        aws.sagemaker.delete_endpoint(EndpointName="gone")
        wait_deleted(aws, "gone")
        crowd.wait(lambda replies: not replies[-1].ok, "a refusal")
        crowd.wait_more(CLIENTS)
    refused = min(reply.sent for reply in crowd.failures)
    missing = f"Endpoint gone of account {ACCOUNT} not found."  # and, at first, what becomes of it
    assert {(r.status, r.kind) for r in crowd.failures} == {(400, "ValidationError")}
    assert all(r.said.startswith(missing) for r in crowd.failures)
    finished = [r for r in crowd.replies if r.ok and r.received > refused]
    assert len(finished) > 1, "nothing was in flight when it was deleted"
    assert all(reply.sent < refused for reply in finished)
    drained(server, "endpoint/gone/")
    connection = HTTPConnection(server.host, server.port, timeout=10)
    assert invoke(connection, "gone").status == 400
    connection.close()


def test_nothing_is_left_over(server: ServerProcess, aws: Aws) -> None:
    """After all of the above: the endpoints that there are, and one process for each handler."""
    names = [e["EndpointName"] for e in aws.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]]
    assert "gone" not in names
    for name in names:
        aws.sagemaker.delete_endpoint(EndpointName=name)
    for name in names:
        wait_deleted(aws, name)
    wait_for(lambda: not server.children(), 20, "all worker processes to end")
    assert b'"models":[]' in server.get("/v2/hostler/models")[2]
    # The only errors are those of the model whose process died.
    errors = [event for event in server.events() if event["level"] == "error"]
    assert all("endpoint/deaths/2/" in str(event) for event in errors), errors
