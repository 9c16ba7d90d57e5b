"""The keys that are in force: read from their file, and read again whenever that changes."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hostler.core import Code, HostlerError
from hostler.gateway.access.keys import Keys, parse_keys

__all__ = ["Keyring", "Parse", "read_keys"]

log = logging.getLogger("hostler.access")

Parse = Callable[[bytes, str], object]
"""(content, name of the file) -> plain values; `config.parse_document`."""

_FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_OPEN_TO_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP

_Seen = tuple[int, int, int, int] | None
"""What tells one state of the file from another; None for no file."""


def read_keys(path: Path, parse: Parse) -> tuple[Keys, list[str]]:
    """The keys of a file, and warnings about it. Blocking.

    Raises: HostlerError naming the file and what is wrong; PERMISSION_DENIED where others may read
    or write it.
    """
    content, warnings = _read(path)
    try:
        return parse_keys(parse(content, str(path))), warnings
    except HostlerError as error:
        named = str(path) in error.message
        message = error.message if named else f"keys file {path}: {error.message}"
        raise HostlerError(error.code, message) from None


class Keyring:
    """`keys`: replaced as a whole, never changed.

    `adopt`: called with the new ones, in the loop. A file that cannot be read or makes no sense
    leaves the keys as they are; that is logged once a change.
    """

    def __init__(self, path: Path, parse: Parse, adopt: Callable[[Keys], None]) -> None:
        self._path = path
        self._parse = parse
        self._adopt = adopt
        self._seen: _Seen = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, poll_s: float) -> None:
        """Read the file, then look at it again every `poll_s`. Raises: as `read_keys`."""
        self._seen = await asyncio.to_thread(_look, self._path)
        await self._load("access.keys_loaded")
        self._task = asyncio.get_running_loop().create_task(self._watch(poll_s))

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def look(self) -> None:
        """Read the file if it has changed; what is wrong with it is logged."""
        seen = await asyncio.to_thread(_look, self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            await self._load("access.keys_reloaded")
        except HostlerError as error:
            event = {"file": str(self._path), "error": error.message}
            log.error("access.keys_refused", extra={"event": event})

    async def _watch(self, poll_s: float) -> None:
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.look()
            except Exception:
                log.exception("access.keys_watch", extra={"event": {"file": str(self._path)}})

    async def _load(self, event: str) -> None:
        keys, warnings = await asyncio.to_thread(read_keys, self._path, self._parse)
        self._adopt(keys)
        for warning in warnings:
            log.warning("access.keys_warning", extra={"event": {"warning": warning}})
        log.info(event, extra={"event": {"file": str(self._path), "keys": len(keys.by_id)}})


def _look(path: Path) -> _Seen:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _read(path: Path) -> tuple[bytes, list[str]]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HostlerError(
            Code.NOT_FOUND,
            f"cannot read the keys file {path} (gateway.keys_file): {error.strerror}",
        ) from None
    if mode & _OPEN_TO_OTHERS:
        raise HostlerError(
            Code.PERMISSION_DENIED,
            f"the keys file {path} holds secrets, and its mode {stat.S_IMODE(mode):04o} lets "
            f"others read it or its group write it: chmod 600 {path}",
        )
    if len(content) > _FILE_BYTES_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"the keys file {path} has more than {_FILE_BYTES_MAX} bytes; is this the right file?",
        )
    if mode & stat.S_IRGRP:
        return content, [f"the group of {path} may read the secrets in it; chmod 600 is safer"]
    return content, []
