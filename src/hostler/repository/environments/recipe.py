"""What makes an environment the one it is: its key, before anything is built."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from hostler.core import Code, Environment, HostlerError
from hostler.repository.config import Config
from hostler.repository.environments.requirements import Line, Requirements, flatten
from hostler.repository.package import contradiction, readable

__all__ = ["NUMPY", "Digests", "Recipe", "recipe_of"]

NUMPY: Final = "numpy>=1.20"
"""What workers need, installed where the requirements do not bring it."""

REQUIREMENTS_BYTES_MAX: Final = 1 << 20
_FORMAT: Final = 1
"""Raised when environments are built differently, so that those of before are not taken."""

_READ_BYTES: Final = 1 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""What editors put in front of a text, and pip understands."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to build one environment. `requirements`: None for an archive, which is `source`.

    `content`: what it is, in lines for people.
    """

    key: str
    kind: Literal["requirements", "packed"]
    source: Path
    requirements: Requirements | None
    content: tuple[str, ...]


class Digests:
    """Contents of files, hashed once for as long as they do not change."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def of(self, path: str) -> str:
        """The digest of a file's content. Raises: OSError."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            hashed = hashlib.blake2b(digest_size=16)
            while piece := file.read(_READ_BYTES):
                hashed.update(piece)
        self._known[path] = (stamp, hashed.hexdigest())
        return hashed.hexdigest()


def recipe_of(model: str, environment: Environment, config: Config, digests: Digests) -> Recipe:
    """Read what an environment is to be made of. Blocks on the disk.

    Raises: INVALID_ARGUMENT naming model and file.
    """
    try:
        if environment.kind == "packed":
            return _of_archive(environment, digests)
        return _of_requirements(model, environment, config, digests)
    except OSError as error:
        path = error.filename or environment.source
        raise contradiction(model, str(path), f"cannot be read: {error.strerror}") from None


def _of_archive(environment: Environment, digests: Digests) -> Recipe:
    source = environment.source
    key = _key(["packed", digests.of(str(source)), platform.machine()])
    return Recipe(key, "packed", source, None, (str(source),))


def _of_requirements(
    model: str, environment: Environment, config: Config, digests: Digests
) -> Recipe:
    package = os.path.abspath(environment.package)
    real_package = os.path.realpath(package)

    def read(path: str) -> str:
        real = os.path.realpath(path)
        if not config.follow_links and not real.startswith(real_package.rstrip("/") + "/"):
            raise contradiction(model, path, f"is a link out of the package, to '{real}'")
        return _text(model, path)

    source = os.path.abspath(environment.source)
    found = _with_beside(flatten(model, source, package, read), environment, config)
    own = {path: digests.of(path) for path in found.files}
    identity = [
        "requirements",
        *_interpreter(config.environment_python),
        NUMPY,
        list(config.pip_arguments),
        [line.identity(own) for line in found.lines],
        [line.identity(own) for line in found.constraints],
    ]
    # Options and hashes are not for people, and an index's address may hold a password.
    content = tuple(line.text.partition(" --")[0] for line in found.lines if not line.is_option)
    return Recipe(_key(identity), "requirements", Path(source), found, content)


def _with_beside(found: Requirements, environment: Environment, config: Config) -> Requirements:
    """With what the file leaves to the container for which it was written."""
    names = found.names
    # With hashes pip installs what is listed alone.
    if "--require-hashes" in [line.text for line in found.lines] or any(
        " --hash" in line.text for line in found.lines
    ):
        return found
    missing = [any_of for any_of in environment.beside if names.isdisjoint(any_of)]
    added = [Line(_pinned(any_of, own=not config.environment_python)) for any_of in missing]
    return replace(found, lines=(*found.lines, *added))


def _pinned(any_of: Sequence[str], *, own: bool) -> str:
    """The distribution that the server's own Python has, in its version; else the first."""
    for name in any_of if own else ():
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"{name}=={metadata.version(name).partition('+')[0]}"
    return any_of[0]


def _key(identity: list[object]) -> str:
    text = json.dumps([_FORMAT, *identity])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _interpreter(stated: str) -> list[object]:
    """Which Python an environment is made with: it goes on using that one's files."""
    if not stated:
        version = list(sys.version_info[:3])
        base = os.path.realpath(sys.executable)
        return [base, version, sys.implementation.cache_tag, sysconfig.get_platform()]
    path = os.path.realpath(os.path.expanduser(stated))
    try:
        status = os.stat(path)
    except OSError as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"repository.environment_python is '{stated}': {error.strerror}; name a Python's "
            "whole path, or nothing for the server's own",
        ) from None
    return [path, status.st_size, status.st_mtime_ns, sysconfig.get_platform()]


def _text(model: str, path: str) -> str:
    with open(path, "rb") as file:
        content = file.read(REQUIREMENTS_BYTES_MAX + 1)
    if len(content) > REQUIREMENTS_BYTES_MAX:
        raise contradiction(model, path, f"is longer than {REQUIREMENTS_BYTES_MAX} bytes")
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT, readable(f"{path}: not UTF-8 text: {error.reason}")
        ) from None
