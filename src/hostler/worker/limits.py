"""A bound on the memory that user code may take, such that passing it raises MemoryError.

RLIMIT_DATA counts private writable mappings (Linux 4.7 and later), touched or not. Thread stacks
and allocator pools reserve far more than they touch, so the limit is raised by what is reserved
and untouched when it is set. The server's own watch over resident memory catches the rest.
"""

from __future__ import annotations

import resource

__all__ = ["LOADING_BYTES", "RUNNING_BYTES", "limit_memory"]

LOADING_BYTES = 1 << 30
"""Room for what frameworks reserve while they are imported."""
RUNNING_BYTES = 32 << 20
"""Room for what threads reserve while a model runs."""


def limit_memory(bytes_max: int, spare_bytes: int) -> None:
    """Bound private memory to about `bytes_max` plus `spare_bytes`; 0 sets no bound."""
    if not bytes_max:
        return
    reserved, resident = _status_bytes("VmData"), _status_bytes("RssAnon")
    soft = bytes_max + max(0, reserved - resident) + spare_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _status_bytes(field: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
    return 0
