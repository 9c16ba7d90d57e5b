"""The audit log: who has changed what, who was refused, and if wanted who has asked what.

One JSON object a line. Lines are handed to a thread, so that no request waits for a disk; when the
thread is too slow lines are dropped, counted, and the number is written in their place.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final

import orjson

from hostler.core import Clock, Code, HostlerError

__all__ = ["Audit", "Line"]

log = logging.getLogger("hostler.access")

Line = Mapping[str, str]

_LINES_AT_ONCE: Final = 256
_JOIN_S: Final = 10.0


class Audit:
    """Appends to one file from `start` to `stop`.

    A file that is renamed or removed by others (logrotate) is made anew. One that reaches
    `bytes_max` is renamed to `<file>.1`, in place of the one before; 0 for never.
    """

    def __init__(self, path: Path, clock: Clock, *, lines_max: int, bytes_max: int) -> None:
        self._path = path
        self._wall = clock.wall
        self._bytes_max = bytes_max
        self._queue: queue.Queue[tuple[float, Line] | None] = queue.Queue(lines_max)
        self._thread: threading.Thread | None = None
        self._file: FileIO | None = None
        self._failed = False
        self._told = 0
        self._refused = 0  # by the loop's thread
        self._lost = 0  # by the writer's

    def start(self) -> None:
        """Open the file. Blocking. Raises: INVALID_ARGUMENT if it cannot be written."""
        try:
            self._file = self._open()
        except OSError as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"cannot write the audit log {self._path} (gateway.audit_file): {error.strerror}",
            ) from None
        self._thread = threading.Thread(target=self._run, name="hostler-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is there and close. Blocking, for some seconds at most. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._queue.put(None, timeout=_JOIN_S)
            except queue.Full:
                log.error("access.audit_stuck", extra={"event": {"file": str(self._path)}})
                return
            thread.join(_JOIN_S)

    @property
    def dropped(self) -> int:
        """Lines that were lost so far: too many, or not to be written."""
        return self._refused + self._lost

    def write(self, line: Line) -> None:
        """Note something. Never blocks: a line too many is dropped and counted. Loop thread."""
        try:
            self._queue.put_nowait((self._wall(), line))
        except queue.Full:
            self._refused += 1

    def _run(self) -> None:
        last = False
        while not last:
            items = [self._queue.get()]
            while len(items) < _LINES_AT_ONCE and not self._queue.empty():
                items.append(self._queue.get())
            last = None in items
            self._append([_text(*item) for item in items if item is not None])
        if self._file is not None:
            self._file.close()

    def _append(self, lines: list[bytes]) -> None:
        dropped = self.dropped - self._told
        said = [_text(self._wall(), {"outcome": "dropped", "reason": f"{dropped}"})]
        try:
            file = self._current()
            text = b"".join(lines + said if dropped else lines)
            if file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._lost += len(lines)
            if not self._failed:
                self._failed = True
                event = {"file": str(self._path), "error": error.strerror or str(error)}
                log.error("access.audit_failed", extra={"event": event})
            return
        self._failed = False
        if dropped:
            self._told += dropped
            log.error("access.audit_dropped", extra={"event": {"lines": dropped}})

    def _current(self) -> FileIO:
        """The file under its name, however often it was moved away."""
        file = self._file
        if file is not None:
            mine = os.fstat(file.fileno())
            if self._bytes_max and mine.st_size >= self._bytes_max:
                os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev):
                return file
            file.close()
            self._file = None
        self._file = file = self._open()
        return file

    def _open(self) -> FileIO:
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(number, "ab", buffering=0)


def _text(wall: float, line: Line) -> bytes:
    when = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    fields = {"time": when, **line}
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # text that UTF-8 cannot carry
        sane = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
        return orjson.dumps(sane, option=orjson.OPT_APPEND_NEWLINE)
