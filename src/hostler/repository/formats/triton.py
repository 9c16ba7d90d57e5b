"""A model folder of a Triton model repository.

    <model>/config.pbtxt           optional
    <model>/requirements.txt       optional, here or beside the model's file: its own Python
    <model>/<labels>.txt           named by an output's label_filename
    <model>/warmup/<file>          named by a model_warmup input
    <model>/<version>/model.onnx   or model.pt, model.pt2, model.py, default_model_filename

Source: triton server docs/user_guide/model_repository.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hostler.core import ModelSpec
from hostler.protocols.oip.model_config import parse_text, states_max_batch_size, to_json
from hostler.repository.checks import check_served, ignored_fields
from hostler.repository.ensembles import ENSEMBLE
from hostler.repository.package import contradiction
from hostler.repository.packaged_python import with_environments
from hostler.repository.platforms import MODEL_FILES, PLATFORMS, Platform, stated_platform
from hostler.repository.sequences import INITIAL_BYTES_MAX, initial_state, state_files
from hostler.repository.source import (
    NOTHING_STATED,
    Source,
    StatedConfig,
    VersionFiles,
    read_bounded,
    select_versions,
    specs_of,
)
from hostler.repository.tree import FileStamp, Item

__all__ = ["detect", "name_of", "own_config", "read", "version_of"]

CONFIG_FILE: Final = "config.pbtxt"

_VERSION_DIGITS_MAX: Final = 18
"""Versions are int64 on the wire."""

_log = logging.getLogger("hostler.repository")


def version_of(folder: str) -> int | None:
    """The version that a folder's name stands for; None for other folders.

    Names that start with 0 or are not numeric are none, as in Triton.
    """
    if (
        not folder.isascii()
        or not folder.isdigit()
        or folder[0] == "0"
        or len(folder) > _VERSION_DIGITS_MAX
    ):
        return None
    return int(folder)


def detect(item: Item, inside: Sequence[Item]) -> bool:
    """Whether a folder has a config.pbtxt or a version folder."""
    return item.is_folder and any(
        version_of(entry.name) is not None if entry.is_folder else entry.name == CONFIG_FILE
        for entry in inside
    )


def name_of(item: Item) -> str:
    """The folder's name."""
    return item.name


def read(source: Source) -> tuple[ModelSpec, ...]:
    """The versions that the policy serves.

    Raises: INVALID_ARGUMENT, UNIMPLEMENTED naming the model and the field or file; OSError.
    """
    stated = source.stated or own_config(source)
    config = stated.config
    ignored = ignored_fields(config)
    if ignored:
        _log.warning(
            "repository.fields_ignored",
            extra={"event": {"model": source.name, "fields": ignored}},
        )
    check_served(source.name, config)
    platform = stated_platform(source.name, config)
    present = _present_versions(source)
    own: dict[int, list[FileStamp]] = {version: [] for version in present}
    shared: list[FileStamp] = []
    for stamp in source.tree.files:
        folder, slash, _ = stamp.path.partition("/")
        version = version_of(folder) if slash else None
        (shared if version is None else own[version]).append(stamp)
    served = select_versions(source.name, config.get("version_policy", {}), present)
    if platform is None:
        platform = _found_platform(source, served[-1], own[served[-1]])
    versions = [
        VersionFiles(
            number, _model_file(source, platform, config, number, own[number]), own[number]
        )
        for number in served
    ]
    specs = with_environments(source, specs_of(source, stated, platform, versions, shared))
    _check_warmup_files(source, config, shared)
    labels = _labels(source, config, shared)
    states = _initial_states(source, config, shared)
    if states:
        specs = tuple(replace(spec, initial_states=states) for spec in specs)
    return tuple(replace(spec, labels=labels) for spec in specs) if labels else specs


def own_config(source: Source) -> StatedConfig:
    """What its config.pbtxt says, or nothing. Raises: INVALID_ARGUMENT; OSError."""
    stamp = next((s for s in source.tree.files if s.path == CONFIG_FILE), None)
    if stamp is None:
        return NOTHING_STATED
    path = os.path.join(source.item.path, CONFIG_FILE)
    text = read_bounded(path, source.name, source.config.config_bytes_max, "config_bytes_max")
    config = to_json(parse_text(text, path))
    return StatedConfig(config, bool(config["max_batch_size"]) or states_max_batch_size(text, path))


