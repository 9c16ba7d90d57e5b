"""Where a model comes from, and what its store offers. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hostler.core import Code, HostlerError
from hostler.repository.archives import Refused, is_apple_double, plain_path
from hostler.repository.config import Config
from hostler.repository.package import readable
from hostler.storage import ObjectStat

__all__ = ["ModelSource", "Offer", "Wanted", "check_source", "check_target", "offer_of", "shown"]

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://.")
_URL_CHARS_MAX: Final = 8192
_SHOWN_CHARS_MAX: Final = 1024
_TARGET_CHARS_MAX: Final = 1024
"""Source: TargetModel of InvokeEndpoint; S3's own limit for keys is 1024 bytes."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One model in a store. Source: CreateModel, ModelDataUrl and S3DataSource.

    `url`: s3://, https:// or file://. `prefix`: it stands for all objects below it, which are
    files of the model as they are (S3Prefix). `compressed`: it is an archive (.tar.gz, .tar, .zip)
    that is unpacked; a file:// URL of a folder is taken as it is anyway. `sha256`: of the archive,
    in hexadecimal, "" if it is not known.
    """

    url: str
    prefix: bool = False
    compressed: bool = True
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object to download. `path`: where it goes within the folder; `size`: -1 if unknown."""

    key: str
    path: str
    size: int
    etag: str

    @property
    def resumable(self) -> bool:
        """Whether a download may go on where it was cut: by a strong ETag. Source: RFC 9110."""
        return self.size >= 0 and self.etag != "" and not self.etag.startswith("W/")

    @property
    def md5(self) -> str:
        """Its ETag, where that looks like a plain MD5 of the content; "" otherwise."""
        etag = self.etag.strip('"')
        return etag if _MD5.fullmatch(etag) else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a store has of a source now.

    `token`: changes whenever the content does. `key`: of this content in the cache. `unpack`: it
    is one archive; else the objects are the files. `size`: bytes of all objects, -1 if unknown.
    """

    source: ModelSource
    token: str
    key: str
    wanted: tuple[Wanted, ...]
    unpack: bool

    @property
    def size(self) -> int:
        """Bytes of all objects, -1 if unknown."""
        sizes = [wanted.size for wanted in self.wanted]
        return -1 if min(sizes) < 0 else sum(sizes)


def check_source(source: ModelSource) -> None:
    """Raises: INVALID_ARGUMENT saying what is wrong with it."""
    if len(source.url) > _URL_CHARS_MAX or not _SCHEME.match(source.url):
        raise _unusable(source, "it is no s3://, https:// or file:// URL")
    if source.prefix and source.compressed:
        raise _unusable(source, "a prefix holds the files of a model as they are, uncompressed")
    if source.sha256 and not _SHA256.fullmatch(source.sha256):
        raise _unusable(source, "a sha256 has 64 hexadecimal digits")
    if source.sha256 and source.prefix:
        raise _unusable(source, "a sha256 is of one archive, not of a prefix")


def check_target(target: str) -> None:
    """Raises: INVALID_ARGUMENT if this is no relative key, such as `a/b.tar.gz`."""
    reason = ""
    if not target or len(target) > _TARGET_CHARS_MAX:
        reason = f"it has {len(target)} characters, 1 to {_TARGET_CHARS_MAX} are taken"
    elif not target.isprintable():
        reason = "it holds characters that cannot be printed"
    elif target.startswith("/"):
        reason = "it begins with a '/', but is relative to the model's prefix"
    elif any(part in ("", ".", "..") for part in target.split("/")):
        reason = "it has an empty part, '.' or '..'"
    if reason:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"target model {readable(target)[:200]!r} cannot be used: {reason}",
        )


def offer_of(
    source: ModelSource, objects: Sequence[ObjectStat], base: str | None, config: Config
) -> Offer:
    """What these objects make: of one object (`base` is None), or of all below the key `base`.

    Raises: INVALID_ARGUMENT for names that lead out, and for more than the settings allow.
    """
    if base is not None and source.sha256:
        raise _unusable(source, "a sha256 is of one archive, and this is a folder")
    unpack = base is None and source.compressed
    wanted = _files(source, objects, base) if base is not None else _single(source, objects[0])
    setting = "archive_bytes_max" if unpack else "archive_unpacked_bytes_max"
    bytes_max = config.archive_bytes_max if unpack else config.archive_unpacked_bytes_max
    if len(wanted) > config.archive_files_max:
        most = config.archive_files_max
        raise _unusable(source, f"it has more than {most} files (repository.archive_files_max)")
    token = _token(source, wanted, base)
    content = repr((source.url, token, source.sha256.lower(), unpack))
    key = hashlib.blake2b(content.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    offer = Offer(source, token, key, tuple(wanted), unpack)
    if offer.size > bytes_max:
        limit = f"at most {bytes_max} are taken (repository.{setting})"
        raise _unusable(source, f"it has {offer.size} bytes, {limit}")
    return offer


def _single(source: ModelSource, found: ObjectStat) -> list[Wanted]:
    try:
        name = "archive" if source.compressed else plain_path(found.key.rpartition("/")[2])
    except Refused as refusal:
        raise _unusable(source, str(refusal)) from None
    if not found.etag and not source.sha256:
        raise _unusable(
            source,
            "its server tells neither an ETag nor when it was modified, so that a new version "
            "could not be told from an old one; state its sha256 or put it into another store",
        )
    return [Wanted(found.key, name, found.size, found.etag)]


def _files(source: ModelSource, objects: Sequence[ObjectStat], base: str) -> list[Wanted]:
    found: dict[str, Wanted] = {}
    folders: set[str] = set()
    for item in objects:
        name = item.key[len(base) :]
        if not name or name.endswith("/"):
            continue  # what consoles write for a folder
        try:
            path = plain_path(name)
        except Refused as refusal:
            raise _unusable(source, str(refusal)) from None
        if is_apple_double(path):
            continue
        if path in found:
            raise _unusable(source, f"{path!r} is there twice")
        found[path] = Wanted(item.key, path, item.size, item.etag)
        parts = path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    both = sorted(folders & found.keys())
    if both:
        raise _unusable(source, f"{both[0]!r} is a file and a folder")
    if not found:
        raise HostlerError(
            Code.NOT_FOUND, f"there is nothing under '{shown(source.url)}'; copy the model there"
        )
    return [found[path] for path in sorted(found)]


def _token(source: ModelSource, wanted: Sequence[Wanted], base: str | None) -> str:
    if base is None:
        return wanted[0].etag.strip('"') or f"sha256-{source.sha256.lower()}"
    facts = repr([(item.path, item.size, item.etag) for item in wanted])
    return hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def shown(url: str) -> str:
    """A URL for messages and logs: the query of a web address may hold a signature."""
    plain = url.partition("?")[0] if url.lower().startswith("http") else url
    return readable(plain)[:_SHOWN_CHARS_MAX]


def _unusable(source: ModelSource, reason: str) -> HostlerError:
    return HostlerError(
        Code.INVALID_ARGUMENT, f"'{shown(source.url)}' cannot be used: {readable(reason)}"
    )
