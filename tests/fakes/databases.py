"""PostgreSQL databases of a test's own, on the server that listens on this machine, if any."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

__all__ = ["new_database", "run_sql"]

_HOST, _PORT, _USER = "127.0.0.1", 5432, "postgres"


@contextmanager
def new_database(name: str) -> Iterator[str]:
    """The URL of an empty database; skips the test where no PostgreSQL listens."""
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex((_HOST, _PORT)) != 0:
            pytest.skip(f"no PostgreSQL listens on {_HOST}:{_PORT}")
    # A language whose order of letters is not that of their bytes, where PostgreSQL brings it.
    icu = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
    try:
        run_sql("postgres", f"CREATE DATABASE {name} TEMPLATE template0 {icu}")
    except psycopg.Error:
        run_sql("postgres", f"CREATE DATABASE {name}")
    try:
        yield f"postgresql://{_USER}@{_HOST}:{_PORT}/{name}"
    finally:
        run_sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def run_sql(database: str, statement: str) -> list[tuple[Any, ...]]:
    """What a statement answers, on a connection of its own."""
    with psycopg.connect(
        host=_HOST, port=_PORT, user=_USER, dbname=database, autocommit=True
    ) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []
