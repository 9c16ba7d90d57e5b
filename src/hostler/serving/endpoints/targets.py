"""What is known of target models, and what is said of them to callers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from hostler.core import Code, HostlerError
from hostler.serving.endpoints.ports import Archive, Archives
from hostler.serving.handover import Waiters

__all__ = [
    "Copy",
    "Target",
    "TargetStatus",
    "gone",
    "late",
    "not_yet",
    "other_name",
    "too_long",
    "unusable",
]

_LOADING_RETRY_S: Final = 5.0

# A load may fail because of something that passes; fetching it every few seconds would not help.
_REFUSED_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """Facts of one multi-model container, for metrics.

    `known`, `loaded`: targets now. `cold`, `warm`: requests that had to wait for their target, and
    those that found it in memory. `loads`, `load_failures`: of targets, fetching included.
    `replacements`: archives that took the place of others while these were in memory.
    """

    prefix: str
    known: int
    loaded: int
    cold: int
    warm: int
    loads: int
    load_failures: int
    replacements: int


class Copy:
    """A target as one archive has it. `archive`: None once it may be gone from the disk.

    `source`: what has opened it.
    """

    __slots__ = ("archive", "entry", "key", "names", "source")

    def __init__(self, archive: Archive, source: Archives) -> None:
        self.archive: Archive | None = archive
        self.source = source
        self.entry = archive.entry
        self.key = (archive.entry, None)
        self.names = [package.name for package in archive.packages]

    def release(self) -> None:
        """Let the archive go. Idempotent."""
        archive, self.archive = self.archive, None
        if archive is not None:
            archive.release()


class Target:
    """One target, in memory or not.

    `work`: the one load or check in flight, `step` what it is doing, in words. `retry_at`: until
    then requests get `error`. `checked_at`: the last look at the store.
    """

    __slots__ = (
        "_refused",
        "checked_at",
        "copy",
        "error",
        "name",
        "retry_at",
        "step",
        "waiters",
        "work",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.copy: Copy | None = None
        self.work: asyncio.Task[None] | None = None
        self.waiters: Waiters = {}
        self.error: HostlerError | None = None
        self.step = ""
        self.retry_at = 0.0
        self.checked_at = 0.0
        self._refused = ("", 0.0)

    def say(self, line: str) -> None:
        """Note how far the fetch is; a `Report`."""
        self.step = line

    def refuse(self, token: str, now: float) -> None:
        """Note an archive that could not take the place of the one in memory."""
        self._refused = (token, now + _REFUSED_S)

    def refuses(self, token: str, now: float) -> bool:
        """Whether to leave this archive alone for now."""
        return token == self._refused[0] and now < self._refused[1]


def not_yet(found: Target, wait_s: float) -> HostlerError:
    """A request has waited long enough, and the load goes on."""
    step = f" ({found.step})" if found.step else ""
    return HostlerError(
        Code.UNAVAILABLE,
        f"target model '{found.name}' is still being loaded after {wait_s:.3g} s "
        f"(serving.target_wait_s, or less where the request has less){step}; the load goes on, "
        "so try again",
        details={"loading": True},
        retry_after_s=_LOADING_RETRY_S,
    )


def other_name(prefix: str, target: str, entry: str = "") -> str:
    """The one of a target's two names that is not `entry`. No two targets share one."""
    name = f"{prefix}/{target}"
    return f"{prefix}//{target}" if entry == name else name


def too_long(found: Target, timeout_s: float) -> HostlerError:
    """A load has taken more time than any may."""
    return HostlerError(
        Code.UNAVAILABLE,
        f"target model '{found.name}' took longer to fetch and load than "
        f"serving.target_load_timeout_s, {timeout_s:g} s",
    )


def late(target: str) -> HostlerError:
    """A request's deadline came before its model."""
    return HostlerError(
        Code.DEADLINE_EXCEEDED,
        f"Request timeout expired: target model '{target}' was still being loaded",
    )


def gone(found: Target) -> HostlerError:
    """The server stops while a load is under way."""
    return HostlerError(
        Code.UNAVAILABLE, f"target model '{found.name}' is not loaded: the server is stopping"
    )


def unusable(error: HostlerError) -> HostlerError:
    """A failed load that is the model's own fault: no repeat mends it, as one of an answer."""
    if "cause" not in error.details:
        return error
    return HostlerError(Code.MODEL_ERROR, error.message, retry_after_s=error.retry_after_s)
