"""What a format is given to read, and what all formats share in making specs of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostler.core import Code, HostlerError, ModelSpec
from hostler.protocols.oip.model_config import MODEL_CONFIG
from hostler.repository.config import Config
from hostler.repository.derive import derive, normalise
from hostler.repository.package import contradiction
from hostler.repository.platforms import Platform
from hostler.repository.tree import FileStamp, Item, Tree

__all__ = [
    "NOTHING_STATED",
    "Source",
    "StatedConfig",
    "VersionFiles",
    "read_bounded",
    "select_versions",
    "specs_of",
]


@dataclass(frozen=True, slots=True)
class StatedConfig:
    """A configuration that somebody wrote, in its JSON form.

    `states_rows`: it sets `max_batch_size`, be it to 0.
    """

    config: Mapping[str, Any]
    states_rows: bool


NOTHING_STATED = StatedConfig(MODEL_CONFIG, states_rows=False)


@dataclass(frozen=True, slots=True)
class Source:
    """One package to read.

    `item`: its folder or file; `tree`: what lies in it. `stated`: a config that replaces its own,
    or None. `token`: identifies what a load request brought, "" for nothing; `private`: the files
    came with it, so that the token stands for them too.
    """

    name: str
    item: Item
    tree: Tree
    config: Config
    stated: StatedConfig | None = None
    token: str = ""
    private: bool = False


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What one version loads. `stamps`: all files that it consists of, `file` included."""

    version: int
    file: Path
    stamps: Sequence[FileStamp]


def read_bounded(path: str, model: str, bytes_max: int, setting: str) -> str:
    """A whole text file. Raises: INVALID_ARGUMENT if it is longer or is not UTF-8; OSError."""
    with open(path, "rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise contradiction(model, path, f"is longer than {bytes_max} bytes (repository.{setting})")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{path}:{line}: not UTF-8 text: {error.reason}"
        ) from None


def select_versions(model: str, policy: Mapping[str, Any], present: Sequence[int]) -> Sequence[int]:
    """The versions to serve of those present (ascending, not empty).

    `policy`: `version_policy` in its JSON form, {} for the default, which is the latest one.
    Raises: INVALID_ARGUMENT for a specific version that is not there.
    """
    if "all" in policy:
        return present
    if "specific" in policy:
        wanted = sorted(set(policy["specific"]["versions"]))
        for version in wanted:
            if version not in present:
                raise contradiction(
                    model,
                    "version_policy.specific",
                    f"version {version} is not there; there are {', '.join(map(str, present))}",
                )
        return wanted
    # The schema's default of 0 is what `latest {}` gives: one version, as without a policy.
    return present[-max(1, policy.get("latest", {}).get("num_versions", 1)) :]


def specs_of(
    source: Source,
    stated: StatedConfig,
    platform: Platform,
    versions: Sequence[VersionFiles],
    shared: Sequence[FileStamp] = (),
) -> tuple[ModelSpec, ...]:
    """Partial specs of the served versions, ascending.

    `shared`: files that all versions depend on. Raises: INVALID_ARGUMENT, UNIMPLEMENTED.
    """
    item, settings = source.item, source.config
    directory = Path(item.path) if item.is_folder else Path(item.path).parent
    rows_known = stated.states_rows or stated.config["max_batch_size"] != 0
    specs = []
    for found in versions:
        spec = ModelSpec(
            name=source.name,
            version=found.version,
            directory=directory,
            file=found.file,
            runtime=platform.runtime,
            platform=platform.platform,
            backend=platform.backend,
            auto_complete=settings.auto_complete,
            rows_ceiling=settings.default_rows_max
            if settings.auto_complete and not rows_known
            else 0,
            file_bytes=sum(stamp.size for stamp in found.stamps),
            fingerprint=_fingerprint(source, found.stamps, shared),
        )
        config = normalise(stated.config, source.name, platform, found.file.name)
        specs.append(derive(spec, config, rows_known=rows_known))
    return tuple(specs)


def _fingerprint(source: Source, stamps: Sequence[FileStamp], shared: Sequence[FileStamp]) -> str:
    files = () if source.private else (tuple(shared), tuple(stamps))
    digest = hashlib.blake2b(repr((source.token, files)).encode(), digest_size=16)
    return digest.hexdigest()
