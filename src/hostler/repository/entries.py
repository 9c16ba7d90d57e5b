"""Where packages lie under the roots, before any of them is read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hostler.core import Code, HostlerError
from hostler.repository.config import Config
from hostler.repository.formats import SINGLE_FILE, TRITON, Format, single_file
from hostler.repository.package import contradiction, readable
from hostler.repository.platforms import MODEL_FILES
from hostler.repository.tree import Bounds, FileStamp, Item, Tree, list_folder, look_at, walk

__all__ = ["Entry", "list_entries", "only_entry", "tree_of"]

_log = logging.getLogger("hostler.repository")


class Entry(NamedTuple):
    """Where one package lies.

    `inside`: its folder's entries, or the files that it consists of. `error`: why it cannot be
    looked at; then `format` is None.
    """

    name: str
    item: Item
    inside: Sequence[Item]
    format: Format | None
    bounds: Bounds
    error: HostlerError | None = None


def list_entries(
    roots: Sequence[str], config: Config, wanted: str | None = None
) -> dict[str, list[Entry]]:
    """What the roots hold, by name; several entries of one name are a mistake to report.

    `wanted`: leave out what cannot have this name.
    Raises: NOT_FOUND, INVALID_ARGUMENT for a root that cannot be looked at.
    """
    found: dict[str, list[Entry]] = {}
    for root in roots:
        try:
            for entry in _root_entries(root, config, wanted):
                found.setdefault(entry.name, []).append(entry)
        except FileNotFoundError:
            raise HostlerError(Code.NOT_FOUND, f"repository path '{root}' does not exist") from None
        except OSError as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"repository path '{root}' cannot be read: {error.strerror}",
            ) from None
    return found


def only_entry(name: str, entries: Sequence[Entry]) -> Entry:
    """The entry of a name. Raises: INVALID_ARGUMENT if there are several or it has a problem."""
    # One folder may be seen twice, as a root and within another root.
    if len(entries) > 1 and len({os.path.realpath(entry.item.path) for entry in entries}) > 1:
        paths = " and ".join(f"'{entry.item.path}'" for entry in entries)
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"model '{name}' lies in {paths}; keep or rename one of them"
        )
    entry = entries[0]
    if entry.error is not None:
        raise entry.error
    return entry


def tree_of(entry: Entry) -> Tree:
    """All files of a package. Raises: INVALID_ARGUMENT naming the model; OSError."""
    try:
        if entry.item.is_folder:
            return walk(entry.inside, entry.bounds)
    except HostlerError as error:
        message = readable(f"model '{entry.name}': {error.message}")
        raise HostlerError(error.code, message) from None
    files = (FileStamp(i.name, i.size, i.mtime_ns, i.inode) for i in entry.inside)
    return Tree(tuple(files), ())


def _root_entries(root: str, config: Config, wanted: str | None) -> Iterator[Entry]:
    item = look_at(root)
    if not item.is_folder:
        yield _named_file(item, config)
        return
    bounds = Bounds(
        os.path.realpath(root), config.follow_links, config.files_max, config.models_max
    )
    inside = list_folder(root, bounds, bounds.entries_max)
    if TRITON.detect(item, inside):
        yield Entry(item.name, item, inside, TRITON, bounds)
        return
    files = {entry.name: entry for entry in inside if not entry.is_folder}
    for below in inside:
        if wanted is not None and wanted not in (below.name, SINGLE_FILE.name_of(below)):
            continue
        if not _is_text(below.name):
            _log.warning(
                "repository.entry_ignored",
                extra={"event": {"path": ascii(below.path), "reason": "its name is not UTF-8"}},
            )
            continue
        if below.is_folder:
            entry = _folder_entry(below, bounds)
        else:
            entry = _bare_entry(below, files, bounds)
        if entry is not None:
            yield entry


def _is_text(name: str) -> bool:
    """Whether a name can travel: file systems hold any bytes, the wires only UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named_file(item: Item, config: Config) -> Entry:
    """A root that is a file: its user has named it, so it may itself be a link."""
    if item.problem or not SINGLE_FILE.detect(item, ()):
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"'{item.path}' is no model; a folder, a file ending in "
            f"{', '.join(single_file.SUFFIXES)}, or model.py is expected",
        )
    folder = os.path.dirname(item.path)
    bounds = Bounds(folder, config.follow_links, config.files_max, config.models_max)
    beside = [os.path.join(folder, name) for name in single_file.companions(item.name)]
    files = [item, *(look_at(path) for path in beside if os.path.isfile(path))]
    return Entry(SINGLE_FILE.name_of(item), item, files, SINGLE_FILE, bounds)


def _bare_entry(item: Item, files: Mapping[str, Item], bounds: Bounds) -> Entry | None:
    if not SINGLE_FILE.detect(item, ()):
        return None
    name = SINGLE_FILE.name_of(item)
    beside = [files[other] for other in single_file.companions(item.name) if other in files]
    for file in (item, *beside):
        if file.problem:
            return Entry(name, item, (), None, bounds, contradiction(name, "path", file.problem))
    return Entry(name, item, [item, *beside], SINGLE_FILE, bounds)


def _folder_entry(item: Item, bounds: Bounds) -> Entry | None:
    name = item.name
    if item.problem:
        return Entry(name, item, (), None, bounds, contradiction(name, "path", item.problem))
    try:
        inside = list_folder(item.path, bounds, bounds.files_max)
    except (HostlerError, OSError) as error:
        _log.warning(
            "repository.folder_ignored",
            extra={"event": {"path": item.path, "reason": str(error)}},
        )
        return None
    if TRITON.detect(item, inside):
        return Entry(name, item, inside, TRITON, bounds)
    file = next((below.name for below in inside if below.name in MODEL_FILES), None)
    if file is not None:
        misplaced = contradiction(
            name,
            "path",
            f"'{item.path}/{file}' is in no version folder; move it to '{item.path}/1/{file}'",
        )
        return Entry(name, item, (), None, bounds, misplaced)
    if inside:
        reason = "neither config.pbtxt nor a version folder (1, 2, ...) nor a model file"
        event = {"path": item.path, "reason": reason}
        _log.info("repository.folder_ignored", extra={"event": event})
    return None
