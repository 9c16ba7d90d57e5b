"""Opening the database of records: the lock, the migrations, then the records."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, exc

from hostler.core import Code, HostlerError
from hostler.storage.config import Config
from hostler.storage.sql.engine import (
    WRITES,
    failure,
    place_of,
    postgresql_engine,
    sqlite_engine,
)
from hostler.storage.sql.migrate import migrate
from hostler.storage.sql.ownership import FolderLock, Ownership, SessionLock
from hostler.storage.sql.resources import DATABASE_FILE
from hostler.storage.sql.sql_resources import SqlResources

__all__ = ["open_database"]


def open_database(config: Config, state_dir: Path) -> SqlResources:
    """Blocks. Raises: UNAVAILABLE, INVALID_ARGUMENT: see `hostler.storage.open_resources`."""
    engine: Engine
    owner: Ownership
    connections: WeakSet[Any] = WeakSet()
    if config.database_url:
        engine = postgresql_engine(config, connections)
        owner = SessionLock(engine)
    else:
        state_dir = state_dir.absolute()
        _make(state_dir)
        engine = sqlite_engine(state_dir / DATABASE_FILE, config.database_timeout_s)
        owner = FolderLock(state_dir)
    with contextlib.ExitStack() as undo:
        undo.callback(engine.dispose)
        try:
            owner.take()
        except OSError as error:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"the state folder {state_dir} cannot be locked: {error.strerror}; mend that or "
                "set --state-dir to another",
            ) from None
        undo.callback(owner.release)
        try:
            with engine.connect().execution_options(**{WRITES: True}) as connection:
                migrate(connection, place_of(engine))
                with connection.begin():
                    owner.begin(connection)
        except exc.SQLAlchemyError as error:
            raise failure(error, place_of(engine)) from None
        undo.pop_all()
    return SqlResources(engine, owner, connections)


def _make(folder: Path) -> None:
    """The folder and an empty database, for its owner alone: containers' variables hold secrets.

    What SQLite lays beside the database later has the mode of the database.
    """
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostlerError(
            Code.UNAVAILABLE,
            f"the state folder {folder} cannot be made: {error.strerror}; mend that or set "
            "--state-dir to another",
        ) from None
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(folder / DATABASE_FILE, flags, 0o600))
