"""SQL databases: the engine, the migrations, and resources as rows. Loads SQLAlchemy when asked."""

from __future__ import annotations

from pathlib import Path

from hostler.storage.config import Config
from hostler.storage.sql.resources import DATABASE_FILE, Query, Resource, Resources

__all__ = ["Query", "Resource", "Resources", "has_resources", "open_resources"]


def has_resources(config: Config, state_dir: Path) -> bool:
    """Whether an earlier run may have left records; a database that is asked for counts."""
    return bool(config.database_url) or (state_dir / DATABASE_FILE).exists()


def open_resources(config: Config, state_dir: Path) -> Resources:
    """The records of the control plane, which are this process's alone until `close`. Blocks.

    In PostgreSQL where `database_url` says so, else in `<state_dir>/hostler.db`. Makes what is
    missing: the folder, the tables.
    Raises: UNAVAILABLE if another server has them (saying which), or if the database cannot be
    reached, written, or is newer than this hostler; INVALID_ARGUMENT for its URL.
    """
    from hostler.storage.sql.opening import (  # noqa: PLC0415 - SQLAlchemy takes 0.3 s and 20 MB
        open_database,
    )

    return open_database(config, state_dir)
