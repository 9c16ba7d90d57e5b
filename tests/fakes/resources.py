"""A store of resources in a dict, with the promises of `storage.Resources`."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hostler.core import Code, HostlerError
from hostler.storage import Query, Resource

__all__ = ["FakeResources"]


class FakeResources:
    """`faults`: raised by the next calls, one each. `closed`: nothing may be asked any more."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Resource] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.faults: list[Exception] = []
        self.losses = 0  # puts that somebody else wins
        self.closed = False
        self._lock = threading.Lock()

    place = "the memory of a test"

    def get(self, kind: str, name: str) -> Resource | None:
        self._check()
        row = self.rows.get((kind, name))
        return None if row is None else _copy(row)

    def page(self, query: Query) -> list[Resource]:
        self._check()

        def key(row: Resource) -> tuple[Any, str]:
            return (getattr(row, query.sort_by), row.name)

        rows = [row for row in self.rows.values() if _matches(row, query)]
        rows.sort(key=key, reverse=query.descending)
        if query.after is not None:
            after = query.after
            down = query.descending
            rows = [r for r in rows if (key(r) < after if down else key(r) > after)]
        return [_copy(row) for row in rows[: query.limit]]

    def all(self, kind: str) -> list[Resource]:
        self._check()
        return sorted(
            (_copy(r) for r in self.rows.values() if r.kind == kind), key=lambda r: r.name
        )

    def add(self, resource: Resource, tags: Mapping[str, str]) -> bool:
        self._check()
        with self._lock:
            if any(row.arn == resource.arn for row in self.rows.values()):
                return False
            if (resource.kind, resource.name) in self.rows:
                return False
            self.rows[resource.kind, resource.name] = _copy(resource)
            self.labels[resource.arn] = dict(tags)
            return True

    def put(self, resource: Resource) -> bool:
        self._check()
        with self._lock:
            key = (resource.kind, resource.name)
            old = self.rows.get(key)
            if old is not None and self.losses:
                self.losses -= 1
                self.rows[key] = old = replace(old, version=old.version + 1)
            if old is None or old.version != resource.version:
                return False
            self.rows[key] = replace(_copy(resource), version=old.version + 1)
            return True

    def remove(self, kind: str, name: str) -> bool:
        self._check()
        row = self.rows.pop((kind, name), None)
        if row is not None:
            self.labels.pop(row.arn, None)
        return row is not None

    def tags(self, arn: str) -> dict[str, str]:
        self._check()
        return dict(sorted(self.labels.get(arn, {}).items()))

    def set_tags(self, arn: str, added: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        self._check()
        if arn not in self.labels:
            raise HostlerError(Code.NOT_FOUND, f"there is no resource {arn}")
        for key in removed:
            self.labels[arn].pop(key, None)
        self.labels[arn].update(added)

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        assert not self.closed, "the store is closed"
        if self.faults:
            raise self.faults.pop(0)


def _matches(row: Resource, query: Query) -> bool:
    return (
        row.kind == query.kind
        and query.name_contains in row.name
        and query.status in ("", row.status)
        and (query.created_after is None or row.created_at > query.created_after)
        and (query.created_before is None or row.created_at < query.created_before)
        and (query.modified_after is None or row.modified_at > query.modified_after)
        and (query.modified_before is None or row.modified_at < query.modified_before)
    )


def _copy(row: Resource) -> Resource:
    """Through JSON, as a database does it: nothing is shared, and tuples become lists."""
    return replace(row, document=json.loads(json.dumps(row.document)))
