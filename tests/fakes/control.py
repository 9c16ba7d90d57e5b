"""The control plane without a server: operations on a desk, and a driver that is always ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from fakes.aws import differences
from fakes.clock import FakeClock
from fakes.resources import FakeResources

from hostler.control import Config, Observed, rollout
from hostler.control.operations import SERVICES, Desk, Names
from hostler.control.ports import ENDPOINT, Known
from hostler.control.reconcile import Cohort, Health, Seen, State, cohorts
from hostler.control.records import EndpointRecord
from hostler.control.rows import endpoint_of, with_endpoint
from hostler.core import HostlerError
from hostler.protocols.sagemaker import Arns, Service, load_service
from hostler.storage import Config as StorageConfig
from hostler.storage import Resources, Storage

__all__ = ["Bench", "InstantDriver", "arn", "model_of", "service", "settle", "variant"]


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:000000000000:{kind}/{name.lower()}"


def variant(name: str = "v", model: str = "m", **more: Any) -> dict[str, Any]:
    shown = {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **more,
    }
    return {key: value for key, value in shown.items() if value is not None}


def service(prefix: str) -> Service:
    served = SERVICES[prefix]
    return load_service(served.name, frozenset(served.rows))


@cache
def model_of(name: str) -> ServiceModel:
    """botocore's own description."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


class Bench:
    """Calls operations one at a time: parsed, run, rendered and held against botocore's shapes.

    `storage`: URLs of models are held against these settings.
    """

    def __init__(self, config: Config | None = None, storage: StorageConfig | None = None) -> None:
        self.clock = FakeClock()
        self.store = FakeResources()
        self.config = config or Config()
        self.woken: list[str] = []
        self.jobs: list[str] = []
        self.images: list[str] = []
        self.desk = Desk(
            config=self.config,
            store=self.store,
            names=Names(self.store),
            arns=Arns(self.config.region, self.config.account_id),
            wall=self.clock.wall,
            check_image=self._image,
            check_url=(lambda _: None) if storage is None else Storage(storage, {}).check,
        )

    def _image(self, image: str) -> str:
        self.images.append(image)
        return ""

    def call(self, name: str, /, observed: Observed | None = None, **request: Any) -> Any:
        """The answer, as a client reads it; {} for none."""
        prefix = next(p for p, served in SERVICES.items() if name in served.rows)
        operation = service(prefix).find(name)
        parsed = operation.parse(json.dumps(request).encode())
        desk = self.desk
        if observed is not None:
            desk = Desk(**{f: getattr(desk, f) for f in desk.__slots__} | {"observed": observed})
        outcome = SERVICES[prefix].rows[name].run(desk, parsed)
        self.woken += outcome.wake
        self.jobs += outcome.jobs
        body = operation.render(outcome.answer)
        shape = model_of(SERVICES[prefix].name).operation_model(name).output_shape
        if shape is None:
            assert body == b""
            return {}
        answer = json.loads(body)
        assert not list(wrong(shape, answer))
        return answer

    def refused(self, name: str, /, **request: Any) -> HostlerError:
        with pytest.raises(HostlerError) as raised:
            self.call(name, **request)
        return raised.value

    # -- the usual ---------------------------------------------------------------------------

    def model(self, name: str = "m", **more: Any) -> None:
        container = {"Image": "img", "ModelDataUrl": "s3://b/model.tar.gz", **more}
        self.call("CreateModel", ModelName=name, PrimaryContainer=container)

    def config_of(self, name: str = "c", *variants: dict[str, Any], **more: Any) -> None:
        if "m" not in {row.name for row in self.store.all("model")}:
            self.model()
        self.call(
            "CreateEndpointConfig",
            EndpointConfigName=name,
            ProductionVariants=list(variants) or [variant()],
            **more,
        )

    def endpoint(self, name: str = "e", *variants: dict[str, Any], **more: Any) -> None:
        """In service."""
        self.config_of(f"{name}-config", *variants, **more)
        self.call("CreateEndpoint", EndpointName=name, EndpointConfigName=f"{name}-config")
        settle(self.store, name, self.clock.wall())

    def record(self, name: str = "e") -> EndpointRecord:
        row = self.store.get(ENDPOINT, name)
        assert row is not None
        return endpoint_of(row)

    def edit(self, name: str, edit: Callable[[EndpointRecord], EndpointRecord]) -> None:
        row = self.store.get(ENDPOINT, name)
        assert row is not None
        assert self.store.put(with_endpoint(row, edit(endpoint_of(row))))

    def status(self, name: str, status: Any, **more: Any) -> None:
        """Bring an endpoint into a status by hand."""
        self.edit(name, lambda r: msgspec.structs.replace(r, status=status, **more))


def wrong(shape: Shape, answer: Any) -> Iterator[str]:
    """Where an answer is not what botocore's shape says; `file:///` URLs are ours."""
    for difference in differences(shape, answer):
        if "file:///" not in difference:
            yield difference


def settle(store: Resources, name: str, now: float) -> None:
    """Have every instance ready at once, and every wait over, until nothing is left to do."""
    for _ in range(50):
        row = store.get(ENDPOINT, name)
        if row is None:
            return
        record = endpoint_of(row)
        if record.status == "Deleting":
            store.remove(ENDPOINT, name)
            return
        ready: dict[Cohort, Health] = {
            cohort: Health(State.READY)
            for fleet in (record.current, record.target)
            for cohort in cohorts(fleet)
        }
        after, _ = rollout.step(record, Seen(ready), now + 100_000.0)
        if after == record:
            return
        assert store.put(with_endpoint(row, after))
    raise AssertionError("the endpoint does not settle")


class InstantDriver:
    """A driver whose instances are ready at once. `held`: it only notes who was woken."""

    def __init__(self, store: Resources, clock: FakeClock, held: bool = False) -> None:
        self.store = store
        self.clock = clock
        self.held = held
        self.woken: list[str] = []
        self.woken_transforms: list[str] = []
        self.state = "new"
        self.settling = False
        self.awaited: list[str] = []

    async def start(self) -> None:
        self.state = "started"

    async def stop(self) -> None:
        self.state = "stopped"

    def wake(self, endpoint: str) -> None:
        self.woken.append(endpoint)
        if not self.held:
            settle(self.store, endpoint, self.clock.wall())

    def wake_transform(self, job: str) -> None:
        self.woken_transforms.append(job)

    def endpoints(self) -> dict[str, Known]:
        rows = {row.name: endpoint_of(row) for row in self.store.all(ENDPOINT)}
        return {
            name: Known(record.arn, record.status, record.failure_reason)
            for name, record in rows.items()
        }

    def coming(self) -> list[str]:
        return self.awaited

    def observe(self, endpoint: str) -> Observed:
        row = self.store.get(ENDPOINT, endpoint)
        fleet = None if row is None else endpoint_of(row).current
        if fleet is None:
            return Observed("waiting for its turn")
        variants = (*fleet.variants, *fleet.shadows)
        return Observed("", {(fleet.generation, v.name): v.instances for v in variants})
