"""Transform jobs through the facade: who asks, what he must be allowed, who is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.control import InstantDriver, arn
from fakes.resources import FakeResources

from hostler.control import Config, Control
from hostler.control.ports import TRANSFORM_JOB
from hostler.control.transforms.record import transform_of
from hostler.core import Code, HostlerError
from hostler.storage import Resource

JOB = arn("transform-job", "j")
CREATE = "sagemaker:CreateTransformJob"


class Rig:
    """A control plane of a server whose repository has the model `own`, asked by `ann`."""

    def __init__(self) -> None:
        self.store = FakeResources()
        self.driver = InstantDriver(self.store, FakeClock())
        self.asked: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.control = Control(
            Config(), lambda: self.store, lambda _: self.driver, FakeClock(), lambda _: ""
        )
        self.control.is_served = lambda name: name == "own"

    def allow(self, action: str, resource: str) -> str:
        self.asked.append((action, resource))
        if action in self.forbidden:
            raise HostlerError(Code.PERMISSION_DENIED, f"{action} is not for ann")
        return "ann"

    async def call(self, name: str, **request: Any) -> tuple[int, Any]:
        body = json.dumps(request).encode()
        status, _, answer = await self.control.call(f"SageMaker.{name}", body, self.allow)
        return status, json.loads(answer or b"{}")

    async def create(self, model: str) -> tuple[int, Any]:
        self.asked.clear()
        source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in/"}
        return await self.call(
            "CreateTransformJob",
            TransformJobName="j",
            ModelName=model,
            TransformInput={"DataSource": {"S3DataSource": source}},
            TransformOutput={"S3OutputPath": "s3://bucket/out/"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )

    async def model(self, name: str) -> None:
        container = {"ModelDataUrl": "s3://bucket/model.tar.gz"}
        status, _ = await self.call("CreateModel", ModelName=name, PrimaryContainer=container)
        assert status == 200

    def row(self) -> Resource | None:
        return self.store.get(TRANSFORM_JOB, "j")


async def test_a_job_of_a_created_model() -> None:
    rig = Rig()
    await rig.model("m")
    assert await rig.create("m") == (200, {"TransformJobArn": JOB})
    assert rig.asked == [(CREATE, JOB)]
    assert rig.driver.woken_transforms == ["j"]
    row = rig.row()
    assert row is not None
    assert transform_of(row).principal == "ann"
    assert (await rig.call("StopTransformJob", TransformJobName="j"))[0] == 200
    assert rig.driver.woken_transforms == ["j", "j"]
    await rig.control.stop(1.0)


async def test_a_model_of_the_repository_takes_the_right_to_ask_it() -> None:
    rig = Rig()
    rig.forbidden = {"hostler:Infer"}
    status, answer = await rig.create("own")
    assert (status, answer["__type"]) == (400, "AccessDeniedException")
    assert rig.row() is None
    rig.forbidden.clear()
    assert (await rig.create("own"))[0] == 200
    assert rig.asked == [(CREATE, JOB), ("hostler:Infer", "model/own"), (CREATE, JOB)]
    row = rig.row()
    assert row is not None
    assert transform_of(row).containers == ()
    await rig.control.stop(1.0)


async def test_a_created_model_comes_before_one_of_the_repository() -> None:
    rig = Rig()
    await rig.model("own")
    rig.forbidden = {"hostler:Infer"}
    assert (await rig.create("own"))[0] == 200
    row = rig.row()
    assert row is not None
    assert len(transform_of(row).containers) == 1
    await rig.control.stop(1.0)


async def test_a_model_that_is_nowhere() -> None:
    rig = Rig()
    status, answer = await rig.create("other")
    assert (status, answer["__type"]) == (400, "ValidationException")
    assert answer["message"] == f'Could not find model "{arn("model", "other")}".'
    assert rig.driver.woken_transforms == []
    await rig.control.stop(1.0)


ERRORS = [
    ("DescribeTransformJob", "ResourceNotFound"),
    ("StopTransformJob", "ResourceNotFound"),
]


@pytest.mark.parametrize(("name", "error"), ERRORS)
async def test_names_of_errors(name: str, error: str) -> None:
    rig = Rig()
    status, answer = await rig.call(name, TransformJobName="gone")
    assert (status, answer["__type"]) == (400, error)
    await rig.control.stop(1.0)


async def test_a_name_that_is_taken_is_a_resource_in_use() -> None:
    rig = Rig()
    await rig.model("m")
    await rig.create("m")
    status, answer = await rig.create("m")
    assert (status, answer["__type"]) == (400, "ResourceInUse")
    await rig.control.stop(1.0)


async def test_what_may_have_been_written_is_looked_at() -> None:
    rig = Rig()
    await rig.model("m")

    def lost(resource: Resource, tags: object) -> bool:
        raise HostlerError(Code.UNAVAILABLE, "the connection was lost")

    rig.store.add = lost  # type: ignore[method-assign, assignment]
    assert (await rig.create("m"))[0] == 503
    await asyncio.sleep(0)
    assert rig.driver.woken_transforms == ["j"]
    await rig.control.stop(1.0)
