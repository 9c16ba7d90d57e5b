"""An object as a file, for readers that go back and forth in it.

The file has no name, so that it is gone whatever becomes of this process. It lies where the system
keeps temporary files (TMPDIR).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from hostler.core import Code, HostlerError
from hostler.jobs.transform.hands import Hands

__all__ = ["spooled"]


@asynccontextmanager
async def spooled(
    pieces: AsyncIterator[bytes], size: int, hands: Hands
) -> AsyncIterator[IO[bytes]]:
    """All pieces in a file, at its beginning. `size`: bytes expected, 0 where nobody knows.

    Raises: RESOURCE_EXHAUSTED where the disk has no room.
    """
    file = await hands.run(_opened, size)
    try:
        async for piece in pieces:
            try:
                await hands.run(file.write, piece)
            except OSError as error:
                raise _no_room(size, str(error.strerror)) from None
        file.seek(0)
        yield file
    finally:
        file.close()


def _opened(size: int) -> IO[bytes]:
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if size > free:
            raise _no_room(size, f"{free} are free")
        return tempfile.TemporaryFile(prefix="hostler-")
    except OSError as error:
        raise _no_room(size, str(error.strerror)) from None


def _no_room(size: int, reason: str) -> HostlerError:
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"a table of {size} bytes does not fit in '{tempfile.gettempdir()}', where it is kept "
        f"while it is read: {reason}; make room, or name another folder in TMPDIR",
    )
