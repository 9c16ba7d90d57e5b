"""Resources as rows: the nouns of the store that the control plane keeps its records in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["DATABASE_FILE", "Query", "Resource", "Resources"]

DATABASE_FILE: Final = "hostler.db"
"""In the state folder, where no database server is asked for."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One row. `version`: counts its changes from 1 on; a change must name the one it saw.

    `kind`: model, endpoint-config, endpoint, scalable-target, scaling-policy, ... `name`: unique
    within its kind, compared by its bytes. `arn`: unique, never changes. `status`: "" where a kind
    has none. `document`: its record as plain JSON. Text holds no NUL.
    """

    kind: str
    name: str
    arn: str
    status: str
    created_at: float
    modified_at: float
    document: dict[str, Any]
    version: int = 1


@dataclass(frozen=True, slots=True)
class Query:
    """A page of resources of one kind. `sort_by`: name, created_at, modified_at or status.

    Ties go by name, in the same direction. Bounds are exclusive. `after`: (value of
    `sort_by`, name) of the last row seen. `name_contains`: case counts.
    """

    kind: str
    sort_by: str = "created_at"
    descending: bool = False
    limit: int = 10
    after: tuple[str | float, str] | None = None
    name_contains: str = ""
    status: str = ""
    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None


class Resources(Protocol):
    """Where records are kept. The methods block, so that they are called in a thread.

    Each change is one transaction, on disk when the method returns. Raises everywhere: UNAVAILABLE
    where the database cannot be reached; a change may or may not have been made then.
    """

    @property
    def place(self) -> str:
        """Where they are kept, in words, without secrets."""
        ...

    def get(self, kind: str, name: str) -> Resource | None:
        """One resource, or None."""
        ...

    def page(self, query: Query) -> list[Resource]:
        """At most `limit` resources, in order."""
        ...

    def all(self, kind: str) -> list[Resource]:
        """Every resource of a kind, by name."""
        ...

    def add(self, resource: Resource, tags: Mapping[str, str]) -> bool:
        """Write a new one with its tags; False, with nothing written, if name or ARN is taken."""
        ...

    def put(self, resource: Resource) -> bool:
        """Replace the one of this version and count it up; False if it has changed or gone."""
        ...

    def remove(self, kind: str, name: str) -> bool:
        """Remove it and its tags; False if it was not there."""
        ...

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, {} for none."""
        ...

    def set_tags(self, arn: str, added: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Add or replace some tags and remove others, in one step. Raises: NOT_FOUND."""
        ...

    def close(self) -> None:
        """Let go of the database. Idempotent."""
        ...
