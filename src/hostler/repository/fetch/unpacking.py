"""Unpacking in threads, slice by slice: the disk's quota and cancellation come in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Final

from hostler.core import Clock, Code, HostlerError
from hostler.repository.archives import Limits, Progress, Refused, unpack
from hostler.repository.config import Config
from hostler.repository.fetch.download import Work
from hostler.repository.fetch.progress import EVERY_S, amount
from hostler.repository.fetch.source import shown
from hostler.repository.package import readable

__all__ = ["Reserve", "unpack_archive"]

Reserve = Callable[[int], Awaitable[None]]
"""Have so many bytes on the disk for what is unpacked. Raises: RESOURCE_EXHAUSTED."""

_STEP_BYTES: Final = 1 << 20  # what one step of unpacking writes at most
_SLICE_S: Final = 0.5
_SLICE_STEPS: Final = 1000
_GRANTS: Final = 256
_GRANT_BYTES_MAX: Final = 64 << 20


def limits_of(config: Config) -> Limits:
    """What the settings allow an archive of a model."""
    return Limits(
        files_max=config.archive_files_max,
        bytes_max=config.archive_unpacked_bytes_max,
        ratio_max=config.archive_ratio_max,
        files_setting="repository.archive_files_max",
        bytes_setting="repository.archive_unpacked_bytes_max",
        ratio_setting="repository.archive_ratio_max",
    )


async def unpack_archive(
    archive: Path, folder: Path, url: str, reserve: Reserve, work: Work
) -> Progress:
    """Unpack into `folder`, which is empty. `url`: for messages.

    Between slices of half a second it may be cancelled. Raises: INVALID_ARGUMENT naming the
    archive, the member and the rule; RESOURCE_EXHAUSTED; OSError.
    """
    config = work.config
    grant = min(_GRANT_BYTES_MAX, max(2 * _STEP_BYTES, config.archive_cache_bytes_max // _GRANTS))
    steps = unpack(str(archive), str(folder), limits_of(config))
    progress, more = Progress(0, 0), True
    place, said_at = shown(url), work.clock.now()
    work.say(f"unpacking {place}")
    try:
        while more:
            await reserve(progress.bytes + grant)
            until = progress.bytes + grant - _STEP_BYTES
            progress, more = await work.threads.run(_slice, steps, progress, until, work.clock)
            now = work.clock.now()
            if now - said_at >= EVERY_S:
                said_at = now
                work.say(f"unpacking {place}: {amount(progress.bytes)}, {progress.files} files")
        return progress
    except Refused as refusal:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            readable(f"archive '{place}' is refused, and nothing of it is kept: {refusal}"),
        ) from None
    finally:
        await work.threads.run(_close, steps)


def _slice(
    steps: Iterator[Progress], progress: Progress, until_bytes: int, clock: Clock
) -> tuple[Progress, bool]:
    """In a thread: go on for a while; how far it is, and whether there is more."""
    ends = clock.now() + _SLICE_S
    latest = progress
    for count, latest in enumerate(steps, 1):
        if latest.bytes >= until_bytes or count >= _SLICE_STEPS or clock.now() >= ends:
            return latest, True
    return latest, False


def _close(steps: Iterator[Progress]) -> None:
    if isinstance(steps, Generator):
        steps.close()
