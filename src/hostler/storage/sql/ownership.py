"""One server at a time: whoever writes the records has the database for itself."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, exc, select, text, update

from hostler.core import Code, HostlerError
from hostler.storage.sql.engine import failure, place_of
from hostler.storage.sql.tables import OWNER

__all__ = ["FolderLock", "Ownership", "SessionLock"]

_PID_BYTES_MAX: Final = 32


class Ownership(Protocol):
    """The right to write. Held from `take` to `release`."""

    def take(self) -> None:
        """Get it. Raises: UNAVAILABLE naming who has it, and what to do."""
        ...

    def begin(self, connection: Connection) -> None:
        """Count us as the owner, now that the tables are there."""
        ...

    def check(self) -> None:
        """That it is still ours, before a transaction that writes. Raises: UNAVAILABLE."""
        ...

    def check_in(self, connection: Connection) -> None:
        """The same, inside of the transaction. Raises: UNAVAILABLE."""
        ...

    def leave(self) -> None:
        """It is not to be taken again; `release` follows."""
        ...

    def release(self) -> None:
        """Give it back. Idempotent."""
        ...


class FolderLock:
    """A lock on a file in the state folder; it goes with its process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor = -1

    def take(self) -> None:
        """See Ownership."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise HostlerError(
                Code.UNAVAILABLE,
                f"the state folder {self._path.parent} is used by another server"
                f"{f' (process {holder})' if holder else ''}; stop that one, or start this one "
                "with another --state-dir",
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def begin(self, connection: Connection) -> None:
        """See Ownership. Nobody takes a file's lock away."""

    def check(self) -> None:
        """See Ownership."""

    def check_in(self, connection: Connection) -> None:
        """See Ownership."""

    def leave(self) -> None:
        """See Ownership."""

    def release(self) -> None:
        """See Ownership. The file stays: removing it could remove the next owner's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SessionLock:
    """PostgreSQL's advisory lock of a session, on a connection of its own.

    With the connection the lock is lost, perhaps unnoticed. So each owner writes a new number into
    the table `owner`, and each of its transactions looks whether it is still there: who has lost
    the lock can write until the next owner comes, and never after.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._place = place_of(engine)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._epoch = 0
        self._leaving = False

    def take(self) -> None:
        """See Ownership."""
        if self._leaving:
            raise HostlerError(Code.UNAVAILABLE, f"{self._place} is closed: the server stops")
        try:
            with contextlib.ExitStack() as undo:
                connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                undo.callback(connection.close)
                connection.detach()  # not one of the pool's any more
                key = _key(connection.scalar(text("SELECT current_schema()")) or "")
                if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                    raise HostlerError(
                        Code.UNAVAILABLE,
                        f"{self._place} is used by another server{_holder(connection, key)}; stop "
                        "that one, or set storage.database_url to another database",
                    )
                undo.pop_all()
        except exc.SQLAlchemyError as error:
            raise failure(error, self._place) from None
        self._connection = connection

    def begin(self, connection: Connection) -> None:
        """See Ownership."""
        epoch = connection.scalar(
            update(OWNER).values(epoch=OWNER.c.epoch + 1).returning(OWNER.c.epoch)
        )
        assert epoch is not None, "the first migration has written the row"
        self._epoch = epoch

    def check(self) -> None:
        """See Ownership. Takes the lock again if its connection was lost."""
        with self._lock:
            try:
                if self._connection is not None:
                    self._connection.scalar(text("SELECT 1"))
                    return
            except exc.SQLAlchemyError:
                self._drop()
            self.take()

    def check_in(self, connection: Connection) -> None:
        """See Ownership."""
        # The row cannot be changed until this transaction ends.
        epoch = connection.scalar(select(OWNER.c.epoch).with_for_update(read=True))
        if epoch != self._epoch:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"{self._place} has been taken over by another server, which may have changed it; "
                "stop one of the two, then start this one anew",
            )

    def leave(self) -> None:
        """See Ownership."""
        self._leaving = True

    def release(self) -> None:
        """See Ownership."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                self._connection.close()
            self._connection = None


def _key(schema: str) -> int:
    """Which of the database's 2^64 locks: servers may have a schema each."""
    digest = hashlib.sha256(f"hostler:{schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _holder(connection: Connection, key: int) -> str:
    """Who has the lock, as far as PostgreSQL tells us."""
    row = connection.execute(
        text(
            "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
            "AND l.classid = :high AND l.objid = :low"
        ),
        {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF},
    ).first()
    return f" ({row[1]}, PostgreSQL process {row[0]})" if row is not None else ""
