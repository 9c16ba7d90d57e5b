"""The repositories of a server: what they hold now, as packages."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hostler.core import Code, HostlerError, ModelSpec, Report
from hostler.repository.config import Config
from hostler.repository.entries import Entry, list_entries, only_entry, tree_of
from hostler.repository.environments import Environments
from hostler.repository.formats import TRITON
from hostler.repository.overrides import check_files, override_token, stated_by, write_files
from hostler.repository.package import Override, Package, readable
from hostler.repository.source import Source, StatedConfig
from hostler.repository.tree import Bounds, Tree, list_folder, look_at

__all__ = ["Repository"]


class _Kept(NamedTuple):
    """An override in force. `folder`: its files, or None where it has a config alone."""

    stated: StatedConfig | None
    token: str
    folder: str | None


class _Read(NamedTuple):
    """A package as it was last read, and from what."""

    path: str
    tree: Tree
    token: str
    package: Package


class Repository:
    """Packages under several roots, and the overrides that load requests put over them.

    A root is a model repository (a folder of models, bare model files among them), one model
    folder, or one model file. The methods block on the disk and may be called from any thread.
    Nothing is read outside of the roots, and `close` removes what overrides have written.
    `environments`: None leaves all models to the server's own Python.
    """

    def __init__(
        self, roots: Sequence[Path], config: Config, environments: Environments | None = None
    ) -> None:
        self._environments = environments
        self._roots = tuple(dict.fromkeys(os.path.abspath(root) for root in roots))
        self._config = config
        self._lock = threading.Lock()
        self._last: dict[str, _Read] = {}
        self._kept: dict[str, _Kept] = {}
        # A replaced override's files stay until the next one: replicas may still start from them.
        self._retired: dict[str, str] = {}
        self._private: str | None = None
        self._numbers = itertools.count()
        self._finalizer: weakref.finalize[..., Repository] | None = None

    @property
    def roots(self) -> tuple[str, ...]:
        """Where it looks."""
        return self._roots

    def scan(self) -> dict[str, Package]:
        """All packages by name, in name order; unchanged ones are the same objects as before.

        Raises: NOT_FOUND, INVALID_ARGUMENT for a root that cannot be looked at.
        """
        with self._lock:
            found = list_entries(self._roots, self._config)
            names = {*found, *(name for name, kept in self._kept.items() if kept.folder)}
            packages = {name: self._package(name, found.get(name, [])) for name in sorted(names)}
            for gone in self._last.keys() - packages.keys():
                del self._last[gone]
            return packages

    def read(self, name: str, override: Override | None = None) -> Package:
        """One package as it is on disk now.

        `override`: None keeps the one in force; an empty one drops it; any other takes its place,
        unless the package cannot be read with it (`Package.error`), in which case the one in force
        stays. With files the model need not be in a repository.
        Raises: NOT_FOUND for an unknown name; INVALID_ARGUMENT, PAYLOAD_TOO_LARGE for an override
        that cannot be used.
        """
        if override is not None and override.config is None and not override.files:
            self.drop_override(name)
            override = None
        with self._lock:
            entries = list_entries(self._roots, self._config, name).get(name, [])
            if override is None:
                kept = self._kept.get(name)
                if not entries and (kept is None or kept.folder is None):
                    raise self._not_found(name)
                return self._package(name, entries)
            if not entries and not override.files:
                raise self._not_found(name)
            return self._overridden(name, entries, override)

    async def equip(self, spec: ModelSpec, report: Report) -> ModelSpec:
        """The spec, ready to be loaded: with an interpreter if its package asks for its own.

        `report` gets what is being done where that takes long. Loop thread only. Raises:
        INVALID_ARGUMENT, UNAVAILABLE naming model, file and what to mend.
        """
        if self._environments is None:
            return spec
        return await self._environments.equip(spec, report)

    def drop_override(self, name: str) -> None:
        """Go back to the package's own files and configuration. Nothing happens without one."""
        with self._lock:
            kept = self._kept.pop(name, None)
            self._last.pop(name, None)
            if kept is not None:
                self._retire(name, kept.folder)

    def close(self) -> None:
        """Remove the files of all overrides, and let environments be pruned. Idempotent."""
        with self._lock:
            self._kept.clear()
            self._retired.clear()
            if self._environments is not None:
                self._environments.close()
            if self._finalizer is not None:
                self._finalizer()
                self._finalizer = self._private = None

    def _overridden(self, name: str, entries: list[Entry], override: Override) -> Package:
        check_files(name, override, self._config.override_bytes_max)
        stated = stated_by(name, override)
        token = override_token(stated, override.files)
        before = self._kept.get(name)
        if before is not None and before.token == token:
            return self._package(name, entries)
        folder = None
        if override.files:
            folder = os.path.join(self._private_folder(), str(next(self._numbers)))
            try:
                write_files(folder, name, override.files)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        self._kept[name] = _Kept(stated, token, folder)
        package = self._package(name, entries)
        if package.error is None:
            self._retire(name, before.folder if before is not None else None)
            return package
        if before is None:
            del self._kept[name]
        else:
            self._kept[name] = before
        self._last.pop(name, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return package

    def _retire(self, name: str, folder: str | None) -> None:
        if folder is None:
            return
        old = self._retired.pop(name, None)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        self._retired[name] = folder

    def _private_folder(self) -> str:
        if self._private is None:
            self._private = tempfile.mkdtemp(prefix="hostler-")
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._private, True)
        return self._private

    def _package(self, name: str, entries: list[Entry]) -> Package:
        """Read a package, or return it as it was where nothing has changed."""
        kept = self._kept.get(name)
        private = kept is not None and kept.folder is not None
        try:
            if kept is not None and kept.folder is not None:
                entry = self._private_entry(name, kept.folder)
            else:
                entry = only_entry(name, entries)
            tree = tree_of(entry)
            token = kept.token if kept is not None else ""
            last = self._last.get(name)
            if (
                last is not None
                and last.tree == tree
                and last.path == entry.item.path
                and last.token == token
            ):
                return last.package
            stated = kept.stated if kept is not None else None
            source = Source(name, entry.item, tree, self._config, stated, token, private)
            package = _read(entry, source)
        except HostlerError as error:
            self._last.pop(name, None)
            return Package(name, error=error)
        except OSError as error:
            self._last.pop(name, None)
            return Package(name, error=_unreadable(name, error))
        self._last[name] = _Read(entry.item.path, tree, token, package)
        return package

    def _private_entry(self, name: str, folder: str) -> Entry:
        bounds = Bounds(folder, False, self._config.files_max, self._config.files_max)
        inside = list_folder(folder, bounds, bounds.files_max)
        return Entry(name, look_at(folder), inside, TRITON, bounds)

    def _not_found(self, name: str) -> HostlerError:
        roots = ", ".join(f"'{root}'" for root in self._roots)
        return HostlerError(
            Code.NOT_FOUND, f"model '{name}' is not in the model repository ({roots})"
        )


def _read(entry: Entry, source: Source) -> Package:
    assert entry.format is not None
    try:
        return Package(source.name, entry.format.read(source))
    except HostlerError as error:
        # Kept like a good one: it stays wrong until its files change.
        return Package(source.name, error=error)


def _unreadable(name: str, error: OSError) -> HostlerError:
    return HostlerError(
        Code.INVALID_ARGUMENT,
        readable(f"model '{name}': cannot read '{error.filename}': {error.strerror}"),
    )
