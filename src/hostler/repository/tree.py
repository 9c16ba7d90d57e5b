"""What lies in a folder, as cheaply as the system tells it, and never outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hostler.core import Code, HostlerError

__all__ = ["Bounds", "FileStamp", "Item", "Tree", "list_folder", "look_at", "walk"]

_DEPTH_MAX = 16
"""Folders within folders; also what stops a link to a folder above itself."""

_ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})
"""What tells a Python environment from other folders; its tens of thousands of files are not
looked at one by one, and links out of it are its own matter."""


class FileStamp(NamedTuple):
    """One file of a package; equal stamps mean an unchanged file.

    `path`: relative to the package, with slashes.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


class Item(NamedTuple):
    """One entry of a folder. `problem`: why it must not be opened, "" if it may."""

    name: str
    path: str
    is_folder: bool
    size: int
    mtime_ns: int
    inode: int
    problem: str


class Tree(NamedTuple):
    """A package's files in path order, and the names of its top folders (files are within too)."""

    files: tuple[FileStamp, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where reading ends.

    `root`: the resolved folder that nothing may leave, unless `follow_links`. `files_max`: most
    entries in one package; `entries_max`: in one folder that holds packages.
    """

    root: str
    follow_links: bool
    files_max: int
    entries_max: int


def list_folder(path: str, bounds: Bounds, entries_max: int) -> list[Item]:
    """The entries in name order: regular files and folders that are not hidden.

    `__pycache__` is left out: Python writes it when a model is loaded, which changes no model.
    Raises: OSError, or INVALID_ARGUMENT for more than `entries_max` entries.
    """
    items: list[Item] = []
    with os.scandir(path) as entries:
        for count, entry in enumerate(entries):
            if count >= entries_max:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"folder '{path}' has more than {entries_max} entries; move what is not part "
                    "of a model elsewhere",
                )
            name = entry.name
            if name[0] == "." or name == "__pycache__":
                continue
            item = _item(entry, bounds)
            if item is not None:
                items.append(item)
    items.sort()
    return items


def look_at(path: str) -> Item:
    """A file or folder that was named by its path; links are followed. Raises: OSError."""
    status = os.stat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    problem = "" if is_folder or stat.S_ISREG(status.st_mode) else f"'{path}' is no regular file"
    name = os.path.basename(path)
    return Item(name, path, is_folder, status.st_size, status.st_mtime_ns, status.st_ino, problem)


def _item(entry: os.DirEntry[str], bounds: Bounds) -> Item | None:
    name, path, problem = entry.name, entry.path, ""
    if entry.is_symlink():
        problem = _link_problem(path, bounds)
        if problem:
            return Item(name, path, os.path.isdir(path), 0, 0, 0, problem)
    try:
        if entry.is_dir():
            return Item(name, path, True, 0, 0, 0, "")
        status = entry.stat()
    except FileNotFoundError:
        return None  # removed since the folder was listed
    if not stat.S_ISREG(status.st_mode):
        return None  # a pipe or device would block or lie
    return Item(name, path, False, status.st_size, status.st_mtime_ns, status.st_ino, "")


def _link_problem(path: str, bounds: Bounds) -> str:
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return f"link '{path}' points to '{target}', which does not exist"
    if bounds.follow_links or _is_within(target, bounds.root):
        return ""
    return (
        f"link '{path}' leaves the repository '{bounds.root}' for '{target}'; copy the file, or "
        "set repository.follow_links"
    )


def _is_within(path: str, root: str) -> bool:
    """Whether a resolved path is this resolved folder or lies in it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def walk(items: Sequence[Item], bounds: Bounds) -> Tree:
    """All files of a package whose own folder has these `items`.

    Raises: INVALID_ARGUMENT for links that leave, for too many files and for too deep folders.
    """
    files: list[FileStamp] = []
    pending = [("", 0, items)]
    seen = 0
    while pending:
        prefix, depth, inside = pending.pop()
        seen += len(inside)
        if seen > bounds.files_max:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"more than {bounds.files_max} files and folders in the package; move what is not "
                "part of the model elsewhere, or raise repository.files_max",
            )
        for item in inside:
            if item.problem:
                raise HostlerError(Code.INVALID_ARGUMENT, item.problem)
            if not item.is_folder:
                files.append(FileStamp(prefix + item.name, item.size, item.mtime_ns, item.inode))
                continue
            if depth == _DEPTH_MAX:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"'{item.path}' is nested more than {_DEPTH_MAX} folders deep",
                )
            below = list_folder(item.path, bounds, bounds.files_max)
            mark = next((entry for entry in below if entry.name in _ENVIRONMENT_MARKS), None)
            if mark is not None:
                status = os.stat(mark.path)
                path = f"{prefix}{item.name}/{mark.name}"
                files.append(FileStamp(path, 0, status.st_mtime_ns, status.st_ino))
                continue
            pending.append((f"{prefix}{item.name}/", depth + 1, below))
    files.sort()
    return Tree(tuple(files), tuple(item.name for item in items if item.is_folder))
