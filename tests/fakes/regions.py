"""Shared memory regions in plain memory."""

from __future__ import annotations

from hostler.core import Code, HostlerError


class FakeRegion:
    """`data`: what the client sees; shorten it to have it truncated."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.byte_size = len(data)

    def read(self, offset: int, size: int) -> memoryview:
        found = bytes(self.data[offset : offset + size])
        if len(found) < size:
            raise HostlerError(Code.INVALID_ARGUMENT, "has been shrunk")
        return memoryview(found)

    def write(self, offset: int, data: memoryview) -> None:
        assert offset + len(data) <= len(self.data), "nobody may write beyond a region"
        self.data[offset : offset + len(data)] = data


class FakeRegions:
    """Regions by name; see `oip.Regions`."""

    def __init__(self, **regions: FakeRegion) -> None:
        self.regions = regions

    def region(self, name: str) -> FakeRegion:
        if name not in self.regions:
            raise HostlerError(Code.NOT_FOUND, f"Unable to find shared memory region: '{name}'")
        return self.regions[name]
