"""How many bytes of requests may be held: of one, and of all together."""

from __future__ import annotations

from typing import NamedTuple

from hostler.core import Code, HostlerError

__all__ = ["BodyLimit", "Held"]


class BodyLimit(NamedTuple):
    """Of one body. `setting`: which says so."""

    bytes_max: int
    setting: str


class Held:
    """`held_bytes`: requests between reading and answer, whatever wire they came by.

    Loop thread only.
    """

    __slots__ = ("body_bytes_max", "held_bytes", "held_bytes_max", "limit")

    def __init__(self, body_bytes_max: int, held_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self.limit = BodyLimit(body_bytes_max, "gateway.body_bytes_max")
        self.held_bytes_max = held_bytes_max
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Hold so many bytes; the caller gives them to `free`. Raises: as `check`."""
        if self.held_bytes + size > self.held_bytes_max:
            self.check(size)
        self.held_bytes += size

    def free(self, size: int) -> None:
        """The request has been answered."""
        self.held_bytes -= size

    def check(self, size: int, before: int = 0, limit: BodyLimit | None = None) -> None:
        """Whether `size` more bytes may be held, of a request of which `before` are held already.

        `limit`: of this request, where it is narrower than of requests in general.

        Raises: PAYLOAD_TOO_LARGE for the one, UNAVAILABLE for all together.
        """
        bytes_max, setting = limit or self.limit
        if before + size > bytes_max:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"the body of {before + size} bytes or more exceeds the limit of "
                f"{bytes_max}; send less at a time or raise {setting}",
            )
        if self.held_bytes + size > self.held_bytes_max:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"{self.held_bytes} bytes of request bodies are held, and {size} more exceed the "
                f"limit of {self.held_bytes_max} (gateway.bodies_bytes_max); try again later",
                retry_after_s=1.0,
            )
