from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.clock import virtual

from hostler.control import StoredModels
from hostler.control import models as models_file
from hostler.control.models import source_of
from hostler.core import Code, HostlerError
from hostler.repository import Config, Container, ContainerPackages, ModelSource, Package

SOURCES = [
    ({"ModelDataUrl": "s3://b/m.tar.gz"}, ModelSource("s3://b/m.tar.gz")),
    (
        {
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": "s3://b/m/",
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            }
        },
        ModelSource("s3://b/m/", prefix=True, compressed=False),
    ),
    (
        {
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": "s3://b/m.tar.gz",
                    "S3DataType": "S3Object",
                    "CompressionType": "Gzip",
                }
            }
        },
        ModelSource("s3://b/m.tar.gz"),
    ),
]


@pytest.mark.parametrize(("definition", "source"), SOURCES)
def test_sources(definition: dict[str, Any], source: ModelSource) -> None:
    assert source_of(definition) == source


def test_a_container_without_a_model() -> None:
    with pytest.raises(HostlerError, match="images are not run here") as raised:
        source_of({"Image": "123.dkr.ecr/xgboost:1"})
    assert raised.value.code is Code.INVALID_ARGUMENT


class FakeFetcher:
    def __init__(self) -> None:
        self.held = 0
        self.timeouts: list[float] = []

    async def fetch(self, source: ModelSource, report: Any, timeout_s: float) -> Any:
        self.timeouts.append(timeout_s)
        report(f"fetching {source.url}")
        await asyncio.sleep(1)
        self.held += 1
        return SimpleNamespace(folder=Path("/cache/x"), token="t", release=self._release)

    def _release(self) -> None:
        self.held -= 1


def stored(monkeypatch: pytest.MonkeyPatch, read: Any) -> tuple[StoredModels, FakeFetcher]:
    fetcher = FakeFetcher()
    monkeypatch.setattr(models_file, "read_container", read)
    return StoredModels(fetcher, Config()), fetcher  # type: ignore[arg-type]


def test_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def read(*arguments: Any) -> ContainerPackages:
        asked.append(arguments)
        return ContainerPackages("n", (Package("n"),))

    @virtual
    async def run() -> None:
        models, fetcher = stored(monkeypatch, read)
        said: list[str] = []
        definition = {"Image": "i", "ModelDataUrl": "s3://b/m", "Environment": {"A": "1"}}
        opened = await models.open("n", definition, 3, 60.0, said.append)
        assert (opened.entry, opened.packages) == ("n", (Package("n"),))
        container = Container("i", {"A": "1"})
        assert asked == [("n", Path("/cache/x"), "t", container, 3, Config())]
        assert said == ["fetching s3://b/m", "reading what s3://b/m holds"]
        assert (fetcher.held, fetcher.timeouts) == (1, [60.0])
        opened.release()
        assert fetcher.held == 0

    run()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (HostlerError(Code.INVALID_ARGUMENT, "nothing is in it"), Code.INVALID_ARGUMENT),
        (PermissionError("no"), Code.UNAVAILABLE),
    ],
)
def test_what_cannot_be_read_is_released(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, code: Code
) -> None:
    def read(*_: Any) -> ContainerPackages:
        raise raised

    @virtual
    async def run() -> None:
        models, fetcher = stored(monkeypatch, read)
        with pytest.raises(HostlerError) as error:
            await models.open("n", {"ModelDataUrl": "s3://b/m"}, 1, 60.0, lambda _: None)
        assert error.value.code is code
        assert fetcher.held == 0

    run()
