"""Which bytes of a worker's shared memory are taken: coalescing first fit, by whole pages."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["PAGE_BYTES", "Allocator", "aligned"]

PAGE_BYTES = 4096


def aligned(size: int, unit: int = PAGE_BYTES) -> int:
    """`size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


class Allocator:
    """Hands out disjoint `[offset, offset + size)` of `capacity` bytes (a multiple of a page).

    The lowest gap that is large enough is taken, so that the same pages, already touched, serve
    one batch after the other. Freed neighbours are joined.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.high = 0
        self._gap_offsets = [0]
        self._gap_sizes = [capacity]
        self._taken: dict[int, int] = {}

    def allocate(self, size: int) -> int | None:
        """An offset with room for `size` >= 1 bytes, or None when no gap is large enough."""
        need = aligned(max(1, size))
        for index, gap in enumerate(self._gap_sizes):
            if gap < need:
                continue
            offset = self._gap_offsets[index]
            if gap == need:
                del self._gap_offsets[index], self._gap_sizes[index]
            else:
                self._gap_offsets[index] = offset + need
                self._gap_sizes[index] = gap - need
            self._taken[offset] = need
            self.used += need
            self.high = max(self.high, offset + need)
            return offset
        return None

    def free(self, offset: int) -> None:
        """Give back what `allocate` returned. Raises: KeyError if it is not taken."""
        size = self._taken.pop(offset)
        self.used -= size
        index = bisect_left(self._gap_offsets, offset)
        if index < len(self._gap_offsets) and offset + size == self._gap_offsets[index]:
            size += self._gap_sizes.pop(index)
            del self._gap_offsets[index]
        if index and self._gap_offsets[index - 1] + self._gap_sizes[index - 1] == offset:
            self._gap_sizes[index - 1] += size
        else:
            self._gap_offsets.insert(index, offset)
            self._gap_sizes.insert(index, size)

    def gaps(self) -> list[tuple[int, int]]:
        """Free `(offset, size)` in order, no two adjacent."""
        return list(zip(self._gap_offsets, self._gap_sizes, strict=True))
