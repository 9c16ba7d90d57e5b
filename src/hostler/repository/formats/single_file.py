"""A bare model file: `x.onnx`, `x.pt`, `x.pt2` or `model.py`, which is version 1 of model x."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hostler.core import ModelSpec
from hostler.repository.package import contradiction
from hostler.repository.packaged_python import REQUIREMENTS, with_environments
from hostler.repository.platforms import platform_for_file, stated_platform
from hostler.repository.source import (
    NOTHING_STATED,
    Source,
    VersionFiles,
    select_versions,
    specs_of,
)
from hostler.repository.tree import Item

__all__ = ["SUFFIXES", "companions", "detect", "name_of", "read"]

SUFFIXES: Final = (".onnx", ".pt", ".pt2")

_PYTHON_FILE: Final = "model.py"


def detect(item: Item, inside: Sequence[Item]) -> bool:
    """Whether this is a model file by its name."""
    return not item.is_folder and (item.name.endswith(SUFFIXES) or item.name == _PYTHON_FILE)


def name_of(item: Item) -> str:
    """The file's stem; a `model.py` is called after its folder."""
    path = os.path.abspath(item.path)
    if item.name == _PYTHON_FILE:
        return os.path.basename(os.path.dirname(path))
    return os.path.splitext(item.name)[0]


def companions(name: str) -> tuple[str, ...]:
    """Names of files beside a model file that belong to it.

    Those under which exporters keep an ONNX file's large tensors; what a `model.py` needs.
    """
    if name == _PYTHON_FILE:
        return (REQUIREMENTS,)
    if not name.endswith(".onnx"):
        return ()
    return (f"{name}.data", f"{name}_data", f"{name[:-5]}.data")


def read(source: Source) -> tuple[ModelSpec, ...]:
    """The one version. Raises: INVALID_ARGUMENT, UNIMPLEMENTED if a given config does not fit."""
    item = source.item
    stated = source.stated or NOTHING_STATED
    platform = platform_for_file(item.name)
    assert platform is not None
    if stated_platform(source.name, stated.config) not in (None, platform):
        raise contradiction(
            source.name, "backend", f"does not fit the file '{item.path}'; leave it out"
        )
    filename = stated.config["default_model_filename"]
    if filename not in ("", item.name):
        raise contradiction(
            source.name, "default_model_filename", f"is '{filename}'; the file is '{item.name}'"
        )
    select_versions(source.name, stated.config.get("version_policy", {}), [1])
    files = VersionFiles(1, Path(item.path), source.tree.files)
    return with_environments(source, specs_of(source, stated, platform, [files]))
