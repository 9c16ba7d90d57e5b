"""Migrations: whole or not at all, one chain, and what they make is what the code works with."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from fakes.databases import new_database, run_sql
from sqlalchemy import create_engine

import hostler.storage
from hostler.core import Code, HostlerError
from hostler.storage import Config, Resource, open_resources
from hostler.storage.sql.migrate import HEAD
from hostler.storage.sql.tables import METADATA

FOLDER = Path(hostler.storage.__file__).parent / "sql" / "migrations"
ROW = Resource("model", "a", "arn:a", "", 1.0, 1.0, {})


def test_the_chain_has_one_end() -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def _differences(url: str) -> list[object]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    return found


def test_tables_are_as_the_code_has_them(tmp_path: Path) -> None:
    open_resources(Config(), tmp_path).close()
    assert _differences(f"sqlite:///{tmp_path}/hostler.db") == []


def test_tables_of_postgresql_are_as_the_code_has_them(tmp_path: Path) -> None:
    with new_database(f"hostler_{os.getpid()}_migrations") as url:
        open_resources(Config(database_url=url), tmp_path).close()
        assert _differences(url.replace("postgresql:", "postgresql+psycopg:")) == []


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    open_resources(Config(), tmp_path).close()
    with sqlite3.connect(tmp_path / "hostler.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999_future'")
    connection.close()
    for _ in range(2):  # and the lock is let go
        with pytest.raises(HostlerError, match="r9999_future") as raised:
            open_resources(Config(), tmp_path)
        assert raised.value.code is Code.UNAVAILABLE


def test_a_migration_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import alembic.op

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(alembic.op, "bulk_insert", fail)
        with pytest.raises(KeyboardInterrupt):
            open_resources(Config(), tmp_path)
    connection = sqlite3.connect(tmp_path / "hostler.db")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert not tables & {"resources", "tags", "owner"}
    found = open_resources(Config(), tmp_path)
    assert found.add(ROW, {})
    found.close()


def test_a_schema_of_its_own_is_a_database_of_its_own(tmp_path: Path) -> None:
    with new_database(f"hostler_{os.getpid()}_schemas") as url:
        stores = []
        for schema in ("one", "two"):
            run_sql(url.rpartition("/")[2], f"CREATE SCHEMA {schema}")
            config = Config(database_url=f"{url}?options=-csearch_path%3D{schema}")
            stores.append(open_resources(config, tmp_path))
        assert all([store.add(ROW, {}) for store in stores])
        for store in stores:
            store.close()


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("no-folder", lambda path: path.write_text(""), "cannot be made"),
        ("no-database", lambda path: _file(path, b"this is no database" * 99), "not a database"),
        ("a-folder", lambda path: (path / "hostler.db").mkdir(parents=True), "unable to open"),
    ],
)
def test_a_state_folder_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, make: object, reason: str
) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    for _ in range(2):
        with pytest.raises(HostlerError, match=reason) as raised:
            open_resources(Config(), tmp_path / name)
        assert raised.value.code is Code.UNAVAILABLE
        assert name in raised.value.message


def _file(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "hostler.db").write_bytes(content)


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    open_resources(Config(), tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
