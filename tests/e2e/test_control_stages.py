"""Servers that end while endpoints stand in every stage, and what the next ones make of it."""

from __future__ import annotations

import contextlib
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import onnx_models
from fakes.aws import Aws, variant
from fakes.control_sites import (
    ANSWERS,
    SETTLED_S,
    Site,
    described,
    kill,
    said,
    settled,
    written,
)
from fakes.invokers import handler_archive, invoking
from fakes.server import ServerProcess, wait_for

HELD = b"hold"
"""A request that the model `gated` does not finish."""


def gated(site: Site, aws: Aws) -> None:
    """Models that come up, or answer, when a file is there; `gated` fails what is not held."""
    wait = "while not os.path.exists({!r}):\n    time.sleep(0.02)"
    load = f"def model_fn(model_dir):\n    {wait.format(str(site.gates / 'load'))}".replace(
        "\n    time", "\n        time"
    )
    late = handler_archive(site.archives / "late.tar.gz", "return 'late', 'text/plain'", load)
    aws.create_model("late", late)
    aws.create_config("late", variant("late"))
    answer = f"""
if body != {HELD!r}:
    raise KeyError("bad")
print("holds", flush=True)
{wait.format(str(site.gates / "answer"))}
return b""
"""
    aws.create_model("gated", handler_archive(site.archives / "gated.tar.gz", answer))
    aws.create_config("gated", variant("gated", InitialInstanceCount=2))


def shift(kind: str, wait_s: int, last_s: int, *alarms: str) -> dict[str, Any]:
    """A blue/green deployment; canaries and steps are half of the traffic."""
    half = {"Type": "CAPACITY_PERCENT", "Value": 50}
    sizes = {"CANARY": {"CanarySize": half}, "LINEAR": {"LinearStepSize": half}}
    routing = {"Type": kind, "WaitIntervalInSeconds": wait_s, **sizes.get(kind, {})}
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": last_s}
    found: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": text} for text in alarms]}
    return found


def update(aws: Aws, name: str, config: str, deployment: dict[str, Any] | None = None) -> None:
    more = {} if deployment is None else {"DeploymentConfig": deployment}
    aws.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **more)


def hold(server: ServerProcess, name: str, number: int) -> HTTPConnection:
    """A connection with a request in a worker of this endpoint."""
    connection = HTTPConnection(server.host, server.port, timeout=20)
    path = f"/endpoints/{name}/invocations"
    connection.request("POST", path, HELD, {"content-type": "application/octet-stream"})
    held = f"endpoint/{name}/{number}/AllTraffic/0"

    def look() -> list[Any]:
        events = server.events("worker.output", line="holds")
        return [event for event in events if held in str(event)]

    wait_for(look, 20, f"a worker of {held} to hold a request")
    return connection


def test_kill_in_each_stage(tmp_path: Path) -> None:
    """Endpoints stand in every stage when the server is killed."""
    site = Site(tmp_path)
    with site.server() as (server, aws):
        site.fill(aws)
        gated(site, aws)
        first = dict.fromkeys(("starting", "shifting", "baking", "rolling", "moved"), "two")
        first |= {"deleting": "gated", "resizing": "word"}
        for name, config in first.items():
            aws.create_endpoint(name, config)
        for name in first:
            aws.in_service(name)
        update(aws, "shifting", "three", shift("CANARY", 600, 0))
        update(aws, "baking", "three", shift("ALL_AT_ONCE", 0, 600))
        update(aws, "rolling", "gated", shift("ALL_AT_ONCE", 0, 600, "model_errors > 2 min 1"))
        for name, stage in (("shifting", "shifting"), ("baking", "baking"), ("rolling", "baking")):
            server.wait_event("endpoint.stage", endpoint=name, to=stage)
        asked = [hold(server, "deleting", 1), hold(server, "rolling", 2)]
        with invoking(server, "rolling", 2) as crowd:
            server.wait_event("endpoint.stage", endpoint="rolling", to="rolling_back")
        assert {reply.status for reply in crowd.failures} == {424}
        aws.sagemaker.delete_endpoint(EndpointName="deleting")
        aws.create_endpoint("creating", "late")
        update(aws, "starting", "late")
        update(aws, "moved", "three", shift("LINEAR", 2, 1))
        server.wait_event("endpoint.stage", endpoint="moved", to="shifting")
        server.wait_event("endpoint.stopping", endpoint="deleting")
        aws.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="resizing",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}],
        )
        kill(server)
        for connection in asked:
            connection.close()
    assert written(tmp_path / "state") == {
        "creating": "Creating",
        "starting": "Updating",
        "shifting": "Updating",
        "baking": "Updating",
        "moved": "Updating",
        "resizing": "Updating",
        "rolling": "RollingBack",
        "deleting": "Deleting",
    }
    with site.server() as (server, aws):
        check_after_kill(site, server, aws)