def _present_versions(source: Source) -> list[int]:
    versions = sorted(v for v in map(version_of, source.tree.folders) if v is not None)
    if not versions:
        path = source.item.path
        raise contradiction(
            source.name, path, f"has no version folder; put the model's file into '{path}/1/'"
        )
    if len(versions) > source.config.versions_max:
        raise contradiction(
            source.name,
            source.item.path,
            f"has {len(versions)} version folders, more than {source.config.versions_max} "
            "(repository.versions_max)",
        )
    return versions


def _found_platform(source: Source, version: int, stamps: Sequence[FileStamp]) -> Platform:
    names = {stamp.path for stamp in stamps}
    for platform in PLATFORMS:
        if any(f"{version}/{file}" in names for file in platform.files):
            return platform
    raise contradiction(
        source.name,
        f"version {version}",
        f"no model file in '{source.item.path}/{version}'; looked for {', '.join(MODEL_FILES)}. "
        "Name backend and default_model_filename in config.pbtxt for a file called otherwise",
    )


def _model_file(
    source: Source,
    platform: Platform,
    config: Mapping[str, Any],
    version: int,
    stamps: Sequence[FileStamp],
) -> Path:
    if platform.runtime == ENSEMBLE:
        return Path(source.item.path, str(version))
    stated = config["default_model_filename"]
    wanted = (stated,) if stated else platform.files
    # Only what the walk has seen is loaded, so no name leads out of the package.
    names = {stamp.path for stamp in stamps}
    for name in wanted:
        if f"{version}/{name}" in names:
            return Path(source.item.path, str(version), name)
    raise contradiction(
        source.name,
        f"version {version}",
        f"no file {' or '.join(repr(name) for name in wanted)} in "
        f"'{source.item.path}/{version}', which backend '{platform.backend}' loads",
    )


def _check_warmup_files(
    source: Source, config: Mapping[str, Any], shared: Sequence[FileStamp]
) -> None:
    names = {stamp.path for stamp in shared}
    for warmup in config["model_warmup"]:
        for name, given in warmup["inputs"].items():
            file = given.get("input_data_file")
            if file and f"warmup/{file}" not in names:
                raise contradiction(
                    source.name,
                    f"model_warmup '{warmup['name']}', input '{name}'.input_data_file",
                    f"no file 'warmup/{file}' in '{source.item.path}'",
                )


def _initial_states(
    source: Source, config: Mapping[str, Any], shared: Sequence[FileStamp]
) -> dict[str, bytes]:
    sizes = {stamp.path: stamp.size for stamp in shared}
    states: dict[str, bytes] = {}
    for name, file in state_files(config).items():
        place = f"sequence_batching.state '{name}'.initial_state.data_file"
        size = sizes.get(f"initial_state/{file}")
        if size is None:
            text = f"no file 'initial_state/{file}' in '{source.item.path}'"
            raise contradiction(source.name, place, text)
        if size > INITIAL_BYTES_MAX:
            text = f"'{file}' has {size} bytes; at most {INITIAL_BYTES_MAX} are served"
            raise contradiction(source.name, place, text)
        content = Path(source.item.path, "initial_state", file).read_bytes()
        states[name] = initial_state(source.name, config, name, content)
    return states


def _labels(
    source: Source, config: Mapping[str, Any], shared: Sequence[FileStamp]
) -> dict[str, tuple[str, ...]]:
    names = {stamp.path for stamp in shared}
    labels: dict[str, tuple[str, ...]] = {}
    for tensor in config["output"]:
        file = tensor["label_filename"]
        if not file:
            continue
        place = f"output '{tensor['name']}'.label_filename"
        if file not in names:
            raise contradiction(source.name, place, f"no file '{file}' in '{source.item.path}'")
        path = os.path.join(source.item.path, file)
        text = read_bounded(path, source.name, source.config.label_bytes_max, "label_bytes_max")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        labels[tensor["name"]] = tuple(line.rstrip("\r") for line in lines)
    return labels
