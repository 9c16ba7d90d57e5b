"""Files that a load request brings, in a private folder laid out like a package."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

from hostler.core import Code, HostlerError
from hostler.protocols.oip.model_config import parse_json, to_json
from hostler.repository.package import Override
from hostler.repository.source import StatedConfig

__all__ = ["check_files", "override_token", "stated_by", "write_files"]

_FILES_MAX = 1000
_PATH_PARTS_MAX = 16
_NAME_BYTES_MAX = 255
"""NAME_MAX of the file systems in use."""


def stated_by(name: str, override: Override) -> StatedConfig | None:
    """The config of a load request, or None if it brings none. Raises: INVALID_ARGUMENT."""
    if override.config is None:
        return None
    config = to_json(parse_json(override.config, f"config override of model '{name}'"))
    states_rows = "max_batch_size" in override.config or "maxBatchSize" in override.config
    return StatedConfig(config, states_rows)


def override_token(stated: StatedConfig | None, files: Mapping[str, bytes]) -> str:
    """Identifies an override by its content, so that the same one again changes nothing."""
    digest = hashlib.blake2b(digest_size=16)
    if stated is not None:
        digest.update(json.dumps([stated.config, stated.states_rows], sort_keys=True).encode())
    for path in sorted(files):
        content = files[path]
        digest.update(f"\0{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def check_files(name: str, override: Override, bytes_max: int) -> None:
    """Refuse files that are too many, too large or would lie outside the package.

    Raises: INVALID_ARGUMENT, PAYLOAD_TOO_LARGE.
    """
    if override.files and override.config is None:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"load of model '{name}' brings files without a config; add the parameter 'config'",
        )
    if len(override.files) > _FILES_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"load of model '{name}' brings {len(override.files)} files; at most {_FILES_MAX}",
        )
    total = sum(len(content) for content in override.files.values())
    if total > bytes_max:
        raise HostlerError(
            Code.PAYLOAD_TOO_LARGE,
            f"load of model '{name}' brings {total} bytes of files; at most {bytes_max} "
            "(repository.override_bytes_max)",
        )
    for path in override.files:
        problem = _path_problem(path)
        if problem:
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"load of model '{name}': file {path[:300]!r} {problem}"
            )


def _path_problem(path: str) -> str:
    parts = path.split("/")
    if len(parts) > _PATH_PARTS_MAX:
        return f"lies more than {_PATH_PARTS_MAX - 1} folders deep"
    for part in parts:
        if part in ("", ".", "..") or "\\" in part or "\0" in part:
            return "is not a plain path within the package, such as 1/model.onnx"
        if part[0] == ".":
            return "is hidden; hidden files are no part of a package"
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            return "has a name that is not text"
        if size > _NAME_BYTES_MAX:
            return f"has a name of more than {_NAME_BYTES_MAX} bytes"
    return ""


def write_files(folder: str, name: str, files: Mapping[str, bytes]) -> None:
    """Write checked files into a new folder of this path, readable by this user alone.

    Raises: INVALID_ARGUMENT if one path is a folder of another; OSError.
    """
    os.mkdir(folder, 0o700)
    for path, content in files.items():
        target = os.path.join(folder, *path.split("/"))
        try:
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            with open(target, "xb") as file:
                file.write(content)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"load of model '{name}': file '{path}' and another one cannot both exist",
            ) from None
