"""Where a container's model comes from: fetched from an object store, then read as a package."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from hostler.control.records import Document
from hostler.core import Code, HostlerError, Report
from hostler.repository import (
    ArchivePrefix,
    Config,
    Container,
    ContainerPackages,
    Fetched,
    Fetcher,
    ModelSource,
    Package,
    read_container,
)
from hostler.serving import Archives

__all__ = ["Models", "Opened", "StoredModels", "source_of"]

_NONE: Final[Mapping[str, Any]] = {}


class Opened(Protocol):
    """A container's packages, which stay on disk until `release`."""

    @property
    def entry(self) -> str:
        """The package that answers."""
        ...

    @property
    def packages(self) -> Sequence[Package]:
        """It and those that it asks."""
        ...

    @property
    def token(self) -> str:
        """Of the content as the store has it: another archive has another one."""
        ...

    def release(self) -> None:
        """They may be removed from the disk. Idempotent."""
        ...


class Models(Protocol):
    """What turns container definitions into something that can be hosted."""

    async def open(
        self, name: str, definition: Document, instances: int, timeout_s: float, report: Report
    ) -> Opened:
        """Fetch and read; the entry is called `name`. `timeout_s`: of the download.

        Raises: HostlerError that says what of the model is missing or wrong.
        """
        ...

    def archives(self, definition: Document, instances: int) -> Archives:
        """Those under the prefix of a multi-model container. Raises: INVALID_ARGUMENT."""
        ...


class _OpenedModel:
    """Packages, and the folder that they lie in."""

    def __init__(self, fetched: Fetched, read: ContainerPackages) -> None:
        self.entry = read.entry
        self.packages: Sequence[Package] = read.packages
        self.token = fetched.token
        self._fetched = fetched

    def release(self) -> None:
        self._fetched.release()


class StoredModels:
    """Models in object stores, by way of the disk cache."""

    def __init__(self, fetcher: Fetcher, config: Config) -> None:
        self._fetcher = fetcher
        self._config = config

    async def open(
        self, name: str, definition: Document, instances: int, timeout_s: float, report: Report
    ) -> Opened:
        """See `Models`."""
        source = source_of(definition)
        container = _container(definition)
        fetched = await self._fetcher.fetch(source, report, timeout_s)
        try:
            report(f"reading what {source.url} holds")
            read = await asyncio.to_thread(
                read_container, name, fetched.folder, fetched.token, container, instances,
                self._config,
            )  # fmt: skip
        except OSError as error:
            fetched.release()
            raise HostlerError(
                Code.UNAVAILABLE, f"'{fetched.folder}' cannot be read: {error}"
            ) from error
        except BaseException:
            fetched.release()
            raise
        return _OpenedModel(fetched, read)

    def archives(self, definition: Document, instances: int) -> Archives:
        """See `Models`."""
        container = _container(definition)
        prefix = source_of(definition).url
        return ArchivePrefix(self._fetcher, prefix, container, instances, self._config)


def _container(definition: Document) -> Container:
    environment = {str(k): str(v) for k, v in (definition.get("Environment") or _NONE).items()}
    return Container(image=str(definition.get("Image", "")), environment=environment)


def source_of(definition: Document) -> ModelSource:
    """Where ModelDataUrl or ModelDataSource point to. Pure.

    Raises: INVALID_ARGUMENT where there is neither: images are not run here, so that a model
    cannot come from one.
    """
    given = (definition.get("ModelDataSource") or _NONE).get("S3DataSource") or _NONE
    if given:
        return ModelSource(
            url=str(given["S3Uri"]),
            prefix=given.get("S3DataType") == "S3Prefix",
            compressed=given.get("CompressionType", "None") == "Gzip",
        )
    url = definition.get("ModelDataUrl")
    if url:
        return ModelSource(url=str(url))
    raise HostlerError(
        Code.INVALID_ARGUMENT,
        f"the container (image '{definition.get('Image', '')}') has neither ModelDataUrl nor "
        "ModelDataSource; images are not run here, so give it the model's archive",
    )
