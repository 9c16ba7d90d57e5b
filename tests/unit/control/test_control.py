"""The facade: lazy, whole in its errors, and never half done."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from fakes.clock import FakeClock
from fakes.control import InstantDriver, arn, settle, variant
from fakes.resources import FakeResources

from hostler.control import Config, Control
from hostler.control.ports import ENDPOINT
from hostler.core import Code, HostlerError
from hostler.storage import Resources

DELETE = "SageMaker.DeleteModel"
LIST = "SageMaker.ListModels"


class Rig:
    """A control plane; `opened`: how often its store was."""

    def __init__(self, resume: bool = False, config: Config | None = None) -> None:
        self.clock = FakeClock()
        self.store = FakeResources()
        self.opened = 0
        self.open_errors: list[Exception] = []
        self.drivers: list[InstantDriver] = []
        self.asked: list[tuple[str, str]] = []
        self.control = Control(
            config or Config(),
            self._open,
            self._driver,
            self.clock,
            lambda image: "",
            resume=resume,
        )

    def _open(self) -> Resources:
        self.opened += 1
        if self.open_errors:
            raise self.open_errors.pop(0)
        return self.store

    def _driver(self, store: Resources) -> InstantDriver:
        assert store is self.store
        self.drivers.append(InstantDriver(self.store, self.clock))
        return self.drivers[-1]

    def allow(self, action: str, resource: str) -> None:
        self.asked.append((action, resource))

    async def call(self, target: str, /, **request: Any) -> tuple[int, Any]:
        body = json.dumps(request).encode()
        status, headers, answer = await self.control.call(target, body, self.allow)
        assert dict(headers)[b"content-type"] == b"application/x-amz-json-1.1"
        return status, json.loads(answer or b"{}")


async def settled(rig: Rig) -> None:
    """Until what was there at the start has been looked at."""
    async with asyncio.timeout(30):
        while rig.control.resuming:  # noqa: ASYNC110 - only a test waits for it
            await asyncio.sleep(0.001)


async def test_nothing_is_opened_before_the_first_call() -> None:
    rig = Rig()
    await rig.control.start()
    assert not rig.control.resuming
    assert rig.opened == 0
    assert await rig.call(LIST) == (200, {"Models": []})
    assert (rig.opened, rig.drivers[0].state) == (1, "started")
    await rig.control.stop(1.0)
    assert rig.drivers[0].state == "stopped"
    assert rig.store.closed


async def test_what_was_never_used_stops() -> None:
    rig = Rig()
    await rig.control.start()
    await rig.control.stop(1.0)
    await rig.control.stop(1.0)
    assert rig.opened == 0


async def test_calls_that_cannot_be_open_nothing() -> None:
    rig = Rig()
    for target in ("", "SageMaker", "Nobody.CreateModel", "SageMaker.", "x" * 10_000):
        status, answer = await rig.call(target)
        assert (status, answer["__type"]) == (400, "UnknownOperationException"), target
        assert len(answer["message"]) < 400
    status, answer = await rig.call("SageMaker.CreateTrainingJob")
    assert (status, answer["__type"]) == (400, "UnknownOperationException")
    status, answer = await rig.call(DELETE)
    assert (status, answer["__type"]) == (400, "ValidationException")
    status, answer = await rig.call(DELETE, ModelName=5)
    assert (status, answer["__type"]) == (400, "SerializationException")
    assert rig.opened == 0
    assert rig.asked == []


async def test_the_first_calls_open_once() -> None:
    rig = Rig()
    answers = await asyncio.gather(*(rig.call(LIST) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert (rig.opened, len(rig.drivers)) == (1, 1)
    await rig.control.stop(1.0)


async def test_what_cannot_be_opened_is_tried_again() -> None:
    rig = Rig()
    rig.open_errors = [HostlerError(Code.UNAVAILABLE, "hostler.db is locked by process 7")]
    status, answer = await rig.call(LIST)
    assert (status, answer["__type"]) == (503, "ServiceUnavailable")
    assert "locked by process 7" in answer["message"]
    assert (await rig.call(LIST))[0] == 200
    await rig.control.stop(1.0)


async def test_a_driver_that_does_not_start_gives_the_store_back() -> None:
    rig = Rig()

    async def start(_: Any) -> NoReturn:
        raise HostlerError(Code.UNAVAILABLE, "no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InstantDriver, "start", start)
        assert (await rig.call(LIST))[0] == 503
    assert rig.store.closed


async def test_an_earlier_run_is_gone_on_with() -> None:
    rig = Rig(resume=True)
    assert rig.control.resuming, "the server listens before this is started"
    await rig.control.start()
    assert rig.control.resuming
    assert (await rig.call(LIST))[0] == 200
    await settled(rig)
    assert (rig.opened, rig.drivers[0].state) == (1, "started")
    rig.drivers[0].settling = True
    assert rig.control.resuming
    await rig.control.stop(1.0)


async def test_a_server_without_an_earlier_run_knows_all_its_endpoints() -> None:
    rig = Rig()
    assert not rig.control.resuming
    assert rig.control.observe("e").instances == {}
    await rig.control.start()
    assert not rig.control.resuming
    await rig.control.stop(1.0)


@pytest.mark.parametrize("error", [HostlerError(Code.UNAVAILABLE, "locked"), OSError("no disk")])
async def test_a_start_does_not_fail_with_the_store(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(resume=True)
    rig.open_errors = [error]
    with caplog.at_level(logging.ERROR, "hostler.control"):
        await rig.control.start()
        await settled(rig)
    assert [record.message for record in caplog.records] == ["control.not_resumed"]
    assert (await rig.call(LIST))[0] == 200
    await rig.control.stop(1.0)


async def test_a_bug_is_not_hidden() -> None:
    rig = Rig()
    rig.store.faults = [RuntimeError("bug")]
    with pytest.raises(RuntimeError, match="bug"):
        await rig.call(LIST)
    assert (await rig.call(LIST))[0] == 200
    await rig.control.stop(1.0)


# -- who may -------------------------------------------------------------------------------------

SCALED = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/e/variant/v",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
ASKED: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    (
        "SageMaker.CreateModel",
        {"ModelName": "My-Model"},
        ("sagemaker:CreateModel", arn("model", "my-model")),
    ),
    (
        "SageMaker.DeleteEndpointConfig",
        {"EndpointConfigName": "c"},
        ("sagemaker:DeleteEndpointConfig", arn("endpoint-config", "c")),
    ),
    (
        "SageMaker.UpdateEndpoint",
        {"EndpointName": "e", "EndpointConfigName": "c"},
        ("sagemaker:UpdateEndpoint", arn("endpoint-config", "c")),
    ),
    (LIST, {}, ("sagemaker:ListModels", "*")),
    (
        "SageMaker.ListTags",
        {"ResourceArn": arn("model", "m")},
        ("sagemaker:ListTags", arn("model", "m")),
    ),
    (
        "AnyScaleFrontendService.DeregisterScalableTarget",
        SCALED,
        ("application-autoscaling:DeregisterScalableTarget", arn("endpoint", "e")),
    ),
    (
        "AnyScaleFrontendService.DeregisterScalableTarget",
        {**SCALED, "ResourceId": "x"},
        ("application-autoscaling:DeregisterScalableTarget", "*"),
    ),
    (
        "AnyScaleFrontendService.DescribeScalingPolicies",
        {"ServiceNamespace": "sagemaker"},
        ("application-autoscaling:DescribeScalingPolicies", "*"),
    ),
]


@pytest.mark.parametrize(("target", "request_", "expected"), ASKED)
async def test_who_may_is_asked_before_anything_is_looked_up(
    target: str, request_: dict[str, Any], expected: tuple[str, str]
) -> None:
    rig = Rig()

    def deny(action: str, resource: str) -> None:
        rig.asked.append((action, resource))
        raise HostlerError(Code.PERMISSION_DENIED, f"not {action}")

    status, _, answer = await rig.control.call(target, json.dumps(request_).encode(), deny)
    assert (status, json.loads(answer)["__type"]) == (400, "AccessDeniedException")
    assert rig.asked == [expected]
    assert rig.opened == 0


@pytest.mark.parametrize("operation", ["CreateEndpoint", "UpdateEndpoint"])
async def test_who_deploys_a_configuration_must_be_allowed_that_too(operation: str) -> None:
    rig = Rig()
    await rig.call(f"SageMaker.{operation}", EndpointName="E", EndpointConfigName="C")
    action = f"sagemaker:{operation}"
    # The endpoint last: it is what the audit log names.
    assert rig.asked == [(action, arn("endpoint-config", "c")), (action, arn("endpoint", "e"))]
    await rig.control.stop(1.0)


async def test_errors_are_worded_by_their_service() -> None:
    rig = Rig()
    status, answer = await rig.call(DELETE, ModelName="m")
    assert (status, answer["__type"]) == (400, "ValidationException")
    assert answer["message"] == f'Could not find model "{arn("model", "m")}".'
    _, answer = await rig.call("AnyScaleFrontendService.DeregisterScalableTarget", **SCALED)
    assert answer["__type"] == "ObjectNotFoundException"
    await rig.control.stop(1.0)


async def test_bodies_are_bounded_by_the_setting() -> None:
    rig = Rig(config=Config(body_bytes_max=4096))
    status, answer = await rig.call(LIST, NextToken="x" * 5000)
    assert (status, answer["__type"]) == (413, "RequestEntityTooLargeException")


# -- a life, and what may cut it short -----------------------------------------------------------


async def created(rig: Rig) -> None:
    container = {"ModelDataUrl": "s3://b/m.tar.gz"}
    await rig.call("SageMaker.CreateModel", ModelName="m", PrimaryContainer=container)
    await rig.call(
        "SageMaker.CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()]
    )


async def test_changes_wake_the_driver_and_are_seen() -> None:
    rig = Rig()
    await created(rig)
    await rig.call("SageMaker.CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    assert rig.drivers[0].woken == ["e"]
    _, shown = await rig.call("SageMaker.DescribeEndpoint", EndpointName="e")
    assert shown["EndpointStatus"] == "InService"
    assert shown["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    await rig.call("SageMaker.DeleteEndpoint", EndpointName="e")
    status, answer = await rig.call("SageMaker.DescribeEndpoint", EndpointName="e")
    assert (status, answer["__type"]) == (400, "ValidationException")
    await rig.control.stop(1.0)


class Gate:
    """Holds a method of the store until it is let go."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self.reached.set()
        assert self.open.wait(30)
        return self.method(*arguments)


