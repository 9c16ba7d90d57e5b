"""What endpoints need of rooms above and beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hostler.core import Report
from hostler.repository import Package

__all__ = ["Archive", "Archives"]


class Archive(Protocol):
    """One archive, unpacked on disk and read; it stays there until `release`.

    `token`: changes whenever the archive in the store does. `entry`: the name of the package that
    answers; `packages`: it and those that it asks (the models of an ensemble), all under names
    that begin with the entry's.
    """

    @property
    def token(self) -> str:
        """What it was made of."""
        ...

    @property
    def entry(self) -> str:
        """The package to ask."""
        ...

    @property
    def packages(self) -> Sequence[Package]:
        """To be hosted."""
        ...

    def release(self) -> None:
        """It may be removed from the disk. Idempotent."""
        ...


class Archives(Protocol):
    """The archives under the prefix of a multi-model container."""

    async def open(self, target: str, name: str, report: Report) -> Archive:
        """Fetch, unpack and read one, unless it is there already; `name`: for its entry.

        `report` gets lines of progress, such as why the store is asked once more.

        Raises: NOT_FOUND; INVALID_ARGUMENT for a name or an archive that cannot be used;
        UNAVAILABLE where the store cannot be reached; RESOURCE_EXHAUSTED for the disk's quota.
        """
        ...

    async def token(self, target: str) -> str:
        """What the store has under this name now, without fetching it. Raises: as `open`."""
        ...
