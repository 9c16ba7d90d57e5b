"""Engines: SQLite as safe as it gets, PostgreSQL by way of psycopg 3; and what they raise."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from hostler.core import Code, HostlerError
from hostler.storage.config import Config

__all__ = [
    "WRITES",
    "failure",
    "is_lost",
    "place_of",
    "postgresql_engine",
    "sever",
    "sqlite_engine",
]

WRITES: Final = "hostler_writes"
"""Execution option of connections that write."""

_CONNECTIONS_MAX: Final = 8
_NAME_MAX: Final = 63  # of PostgreSQL's application_name
_KEEPALIVES: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms
}
_CODES: Final[tuple[tuple[type[exc.SQLAlchemyError], Code], ...]] = (
    (exc.IntegrityError, Code.NOT_FOUND),  # a foreign key: see `SqlResources.set_tags`
    (exc.DataError, Code.INVALID_ARGUMENT),
    (exc.ProgrammingError, Code.INTERNAL),
    (exc.NotSupportedError, Code.INTERNAL),
    (exc.DBAPIError, Code.UNAVAILABLE),
    (exc.TimeoutError, Code.UNAVAILABLE),  # no connection was free
)


def sqlite_engine(path: Path, timeout_s: float) -> Engine:
    """A file, written ahead (WAL) and synced with every transaction.

    Writers take turns at BEGIN, so that none fails half way. Source: https://sqlite.org/wal.html;
    SQLAlchemy, "Serializable isolation / Savepoints / Transactional DDL" of pysqlite.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": timeout_s},
        pool_size=_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=timeout_s,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's sqlite3 begins no transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def postgresql_engine(config: Config, connections: WeakSet[Any]) -> Engine:
    """A database by URL. `connections`: gets all that are made, for `sever`.

    Raises: INVALID_ARGUMENT for the URL; UNAVAILABLE without psycopg.
    """
    try:
        url = make_url(config.database_url)
    except (exc.ArgumentError, ValueError):
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            "storage.database_url is not like postgresql://USER:PASSWORD@HOST:PORT/NAME",
        ) from None
    seconds = max(2, round(config.database_timeout_s))  # libpq takes no less
    name = f"hostler {os.getpid()} on {socket.gethostname()}"[:_NAME_MAX]
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={
                "application_name": name,
                "connect_timeout": seconds,
                "options": f"{_options(url)} -c lock_timeout={seconds}s".strip(),
                **_KEEPALIVES,
            },
            pool_size=_CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=config.database_timeout_s,
            pool_pre_ping=True,
        )
    except ImportError:
        raise HostlerError(
            Code.UNAVAILABLE,
            "storage.database_url names PostgreSQL, but psycopg is not installed; run "
            "pip install 'hostler[postgresql]'",
        ) from None
    event.listen(engine, "connect", lambda connection, _: connections.add(connection))
    return engine


def sever(connections: WeakSet[Any]) -> None:
    """Cut PostgreSQL's connections: whoever waits for an answer in a thread gets an error now."""
    try:
        known = list(connections)
    except RuntimeError:  # a thread has made one meanwhile
        known = list(connections)
    for connection in known:
        # Closing it would pull it from under that thread.
        with (
            contextlib.suppress(Exception),
            socket.socket(fileno=os.dup(connection.fileno())) as its,
        ):
            its.shutdown(socket.SHUT_RDWR)


def _options(url: URL) -> str:
    given = url.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def place_of(engine: Engine) -> str:
    """The database, for messages: without its password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"the database {url.database}"
    url = url.set(drivername="postgresql", query={})
    return f"the database {url.render_as_string(hide_password=True)}"


def is_lost(error: exc.SQLAlchemyError) -> bool:
    """Whether the connection has gone, so that another one may work."""
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def failure(error: exc.SQLAlchemyError, place: str) -> HostlerError:
    """What has happened, for the person who can act on it."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    reason = " ".join(str(original or error).split())[:300]
    hint = "" if code is not Code.UNAVAILABLE else "; check that it runs, and its disk"
    return HostlerError(code, f"{place}: {reason}{hint}")
