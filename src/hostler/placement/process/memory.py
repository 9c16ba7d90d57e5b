"""How much memory a worker holds, as the kernel counts it."""

from __future__ import annotations

import os

__all__ = ["pss_bytes", "resident_bytes"]

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def pss_bytes(pid: int) -> int:
    """Proportional set size: pages shared by n processes count for 1/n. 0 once it has ended.

    Takes the kernel a few milliseconds per GB. Source: proc(5), smaps_rollup.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def resident_bytes(pid: int) -> int:
    """Resident set size, never below the PSS and cheap to read. 0 once it has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0
