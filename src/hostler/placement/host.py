"""What this machine has for replicas, and how the process behaves on it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

__all__ = [
    "available_bytes",
    "limit_arenas",
    "process_bytes",
    "trim_memory",
    "usable_cores",
]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_M_ARENA_MAX: Final = -8
"""Source: glibc, malloc.h."""

_CGROUP: Final = Path("/sys/fs/cgroup")
_CGROUP_LIMITS: Final = (
    (_CGROUP / "memory.max", _CGROUP / "memory.current"),
    (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
)
"""Limit and usage: version 2, then version 1."""


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def process_bytes() -> int:
    """Resident memory of this process. Source: proc(5), statm."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * _PAGE_BYTES


def available_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or what the cgroup leaves."""
    available = _meminfo("MemAvailable:")
    for limit_file, usage_file in _CGROUP_LIMITS:
        limit, usage = _number(limit_file), _number(usage_file)
        if limit is not None and usage is not None:
            available = min(available, max(0, limit - usage))
    return available


def limit_arenas(count: int) -> None:
    """Let malloc keep at most `count` arenas.

    glibc gives each thread an arena of its own, and memory freed in one is not reused by another:
    with models loaded and freed from many threads a server grows without end. A no-op elsewhere.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, count)


def trim_memory() -> None:
    """Give freed memory back to the system; takes milliseconds. A no-op without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _meminfo(field: str) -> int:
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        for line in meminfo:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * _PAGE_BYTES


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such controller, or "max"
        return None


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
