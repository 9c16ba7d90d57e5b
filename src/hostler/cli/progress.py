"""Signs of life on stderr for what may take longer than two seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

__all__ = ["progress", "waiting"]

_PATIENCE_S: Final = 2.0


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Takes lines of progress; on a terminal the latest replaces the one before."""
    if not sys.stderr.isatty():
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    console = Console(stderr=True)
    with console.status("starting") as status:
        yield status.update


@contextmanager
def waiting(reason: str) -> Iterator[None]:
    """Say on stderr why it takes long, once it has."""
    timer = threading.Timer(_PATIENCE_S, print, (f"hostler: {reason}",), {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
