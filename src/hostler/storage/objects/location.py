"""URLs of objects, taken apart and checked. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from hostler.core import Code, HostlerError

__all__ = ["Location", "check_key", "locate"]

_URL_LENGTH_MAX: Final = 8192  # presigned URLs have some thousand characters
_KEY_BYTES_MAX: Final = 1024  # of S3; Linux takes 4096 in a path
_PATH_BYTES_MAX: Final = 4095
_KEY_LIMITS: Final = {
    "file": _PATH_BYTES_MAX,
    "http": _URL_LENGTH_MAX,
    "https": _URL_LENGTH_MAX,
}
_SHOWN_MAX: Final = 200
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Location:
    """A place and a key in it.

    `place`: bucket, `host:port`, or "" for this machine. `key`: without a leading `/`; "" and a
    trailing `/` are fine for a prefix. `query`: of a web address; it may hold a signature, so that
    it is shown to nobody.
    """

    scheme: str
    place: str
    key: str
    query: str = ""


def locate(url: str) -> Location:
    """Take a URL apart: `s3://bucket/key`, `file:///path`, `https://host/path?query`.

    Keys of buckets stand in the URL as they are, as everywhere in AWS; paths of file: and https:
    are percent-encoded. Raises: INVALID_ARGUMENT saying what is wrong with it.
    """
    found = _SCHEME.match(url)
    if found is None:
        raise _refusal(url, "it does not begin with s3://, gs://, az://, https:// or file:///")
    if len(url) > _URL_LENGTH_MAX:
        raise _refusal(url, f"it has {len(url)} characters, at most {_URL_LENGTH_MAX} are taken")
    if _CONTROL.search(url):
        raise _refusal(url, "it holds a control character")
    scheme = found[1].lower()
    if scheme == "file":
        return _file(url, url[found.end() :])
    if scheme in ("http", "https"):
        return _web(url, scheme)
    bucket, _, key = url[found.end() :].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise _refusal(url, f"'{bucket[:_SHOWN_MAX]}' is no bucket's name")
    _check_segments(url, key, _KEY_BYTES_MAX)
    return Location(scheme, bucket, key)


def check_key(place: str, key: str, *, prefix: bool = False) -> None:
    """That a key names something inside its place, now that it may have been put together.

    `prefix`: the key is the beginning of others, "" being that of all.
    Raises: INVALID_ARGUMENT.
    """
    url = f"{place}/{key}"
    if not prefix and (not key or key.endswith("/")):
        raise _refusal(url, "it names no object")
    if _CONTROL.search(key):
        raise _refusal(url, "it holds a control character")
    _check_segments(url, key, _KEY_LIMITS.get(place.partition(":")[0], _KEY_BYTES_MAX))


def _file(url: str, rest: str) -> Location:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise _refusal(
            url, "a file has an absolute path, with three slashes, as in file:///models/a.tar.gz"
        )
    if not _decodes(path):
        raise _refusal(url, "its path is not percent-encoded UTF-8 text")
    key = unquote(path)
    if _CONTROL.search(key):
        raise _refusal(url, "it holds a control character")
    _check_segments(url, key, _PATH_BYTES_MAX)
    return Location("file", "", key)


def _web(url: str, scheme: str) -> Location:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refusal(url, "it is not well formed") from None
    if "@" in parts.netloc:
        raise _refusal(url, "a user and a password do not belong into a URL")
    if not _HOST.fullmatch(parts.netloc):
        raise _refusal(url, "it names no host")
    if parts.fragment:
        raise _refusal(url, "it has a fragment (#)")
    if "%2f" in parts.path.lower() or not _decodes(parts.path):
        raise _refusal(url, "its path holds %2F or is not percent-encoded UTF-8 text")
    key = unquote(parts.path).removeprefix("/")
    if _CONTROL.search(key):
        raise _refusal(url, "it holds a control character")
    _check_segments(url, key, _URL_LENGTH_MAX)
    return Location(scheme, parts.netloc.lower(), key, parts.query)


def _decodes(path: str) -> bool:
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _check_segments(url: str, key: str, bytes_max: int) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise _refusal(url, "its key is no text that UTF-8 can hold") from None
    if size > bytes_max:
        raise _refusal(url, f"its key has {size} bytes, at most {bytes_max} are taken")
    segments = key.split("/")
    if segments[-1] == "":  # a trailing slash, or nothing
        segments.pop()
    if any(segment in ("", ".", "..") for segment in segments):
        raise _refusal(url, "its key has an empty part, '.' or '..'")


def _refusal(url: str, reason: str) -> HostlerError:
    shown = url.partition("?")[0] if url.lower().startswith("http") else url
    shown = shown.rpartition("@")[2] if "@" in shown.partition("//")[2].split("/")[0] else shown
    if len(shown) > _SHOWN_MAX:
        shown = f"{shown[:_SHOWN_MAX]}..."
    return HostlerError(Code.INVALID_ARGUMENT, f"{shown!r} cannot be used: {reason}")
