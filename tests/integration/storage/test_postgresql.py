"""What can happen between a server and its PostgreSQL."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fakes.databases import new_database, run_sql
from sqlalchemy import event

from hostler.core import Code, HostlerError
from hostler.storage import Config, Resource, Resources, open_resources

ROW = Resource("model", "a", "arn:a", "", 1.0, 1.0, {"n": 0})


@pytest.fixture
def url() -> Iterator[str]:
    with new_database(f"hostler_{os.getpid()}_{random.randrange(10**9)}") as found:
        yield found


@pytest.fixture
def resources(url: str, tmp_path: Path) -> Iterator[Resources]:
    found = open_resources(Config(database_url=url, database_timeout_s=2.0), tmp_path)
    found.add(ROW, {"k": "v"})
    yield found
    found.close()


def _end_sessions(url: str) -> int:
    """As a database that is restarted does."""
    name = url.rpartition("/")[2]
    ended = run_sql(
        "postgres",
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    return len(ended)


def test_lost_connections_cost_a_reader_nothing(resources: Resources, url: str) -> None:
    for _ in range(3):
        assert _end_sessions(url) >= 1
        assert resources.get("model", "a") == ROW
        assert resources.tags("arn:a") == {"k": "v"}


def _lose_connection_in_next_statement(resources: Resources) -> list[int]:
    """The sessions that were ended while they were at work; one, once a statement was sent."""
    ended: list[int] = []

    @event.listens_for(resources._engine, "before_cursor_execute")  # type: ignore[attr-defined]
    def _end(connection: Any, *_: Any) -> None:
        if not ended:
            ended.append(connection.connection.dbapi_connection.info.backend_pid)
            run_sql("postgres", f"SELECT pg_terminate_backend({ended[0]}, 5000)")

    return ended


def test_a_read_that_loses_its_connection_is_done_again(resources: Resources) -> None:
    ended = _lose_connection_in_next_statement(resources)
    assert resources.get("model", "a") == ROW
    assert len(ended) == 1


def test_a_write_that_loses_its_connection_is_not_done_twice(resources: Resources) -> None:
    assert resources.get("model", "a") == ROW
    resources._owner.check = lambda: None  # type: ignore[attr-defined]  # its connection stays
    ended = _lose_connection_in_next_statement(resources)
    with pytest.raises(HostlerError) as raised:
        resources.put(replace(ROW, document={"n": 1}))
    assert raised.value.code is Code.UNAVAILABLE
    assert len(ended) == 1
    assert resources.put(replace(ROW, document={"n": 2}))


def test_a_writer_takes_its_lock_again(resources: Resources, url: str, tmp_path: Path) -> None:
    _end_sessions(url)
    assert resources.put(replace(ROW, document={"n": 1}))
    with pytest.raises(HostlerError, match="another server"):
        open_resources(Config(database_url=url), tmp_path)


def test_who_was_replaced_writes_no_more(resources: Resources, url: str, tmp_path: Path) -> None:
    _end_sessions(url)  # the lock of the first is gone, and it does not know
    second = open_resources(Config(database_url=url), tmp_path)
    for change in (
        lambda: resources.put(replace(ROW, document={"n": 1})),
        lambda: resources.add(replace(ROW, name="b", arn="arn:b"), {}),
        lambda: resources.remove("model", "a"),
        lambda: resources.set_tags("arn:a", {"k": "w"}),
    ):
        with pytest.raises(HostlerError) as raised:
            change()
        assert raised.value.code is Code.UNAVAILABLE
    assert second.all("model") == [ROW]
    assert second.put(replace(ROW, document={"n": 2}))
    second.close()
    # Nor when the lock is free again: what it remembers of the records may be old.
    with pytest.raises(HostlerError, match="taken over"):
        resources.put(replace(ROW, version=2))


def test_a_database_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    config = Config(
        database_url="postgresql://me:hunter2@127.0.0.1:9/records", database_timeout_s=2.0
    )
    with pytest.raises(HostlerError) as raised:
        open_resources(config, tmp_path)
    assert raised.value.code is Code.UNAVAILABLE
    assert "127.0.0.1:9/records" in raised.value.message
    assert "hunter2" not in raised.value.message


@pytest.mark.parametrize(
    "url", ["postgresql://host:port/db", "postgresql+psycopg://127.0.0.1:99999999/db"]
)
def test_a_url_that_cannot_be_used_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(HostlerError) as raised:
        open_resources(Config(database_url=url, database_timeout_s=2.0), tmp_path)
    assert raised.value.code in (Code.INVALID_ARGUMENT, Code.UNAVAILABLE)


def test_the_other_spelling_of_the_scheme(url: str, tmp_path: Path) -> None:
    other = url.replace("postgresql://", "postgres://")
    open_resources(Config(database_url=other), tmp_path).close()


def test_text_with_a_nul_is_refused(resources: Resources) -> None:
    with pytest.raises(HostlerError) as raised:
        resources.add(replace(ROW, name="a\0b", arn="arn:b"), {})
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_closing_does_not_wait_for_statements_that_hang(resources: Resources, url: str) -> None:
    """Nor for its lock, which is looked at before each change."""
    assert resources.put(replace(ROW, document={"n": 1}))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE resources, owner IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(resources.get, "model", "a") for _ in range(2)]
            calls.append(threads.submit(resources.put, replace(ROW, version=2)))
            while _waiting(url) < len(calls):
                time.sleep(0.01)
            begun = time.monotonic()
            resources.close()
            errors = [call.exception(10) for call in calls]
            assert time.monotonic() - begun < 1.5, "they would wait for 2 s, the time-out"
    for error in errors:
        assert isinstance(error, HostlerError)
        assert error.code is Code.UNAVAILABLE


def test_who_closes_does_not_take_the_lock_again(resources: Resources, url: str) -> None:
    owner = resources._owner  # type: ignore[attr-defined]
    owner.leave()
    _end_sessions(url)
    with pytest.raises(HostlerError, match="is closed"):
        owner.check()


def _waiting(url: str) -> int:
    """Sessions that wait for a lock."""
    name = url.rpartition("/")[2]
    ((count,),) = run_sql(
        "postgres",
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND wait_event_type = 'Lock'",
    )
    return int(count)
