"""The archives of a multi-model container, by their keys below a prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from hostler.core import Code, HostlerError, Report
from hostler.repository.config import Config
from hostler.repository.containers import read_container
from hostler.repository.fetch.fetcher import Fetched, Fetcher
from hostler.repository.fetch.source import ModelSource, check_target
from hostler.repository.package import Package
from hostler.repository.reading import Container, ContainerPackages

__all__ = ["Archive", "ArchivePrefix"]


def _unheard(line: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive, unpacked and read. See `serving.endpoints.ports.Archive`."""

    token: str
    entry: str
    packages: Sequence[Package]
    fetched: Fetched

    def release(self) -> None:
        """It may be removed from the disk. Idempotent."""
        self.fetched.release()


class ArchivePrefix:
    """The archives `<prefix_url>/<target>`. See `serving.endpoints.ports.Archives`.

    An archive that was removed from the disk and is fetched again lies at the same path, as long
    as the store has the same content; one that was replaced lies at another.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        prefix_url: str,
        container: Container,
        instances: int,
        config: Config,
    ) -> None:
        self._fetcher = fetcher
        self._prefix_url = prefix_url.rstrip("/")
        self._container = container
        self._instances = instances
        self._config = config

    async def open(self, target: str, name: str, report: Report = _unheard) -> Archive:
        """Fetch, unpack and read one, unless it is there already. `report`: see `Fetcher.fetch`.

        Raises: NOT_FOUND; INVALID_ARGUMENT, UNIMPLEMENTED for a name or an archive that cannot be
        used; UNAVAILABLE; RESOURCE_EXHAUSTED for the disk's quota; DEADLINE_EXCEEDED.
        """
        fetched = await self._fetcher.fetch(self._source(target), report)
        try:
            found = await asyncio.to_thread(self._read, name, fetched)
        except OSError as error:
            fetched.release()
            raise HostlerError(
                Code.UNAVAILABLE, f"model '{name}': '{fetched.folder}' cannot be read: {error}"
            ) from error
        except BaseException:
            fetched.release()
            raise
        return Archive(fetched.token, found.entry, found.packages, fetched)

    async def token(self, target: str) -> str:
        """What the store has under this name now, without fetching it. Raises: as `open`."""
        return await self._fetcher.token(self._source(target))

    def _source(self, target: str) -> ModelSource:
        check_target(target)
        # Keys of buckets stand in URLs as they are, paths are percent-encoded.
        is_path = self._prefix_url.startswith(("file:", "http:", "https:"))
        key = quote(target) if is_path else target
        return ModelSource(f"{self._prefix_url}/{key}")

    def _read(self, name: str, fetched: Fetched) -> ContainerPackages:
        return read_container(
            name, fetched.folder, fetched.token, self._container, self._instances, self._config
        )
