"""Resources in a SQL database, one transaction a change. See `Resources` for what is promised."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakSet

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    delete,
    exc,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from hostler.core import Code, HostlerError
from hostler.storage.sql.engine import WRITES, failure, is_lost, place_of, sever
from hostler.storage.sql.ownership import Ownership
from hostler.storage.sql.resources import Query, Resource
from hostler.storage.sql.tables import RESOURCES, TAGS

__all__ = ["SqlResources"]

T = TypeVar("T")

_SORTS: Final = {
    "name": RESOURCES.c.name,
    "created_at": RESOURCES.c.created_at,
    "modified_at": RESOURCES.c.modified_at,
    "status": RESOURCES.c.status,
}
_TIMES: Final = ("created_at", "modified_at")


class SqlResources:
    """`Resources` by way of SQLAlchemy; safe to call from threads.

    `owner`: taken already, and released by `close`. `connections`: those of `engine` and `owner`
    that `close` does not wait for.
    """

    def __init__(
        self, engine: Engine, owner: Ownership, connections: WeakSet[Any] | None = None
    ) -> None:
        self._engine = engine
        self._connections: WeakSet[Any] = WeakSet() if connections is None else connections
        self._writer = engine.execution_options(**{WRITES: True})
        self._owner = owner
        self._place = place_of(engine)
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._insert: Any = sqlite.insert if self._is_sqlite else postgresql.insert
        # SQLite lets one write at a time, and others find out by trying again and again.
        self._turn = threading.Lock() if self._is_sqlite else threading.Semaphore(8)
        self._closed = False

    @property
    def place(self) -> str:
        """See Resources."""
        return self._place

    # -- reading ---------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Resource | None:
        """See Resources."""
        query = select(RESOURCES).where(RESOURCES.c.kind == kind, RESOURCES.c.name == name)
        row = self._read(lambda connection: connection.execute(query).first())
        return None if row is None else _resource(row)

    def page(self, query: Query) -> list[Resource]:
        """See Resources. Raises: INVALID_ARGUMENT for an order or a position that there is not."""
        statement = self._page(query)
        rows = self._read(lambda connection: connection.execute(statement).all())
        return [_resource(row) for row in rows]

    def all(self, kind: str) -> list[Resource]:
        """See Resources."""
        query = select(RESOURCES).where(RESOURCES.c.kind == kind).order_by(RESOURCES.c.name)
        rows = self._read(lambda connection: connection.execute(query).all())
        return [_resource(row) for row in rows]

    def tags(self, arn: str) -> dict[str, str]:
        """See Resources. In the order of their keys."""
        query = select(TAGS.c.key, TAGS.c.value).where(TAGS.c.arn == arn).order_by(TAGS.c.key)
        rows = self._read(lambda connection: connection.execute(query).all())
        return {key: value for key, value in rows}

    def _page(self, query: Query) -> Select[Any]:
        by, name = _SORTS.get(query.sort_by), RESOURCES.c.name
        if by is None:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"resources are sorted by {', '.join(_SORTS)}, not by '{query.sort_by}'",
            )
        keys = [name] if by is name else [by, name]
        statement = select(RESOURCES).where(RESOURCES.c.kind == query.kind, *self._filters(query))
        if query.after is not None:
            last = tuple_(*_position(query))
            here = tuple_(*keys)
            statement = statement.where(here < last if query.descending else here > last)
        order = [key.desc() if query.descending else key.asc() for key in keys]
        return statement.order_by(*order).limit(max(0, query.limit))

    def _filters(self, query: Query) -> list[ColumnElement[bool]]:
        columns = RESOURCES.c
        bounds: list[tuple[float | None, Callable[[float], ColumnElement[bool]]]] = [
            (query.created_after, columns.created_at.__gt__),
            (query.created_before, columns.created_at.__lt__),
            (query.modified_after, columns.modified_at.__gt__),
            (query.modified_before, columns.modified_at.__lt__),
        ]
        found = [compare(float(bound)) for bound, compare in bounds if bound is not None]
        if query.name_contains:
            find = func.instr if self._is_sqlite else func.strpos
            found.append(find(columns.name, query.name_contains) > 0)
        if query.status:
            found.append(columns.status == query.status)
        return found

    # -- writing ---------------------------------------------------------------------------

    def add(self, resource: Resource, tags: Mapping[str, str]) -> bool:
        """See Resources. False for an ARN that is taken, too."""
        values = {"kind": resource.kind, "name": resource.name, "version": resource.version}
        insertion = self._insert(RESOURCES).values(values | _content(resource))
        options = {"preserve_rowcount": True}  # else unknown for insertions

        def work(connection: Connection) -> bool:
            statement = insertion.on_conflict_do_nothing()
            if connection.execute(statement, execution_options=options).rowcount != 1:
                return False
            self._put_tags(connection, resource.arn, tags)
            return True

        return self._write(work)

    def put(self, resource: Resource) -> bool:
        """See Resources."""
        columns = RESOURCES.c
        statement = (
            update(RESOURCES)
            .where(columns.kind == resource.kind, columns.name == resource.name)
            .where(columns.version == resource.version)
            .values(_content(resource) | {"version": resource.version + 1})
        )
        return self._write(lambda connection: connection.execute(statement).rowcount == 1)

    def remove(self, kind: str, name: str) -> bool:
        """See Resources. Its tags go with it, by their foreign key."""
        statement = delete(RESOURCES).where(RESOURCES.c.kind == kind, RESOURCES.c.name == name)
        return self._write(lambda connection: connection.execute(statement).rowcount == 1)

    def set_tags(self, arn: str, added: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """See Resources. Raises: NOT_FOUND if there is no such resource."""

        def work(connection: Connection) -> None:
            if connection.scalar(select(RESOURCES.c.version).where(RESOURCES.c.arn == arn)) is None:
                raise HostlerError(Code.NOT_FOUND, f"there is no resource {arn}")
            if removed:
                connection.execute(
                    delete(TAGS).where(TAGS.c.arn == arn, TAGS.c.key.in_(list(removed)))
                )
            self._put_tags(connection, arn, added)

        self._write(work)

    def _put_tags(self, connection: Connection, arn: str, tags: Mapping[str, str]) -> None:
        if not tags:
            return
        # In one order for all, so that no two wait for one another.
        rows = [{"arn": arn, "key": key, "value": tags[key]} for key in sorted(tags)]
        insertion = self._insert(TAGS).values(rows)
        keys = [TAGS.c.arn, TAGS.c.key]
        connection.execute(
            insertion.on_conflict_do_update(
                index_elements=keys, set_={"value": insertion.excluded.value}
            )
        )

    def close(self) -> None:
        """See Resources."""
        self._closed = True
        self._owner.leave()
        sever(self._connections)
        self._engine.dispose()
        self._owner.release()

    # -- transactions ----------------------------------------------------------------------

    def _read(self, work: Callable[[Connection], T]) -> T:
        """Once more on another connection, if this one was lost."""
        try:
            return self._in(self._engine, work)
        except exc.SQLAlchemyError as error:
            if not is_lost(error):
                raise failure(error, self._place) from None
        try:
            return self._in(self._engine, work)
        except exc.SQLAlchemyError as error:
            raise failure(error, self._place) from None

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Once: where a connection is lost, nobody knows what has become of the transaction."""

        def owned(connection: Connection) -> T:
            self._owner.check_in(connection)
            return work(connection)

        with self._turn:
            self._check_open()
            self._owner.check()
            try:
                return self._in(self._writer, owned)
            except exc.SQLAlchemyError as error:
                raise failure(error, self._place) from None

    def _in(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        self._check_open()
        try:
            with engine.begin() as connection:
                return work(connection)
        except UnicodeEncodeError:
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"{self._place}: it takes text that UTF-8 can hold only"
            ) from None

    def _check_open(self) -> None:
        if self._closed:
            raise HostlerError(Code.UNAVAILABLE, f"{self._place} is closed: the server stops")


def _position(query: Query) -> tuple[str | float, ...]:
    """The values that the next row comes after."""
    assert query.after is not None
    value, name = query.after
    if query.sort_by == "name":
        return (name,)
    if isinstance(value, str) == (query.sort_by in _TIMES):
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{value!r} is no position in an order by {query.sort_by}"
        )
    return (value, name) if isinstance(value, str) else (float(value), name)


def _content(resource: Resource) -> dict[str, Any]:
    """What a change replaces."""
    return {
        "arn": resource.arn,
        "status": resource.status,
        "created_at": resource.created_at,
        "modified_at": resource.modified_at,
        "document": json.dumps(resource.document, separators=(",", ":")),
    }


def _resource(row: Row[Any]) -> Resource:
    return Resource(
        kind=row.kind,
        name=row.name,
        arn=row.arn,
        status=row.status,
        created_at=row.created_at,
        modified_at=row.modified_at,
        document=json.loads(row.document),
        version=row.version,
    )
