"""One step of building an environment: a command in a process group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Outcome", "run_step"]

_GUARD: Final = Path(__file__).with_name("guard.py")
_READ_BYTES: Final = 64 * 1024
_LINES_MAX: Final = 200
_LINE_CHARS_MAX: Final = 2000
_DRAIN_READS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code (negative for a signal) and its last lines."""

    code: int
    lines: tuple[str, ...]


class _Output:
    """Splits what a command says into lines, and keeps the last of them."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self.lines: deque[str] = deque(maxlen=_LINES_MAX)
        self._hear = hear
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            self._line(line)
        if len(self._rest) > 4 * _LINE_CHARS_MAX:
            self.finish()

    def finish(self) -> None:
        rest, self._rest = self._rest, b""
        self._line(rest)

    def _line(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace")[:_LINE_CHARS_MAX].rstrip()
        if line:
            self.lines.append(line)
            self._hear(line)


async def run_step(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    hear: Callable[[str], None],
) -> Outcome:
    """Run a command in `folder` with these variables alone; `hear` gets each line of its output.

    When this is cancelled, and whenever the server ends, the command and what it has started are
    killed. Raises: OSError if it cannot be started.
    """
    loop = asyncio.get_running_loop()
    process = subprocess.Popen(  # noqa: S603, ASYNC220 - started at once; what lasts is awaited
        [sys.executable, "-I", str(_GUARD), str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(variables),
        start_new_session=True,
    )
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    pidfd = os.pidfd_open(process.pid)
    output = _Output(hear)

    def readable() -> bool:
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            loop.remove_reader(pipe)
            return False
        output.feed(data)
        return True

    ended = asyncio.Event()
    loop.add_reader(pipe, readable)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        # Not reaped yet, so its number still means its own group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        reads = 0
        while reads < _DRAIN_READS_MAX and readable():
            reads += 1
        loop.remove_reader(pipe)
        process.stdout.close()
    output.finish()
    return Outcome(code, tuple(output.lines))
