"""SQL databases: the engine, the migrations, and resources as rows. Loads SQLAlchemy when asked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hostler.core import Code, HostlerError
from hostler.storage.config import Config
from hostler.storage.sql.resources import DATABASE_FILE, Query, Resource, Resources

__all__ = ["Query", "Resource", "Resources", "check_folder", "has_resources", "open_resources"]


def has_resources(config: Config, state_dir: Path) -> bool:
    """Whether an earlier run may have left records; a database that is asked for counts."""
    return bool(config.database_url) or (state_dir / DATABASE_FILE).exists()


def check_folder(config: Config, state_dir: Path) -> None:
    """That records can be kept there, as far as it shows without making anything.

    Raises: UNAVAILABLE for a folder that cannot be made or written.
    """
    if config.database_url:
        return
    state_dir = state_dir.absolute()
    try:
        there = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
        wrong = 0 if there.is_dir() else errno.ENOTDIR if there != state_dir else errno.EEXIST
        places = [there, *(f for f in (state_dir / DATABASE_FILE,) if f.exists())]
    except OSError as error:
        places, there, wrong = [], state_dir, error.errno or errno.EIO
    if not wrong and not all(os.access(place, os.W_OK) for place in places):
        wrong = errno.EACCES
    if wrong:
        what = "written" if there == state_dir and wrong == errno.EACCES else "made"
        raise HostlerError(
            Code.UNAVAILABLE,
            f"the state folder {state_dir} cannot be {what}: {os.strerror(wrong)}; mend that or "
            "set --state-dir to another",
        )


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
