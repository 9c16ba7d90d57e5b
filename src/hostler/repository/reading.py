"""The nouns of reading an unpacked archive: what its container says, and what a reader is given."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hostler.core import Code, HostlerError
from hostler.repository.config import Config
from hostler.repository.package import Package, readable
from hostler.repository.tree import Tree

__all__ = ["Container", "ContainerPackages", "Reading"]

_LISTED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Container:
    """What a container definition says beside its archive. Source: CreateModel.

    `image`: the reference, "" where there is none; it is never pulled, it tells how the archive is
    read. `environment`: variables for the model's workers, which also are settings for some readers
    (SAGEMAKER_PROGRAM, say).
    """

    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerPackages:
    """What an archive holds: the package that answers, and those that it asks.

    `entry`: the name of the first; others are called `<entry>/<model>`.
    """

    entry: str
    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """An archive that lies unpacked in `folder`, to be read as a model called `name`.

    `tree`: its files; hidden ones and links out of the folder are not among them. `token`: what the
    archive's store calls this content, "" where the files themselves tell. `instances`: replicas
    wanted, a factor where the archive states a number itself.
    """

    name: str
    folder: Path
    tree: Tree
    token: str
    container: Container
    instances: int
    config: Config

    def listed(self) -> str:
        """Some of its files, for a message."""
        paths = sorted(self.paths)
        shown = ", ".join(f"'{path}'" for path in paths[:_LISTED_MAX]) or "no files"
        more = len(paths) - _LISTED_MAX
        return f"{shown} and {more} more" if more > 0 else shown

    @property
    def paths(self) -> Set[str]:
        """All files, relative to the folder, with slashes.

        Without those whose names are no UTF-8: no worker can be told to load one.
        """
        return {stamp.path for stamp in self.tree.files if stamp.path == readable(stamp.path)}

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(stamp.size for stamp in self.tree.files)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of its workers: the container's, and where its files are."""
        return {"SM_MODEL_DIR": str(self.folder), **self.container.environment}

    def variable(self, name: str) -> str:
        """An environment variable of the container, "" where it is not set."""
        return self.container.environment.get(name, "").strip()

    def wrong(self, text: str) -> HostlerError:
        """INVALID_ARGUMENT about this archive; `text` names the file or variable."""
        return HostlerError(Code.INVALID_ARGUMENT, readable(f"model '{self.name}': {text}"))