async def test_a_client_that_goes_leaves_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    await created(rig)
    gate = Gate(rig.store.add)
    monkeypatch.setattr(rig.store, "add", gate)
    creation = asyncio.create_task(
        rig.call("SageMaker.CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    )
    await asyncio.to_thread(gate.reached.wait, 30)
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    assert rig.drivers[0].woken == []
    stopping = asyncio.create_task(rig.control.stop(30.0))
    await asyncio.sleep(0)
    gate.open.set()
    await stopping  # and waits for what is being written
    assert rig.drivers[0].woken == ["e"]
    assert (ENDPOINT, "e") in rig.store.rows


async def test_nothing_is_taken_once_it_stops() -> None:
    rig = Rig()
    await rig.call(LIST)
    await rig.control.stop(1.0)
    status, answer = await rig.call(LIST)
    assert (status, answer["__type"]) == (503, "ServiceUnavailable")


async def test_a_store_that_opens_while_it_stops_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    gate = Gate(rig.control._open_store)
    monkeypatch.setattr(rig.control, "_open_store", gate)
    call = asyncio.create_task(rig.call(LIST))
    await asyncio.to_thread(gate.reached.wait, 30)
    await rig.control.stop(0.0)
    gate.open.set()
    assert (await call)[0] == 503
    assert rig.store.closed
    assert rig.drivers[0].state == "stopped"


def test_settling_is_what_the_driver_would_do() -> None:
    settle(FakeResources(), "unknown", 0.0)
