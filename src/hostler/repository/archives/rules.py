"""What an archive may hold: limits, paths, links. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = [
    "DEPTH_MAX",
    "FREE_RATIO_BYTES",
    "HEADER_BYTES_MAX",
    "HOPS_MAX",
    "NAME_BYTES_MAX",
    "PATH_BYTES_MAX",
    "STEPS_MAX",
    "Limits",
    "Refused",
    "check_links",
    "is_apple_double",
    "plain_path",
]

HEADER_BYTES_MAX: Final = 1 << 20
"""All headers of one member together; real ones have kilobytes."""
PATH_BYTES_MAX: Final = 1024
"""Below PATH_MAX by as much as the folder that it goes into may need. Source: limits.h."""
NAME_BYTES_MAX: Final = 255
"""Source: NAME_MAX of limits.h."""
DEPTH_MAX: Final = 64
"""Folders within folders; packages have five, Python environments fifteen."""
HOPS_MAX: Final = 40
"""Links on the way to a file. Source: path_resolution(7)."""
STEPS_MAX: Final = 512
"""Folders on the way that a link leads, there and back; a hundred thousand links are looked at."""
FREE_RATIO_BYTES: Final = 64 << 20
"""Up to here no growth is a bomb."""


class Refused(Exception):
    """The archive is not unpacked, and this is why: the member and the rule, in one line."""


class Limits(NamedTuple):
    """What may come out of an archive.

    `files_max`: files, folders and links. `bytes_max`: of all files. `ratio_max`: growth past
    which it is a bomb, once it has grown beyond 64 MiB; models and environments grow three- to
    tenfold, zeros 1000-fold. `files_setting`, `bytes_setting`, `ratio_setting`: what raises them,
    for messages. `set_id`: a file with a set-user-id or set-group-id bit loses it, instead of
    being refused.
    """

    files_max: int
    bytes_max: int
    ratio_max: int = 200
    files_setting: str = "files_max"
    bytes_setting: str = "bytes_max"
    ratio_setting: str = ""
    set_id: bool = False

    def stream_bytes_max(self, archive_bytes: int) -> int:
        """Most bytes that an archive of this size may decompress to."""
        return min(self.bytes_max, max(FREE_RATIO_BYTES, self.ratio_max * archive_bytes))

    def too_large(self, archive_bytes: int) -> Refused:
        """The refusal of more than `stream_bytes_max`."""
        most = self.stream_bytes_max(archive_bytes)
        if most == self.bytes_max:
            return Refused(f"it unpacks to more than {most} bytes ({self.bytes_setting})")
        setting = f" ({self.ratio_setting})" if self.ratio_setting else ""
        return Refused(
            f"it unpacks to more than {most} bytes, which is {self.ratio_max} times its own "
            f"size{setting}: a decompression bomb"
        )

    def too_many(self) -> Refused:
        """The refusal of more than `files_max`."""
        return Refused(f"it holds more than {self.files_max} files ({self.files_setting})")


def plain_path(name: str) -> str:
    """The normal form of a member's name, "" for the root.

    Raises: Refused if it leads out, or is longer or deeper than a file system should be asked for.
    """
    if name.startswith("/"):
        raise Refused(f"{name[:80]!r} has an absolute path")
    if "\0" in name:
        raise Refused(f"{name[:80]!r} has a zero byte in its name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"{name[:80]!r} leads out of the archive")
    path = "/".join(parts)
    if len(_encoded(path)) > PATH_BYTES_MAX:
        raise Refused(f"{path[:80]!r}... is a path longer than {PATH_BYTES_MAX} bytes")
    if any(len(_encoded(part)) > NAME_BYTES_MAX for part in parts):
        raise Refused(f"{path[:80]!r}... has a name longer than {NAME_BYTES_MAX} bytes")
    if len(parts) > DEPTH_MAX:
        raise Refused(f"{path[:80]!r}... is nested more than {DEPTH_MAX} folders deep")
    return path


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_apple_double(path: str) -> bool:
    """Whether this is what macOS adds for its own use, which is left out.

    Source: RFC 1740 (AppleDouble); `tar` and `ditto` of macOS write such members.
    """
    return path.rpartition("/")[2].startswith("._") or path.partition("/")[0] == "__MACOSX"


def check_links(links: Mapping[str, str]) -> None:
    """Refuse links that lead out, also by way of other links, or in circles.

    `links`: targets by plain path; all the links there are. Raises: Refused.
    """
    for path, target in links.items():
        folder, _, _ = path.rpartition("/")
        at = folder.split("/") if folder else []
        for depth in range(1, len(at) + 1):
            if "/".join(at[:depth]) in links:
                raise Refused(f"{path!r} lies beneath a link")
        if target.startswith("/"):
            raise Refused(f"link {path!r} points to the absolute path {target[:80]!r}")
        if not target or "\0" in target or len(_encoded(target)) > PATH_BYTES_MAX:
            raise Refused(f"link {path!r} has a target that is no path")
        _follow(path, at, links)


def _follow(path: str, at: list[str], links: Mapping[str, str]) -> None:
    """Walk where a link in folder `at` leads, link by link. Raises: Refused if that is outside."""
    target = links[path]
    ahead = target.split("/")[::-1]
    hops = steps = 0
    while ahead:
        steps += 1
        if steps > STEPS_MAX:
            raise Refused(f"link {path!r} passes more than {STEPS_MAX} folders")
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                raise Refused(f"link {path!r} leads out of the archive, to {target[:80]!r}")
            at.pop()
            continue
        at.append(part)
        following = links.get("/".join(at))
        if following is None:
            continue
        if following.startswith("/"):
            raise Refused(f"link {path!r} leads out of the archive, to {following[:80]!r}")
        hops += 1
        if hops > HOPS_MAX:
            raise Refused(f"link {path!r} passes more than {HOPS_MAX} links")
        at.pop()
        ahead.extend(following.split("/")[::-1])
