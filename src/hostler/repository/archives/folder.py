"""Writing what comes out of an archive, and nothing outside of its folder.

Names are checked, files are made anew and never through a link, and links are made last, when all
that they may pass is known.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

from .rules import Limits, Refused, check_links, plain_path

__all__ = ["Folder"]

_SET_ID = stat.S_ISUID | stat.S_ISGID


class Folder:
    """The folder that an archive is unpacked into: it exists, is empty and is nobody else's.

    All paths are plain. Every method raises Refused for what breaks a rule, and OSError.
    """

    def __init__(self, root: str, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._files: set[str] = set()
        self._links: dict[str, str] = {}
        self._known: set[str] = {""}
        self._unnamed = 0
        self.count = 0
        self.bytes = 0

    def take(self, name: str) -> str:
        """The plain path of the next member, which counts. Raises: Refused."""
        self.count += 1
        self._check_count()
        return plain_path(name)

    def make_folder(self, path: str) -> None:
        """A folder, and those above it; it may be there."""
        if path in self._known:
            return
        self._need(path.rpartition("/")[0])
        try:
            os.makedirs(os.path.join(self._root, path), 0o755, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"{path!r} is a folder and something else") from None
        self._known.add(path)

    def _need(self, path: str) -> None:
        """A folder that perhaps only the names of others tell of, which counts as well."""
        if path not in self._known:
            self._unnamed += 1
            self._check_count()
            self.make_folder(path)

    def _check_count(self) -> None:
        if self.count + self._unnamed > self._limits.files_max:
            raise self._limits.too_many()

    def link(self, path: str, target: str) -> None:
        """A symbolic link, to be made by `finish`."""
        self._name(path)
        if path in self._links or path in self._files:
            raise Refused(f"{path!r} is there twice")
        self._links[path] = target

    def link_hard(self, path: str, target_name: str) -> None:
        """Another name of a file that was written before."""
        self._name(path)
        target = plain_path(target_name)
        if target == path and path in self._files:
            return  # `tar cf a.tar x x` writes this
        if target not in self._files:
            raise Refused(f"hard link {path!r} is to {target!r}, which is no file before it")
        try:
            place = self._place(path)
            os.link(os.path.join(self._root, target), place, follow_symlinks=False)
        except FileExistsError:
            raise Refused(f"{path!r} is there twice") from None
        self._files.add(path)

    def write(self, path: str, mode: int, mtime: int, pieces: Iterable[bytes]) -> Iterator[None]:
        """A file; goes on piece by piece. `mtime`: seconds since the epoch, 0 for now.

        Of the mode only the owner's right to execute is kept.
        """
        self._name(path)
        if mode & _SET_ID and not self._limits.set_id:
            raise Refused(f"{path!r} has a set-user-id or set-group-id bit")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._place(path), flags, 0o600)
        except FileExistsError:
            raise Refused(f"{path!r} is there twice") from None
        with open(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
                self.bytes += len(piece)
                yield
            os.fchmod(descriptor, 0o644 | (0o111 if mode & stat.S_IXUSR else 0))
            if mtime:
                with contextlib.suppress(OverflowError):
                    os.utime(descriptor, (mtime, mtime))
        self._files.add(path)

    def finish(self) -> None:
        """Make the links."""
        check_links(self._links)
        for path, target in self._links.items():
            place = self._place(path)
            try:
                os.symlink(target, place)
            except FileExistsError:
                raise Refused(f"{path!r} is a link and something else") from None

    @staticmethod
    def _name(path: str) -> None:
        if not path:
            raise Refused("it has a file without a name")

    def _place(self, path: str) -> str:
        """Where a member goes; its folder is made. No links exist yet, so it is below the root."""
        self._need(os.path.dirname(path))
        return os.path.join(self._root, path)