def check_after_kill(site: Site, server: ServerProcess, aws: Aws) -> None:
    wait_for(lambda: described(aws, "deleting") is None, SETTLED_S, "it to be deleted")
    found = settled(aws, "rolling")
    assert found is not None
    assert found["EndpointConfigName"] == "two"
    assert "alarm 'model_errors > 2 min 1'" in found["FailureReason"]
    assert said(server, "rolling") == ANSWERS["two"]
    found = settled(aws, "resizing")
    assert found is not None
    assert [v["CurrentInstanceCount"] for v in found["ProductionVariants"]] == [2]
    assert said(server, "resizing") == "word"
    # Those that wait for time to pass begin the step anew in which they were.
    for name, stage in (("shifting", "shifting"), ("baking", "baking")):
        server.wait_event("endpoint.stage", endpoint=name, to=stage)
    answers = [said(server, "shifting") for _ in range(20)]
    assert (answers.count(ANSWERS["two"]), answers.count(ANSWERS["three"])) == (10, 10)
    assert said(server, "baking") == ANSWERS["three"]
    # Those that wait for instances still do, while the old ones serve.
    assert said(server, "starting") == ANSWERS["two"]
    found = described(aws, "creating")
    assert found is not None
    assert found["EndpointStatus"] == "Creating"
    (site.gates / "load").touch()
    for name in ("creating", "starting"):
        found = settled(aws, name)
        assert found is not None
        assert found["EndpointConfigName"] == "late"
        assert said(server, name) == "late"
    found = settled(aws, "moved")
    assert found is not None
    assert found["EndpointConfigName"] == "three"
    assert said(server, "moved") == ANSWERS["three"]
    to = [event["to"] for event in server.events("endpoint.stage", endpoint="moved")]
    assert to == ["starting", "shifting", "baking", "in_service"]


# -- other ends ----------------------------------------------------------------------------------


def test_sigterm_during_an_update(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.server() as (server, aws):
        site.fill(aws)
        aws.create_endpoint("moves", "word")
        aws.in_service("moves")
        with invoking(server, "moves", 4) as crowd:
            crowd.wait_more(20)
            update(aws, "moves", "other", shift("LINEAR", 600, 0))
            server.wait_event("endpoint.stage", endpoint="moves", to="shifting")
            crowd.wait_more(20)
            server.stop()
        # Whoever has asked is answered; later ones are told so, or find nobody.
        refused = [reply for reply in crowd.failures if reply.status not in (0, 503)]
        assert refused == []
        broken = [r for r in crowd.failures if r.status == 0 and "refused" not in r.said]
        assert len(broken) <= 4, "more than the connections that were open"
        assert {reply.said for reply in crowd.replies if reply.ok} == {"word", "other"}
        assert server.events("gateway.drain_timeout") == []
    assert written(tmp_path / "state") == {"moves": "Updating"}
    with site.server() as (server, aws):
        server.wait_event("endpoint.stage", endpoint="moves", to="shifting")
        assert sorted(said(server, "moves") for _ in range(4)) == ["other"] * 2 + ["word"] * 2
        aws.sagemaker.delete_endpoint(EndpointName="moves")
        wait_for(lambda: described(aws, "moves") is None, SETTLED_S, "it to be gone")
        wait_for(lambda: not server.children(), 20, "its workers to end")


def test_a_second_server_on_the_same_state(tmp_path: Path) -> None:
    """It refuses all that needs the state, saying who has it, and serves its models."""
    site = Site(tmp_path)
    onnx_models.affine(tmp_path / "repository" / "double" / "1" / "model.onnx", 2.0)
    with contextlib.ExitStack() as stack:
        first, aws = stack.enter_context(site.server())
        site.fill(aws)
        aws.create_endpoint("mine", "two")
        aws.in_service("mine")
        second = stack.enter_context(
            ServerProcess(tmp_path / "repository", "--state-dir", str(tmp_path / "state"))
        )
        late = Aws(f"http://{second.url}")
        for call in (
            late.sagemaker.list_models,
            lambda: late.sagemaker.delete_endpoint(EndpointName="mine"),
        ):
            with pytest.raises(ClientError) as refused:
                call()
            error = refused.value.response
            assert error["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert error["Error"]["Code"] == "ServiceUnavailable"
            assert (
                f"used by another server (process {first.pid}); stop that one"
                in (error["Error"]["Message"])
            )
        assert second.infer("double", x=[[1.0] * 4])[1]["outputs"][0]["data"] == [2.0] * 4
        assert said(first, "mine") == ANSWERS["two"]
        # Once the first has gone the second goes on in its place, endpoints included.
        kill(first)
        assert late.sagemaker.describe_endpoint(EndpointName="mine")["EndpointName"] == "mine"
        assert settled(late, "mine")
        assert said(second, "mine") == ANSWERS["two"]
