"""Object stores that keep what they are told in memory, and fail when told so."""

from __future__ import annotations

from hostler.core import Code, HostlerError

__all__ = ["MemoryStorage"]


class MemoryStorage:
    """A `Storage` of one dictionary, by URL. `failing`: URL prefix -> the error of every put.

    `puts`: URLs that were tried.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing: dict[str, HostlerError] = {}
        self.puts: list[str] = []

    def open(self, url: str) -> tuple[MemoryStorage, str]:
        if "://" not in url:
            raise HostlerError(Code.INVALID_ARGUMENT, f"{url!r} cannot be used")
        return self, url

    async def put(self, key: str, body: bytes) -> None:
        self.puts.append(key)
        for prefix, error in self.failing.items():
            if key.startswith(prefix):
                raise error
        self.objects[key] = body
