"""Bringing a database's tables up to what this version of hostler works with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from hostler.core import Code, HostlerError

__all__ = ["HEAD", "migrate"]

HEAD: Final = "r0001_resources"
"""The newest migration; each is a file in migrations/versions."""

_FOLDER: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection, place: str) -> None:
    """Run the migrations that are missing, each in one transaction. Nobody else has this database.

    `place`: the database, for messages. Raises: UNAVAILABLE if its tables are newer than we are;
    what SQLAlchemy raises.
    """
    found = _revision(connection)
    connection.rollback()
    if found == HEAD:
        return
    from alembic import command  # noqa: PLC0415 - takes a quarter of a second, and is rarely needed
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise HostlerError(
            Code.UNAVAILABLE,
            f"{place} is at '{found}', which this version of hostler does not know: {error}; "
            "start the newer version that it was written by, or use another database",
        ) from None


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
