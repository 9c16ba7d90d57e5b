"""A worker's shared memory: the server owns and allocates it, the worker maps it."""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

from hostler.core import Code, HostlerError
from hostler.placement.process.allocator import PAGE_BYTES, Allocator, aligned

__all__ = ["Arena", "Region"]

Bytes = npt.NDArray[np.uint8]


class _Memory:
    """One mapping; it lives as long as an array over it."""

    def __init__(self, capacity: int) -> None:
        self.allocator = Allocator(capacity)
        descriptor = os.memfd_create("hostler-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, capacity)
            # A worker that shrank it would have the server die of SIGBUS.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            self.map = mmap.mmap(descriptor, capacity)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor


class Region:
    """Allocated bytes: the guard that gives them back.

    `share` arrays over it with others: it is free once the owner has called `release` and no
    array over it is left, here or (see `keep`) in the worker.
    """

    __slots__ = ("_holds", "_memory", "_returned", "offset", "size")

    def __init__(self, memory: _Memory, offset: int, size: int, returned: deque[Region]) -> None:
        self._memory = memory
        self._returned = returned
        self._holds = 1
        self.offset = offset
        self.size = size

    def array(self, offset: int, size: int) -> Bytes:
        """`size` > 0 bytes from `offset` of the arena; raises ValueError outside this region."""
        if offset < self.offset or offset + size > self.offset + self.size:
            raise ValueError(f"{offset}+{size} lies outside the region")
        return np.frombuffer(self._memory.map, np.uint8, size, offset)

    def shared(self, offset: int, size: int) -> Bytes:
        """As `array`, read-only, and holding the region until the last view of it is gone."""
        root = self.array(offset, size)
        root.flags.writeable = False
        self._holds += 1
        # The last view may go in any thread, and deque.append is atomic.
        weakref.finalize(root, self._returned.append, self).atexit = False
        return root

    def keep(self) -> None:
        """Hold it once more, until another `release`."""
        self._holds += 1

    def release(self) -> None:
        """Let go of one hold; the last one frees the bytes."""
        self._holds -= 1
        if not self._holds:
            self._memory.allocator.free(self.offset)


class Arena:
    """Shared memory that grows. Loop thread only.

    Growing replaces the mapping; regions of the former one stay valid until they are let go.
    """

    def __init__(self, capacity: int, capacity_max: int) -> None:
        self._capacity = aligned(min(capacity, capacity_max))
        self._capacity_max = aligned(capacity_max)
        self._memory: _Memory | None = None
        self._returned: deque[Region] = deque()

    @property
    def used_bytes(self) -> int:
        """Bytes that are taken now."""
        self._collect()
        return 0 if self._memory is None else self._memory.allocator.used

    def crowded(self, own: Region | None) -> bool:
        """Whether others than `own` take more than half: results should not stay here then."""
        if self._memory is None:
            return False
        others = self.used_bytes - (0 if own is None else aligned(own.size))
        return others > self._memory.allocator.capacity // 2

    def allocate(self, size: int) -> tuple[Region, tuple[int, int] | None]:
        """A region, and `(descriptor, size)` of a new mapping that the worker must be sent first.

        The caller closes that descriptor. Raises: RESOURCE_EXHAUSTED with the numbers.
        """
        self._collect()
        if self._memory is not None:
            offset = self._memory.allocator.allocate(size)
            if offset is not None:
                return Region(self._memory, offset, size, self._returned), None
        memory = self._memory = self._grown(size)
        offset = memory.allocator.allocate(size)
        assert offset is not None
        region = Region(memory, offset, size, self._returned)
        return region, (memory.descriptor, memory.allocator.capacity)

    def trim(self) -> int:
        """Give untaken pages back to the system when nothing is taken; returns their bytes."""
        self._collect()
        memory = self._memory
        if memory is None or memory.allocator.used or memory.allocator.high <= PAGE_BYTES:
            return 0
        high = memory.allocator.high
        memory.map.madvise(mmap.MADV_REMOVE, 0, high)
        memory.allocator.high = 0
        return high

    def drop(self) -> None:
        """Forget the memory; arrays that are still held keep theirs."""
        self._memory = None

    def _grown(self, size: int) -> _Memory:
        capacity = self._capacity
        if self._memory is not None:
            capacity = self._memory.allocator.capacity * 2
        while capacity < aligned(size) and capacity < self._capacity_max:
            capacity *= 2
        capacity = min(capacity, self._capacity_max)
        full = self._memory is not None and self._memory.allocator.capacity >= capacity
        if capacity < aligned(size) or (full and self.used_bytes):
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED,
                f"a batch needs {size} bytes of shared memory and a worker may have "
                f"{self._capacity_max} of which {self.used_bytes} are in use; send fewer rows at a "
                f"time or raise arena_bytes_max",
                details={"needed_bytes": size, "limit_bytes": self._capacity_max},
            )
        return _Memory(capacity)

    def _collect(self) -> None:
        while self._returned:
            self._returned.popleft().release()
