"""Which Python a package asks for: a requirements.txt, or EXECUTION_ENV_PATH in its config.

Source: triton python_backend README, "Creating Custom Execution Environments".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hostler.core import Environment, ModelSpec
from hostler.repository.package import contradiction, unserved
from hostler.repository.source import Source

__all__ = ["REQUIREMENTS", "with_environments"]

REQUIREMENTS: Final = "requirements.txt"
PARAMETER: Final = "EXECUTION_ENV_PATH"

_MODEL_FOLDER: Final = "$$TRITON_MODEL_DIRECTORY"
_IN_WORKERS: Final = frozenset({"python", "torch"})
"""Runtimes whose models run on an interpreter of their own."""


def with_environments(source: Source, specs: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """The specs, each with the environment that its package asks for.

    EXECUTION_ENV_PATH wins over a requirements.txt, and one in the version's folder over one in
    the model's. Raises: INVALID_ARGUMENT, UNIMPLEMENTED naming the parameter.
    """
    sizes = {stamp.path: stamp.size for stamp in source.tree.files}
    return tuple(
        _with_environment(spec, _environment(source, spec, sizes.keys()), sizes)
        if spec.runtime in _IN_WORKERS
        else spec
        for spec in specs
    )


def _with_environment(
    spec: ModelSpec, environment: Environment | None, sizes: Mapping[str, int]
) -> ModelSpec:
    if environment is None:
        return spec
    file_bytes = spec.file_bytes
    if environment.source.is_relative_to(spec.file.parent):
        # An archive beside the model's file is not what a worker loads.
        file_bytes -= sizes.get(os.path.relpath(environment.source, spec.directory), 0)
    return replace(spec, environment=environment, file_bytes=file_bytes)


def _environment(source: Source, spec: ModelSpec, paths: Set[str]) -> Environment | None:
    parameters: Any = spec.config["parameters"]
    stated = str(parameters.get(PARAMETER, {}).get("string_value", ""))
    if stated:
        if not source.config.environments:
            raise unserved(
                spec.name,
                f"parameters.{PARAMETER}",
                "is not served: repository.environments is off",
            )
        return Environment("packed", _packed(spec, stated, paths), spec.directory)
    if not source.config.environments:
        return None
    for folder in (spec.file.parent, spec.directory):
        file = folder / REQUIREMENTS
        # Only what the walk has seen is read, so that links out of the repository are refused.
        if os.path.relpath(file, spec.directory) in paths:
            return Environment("requirements", file, spec.directory)
    return None


def _packed(spec: ModelSpec, stated: str, paths: Set[str]) -> Path:
    """Where the archive or folder lies: relative paths are within the package."""
    place = f"parameters.{PARAMETER}"
    text = stated.replace(_MODEL_FOLDER, str(spec.directory), 1)
    path = os.path.normpath(os.path.join(spec.directory, text))
    if os.path.isabs(stated):
        return Path(path)
    inside = os.path.relpath(path, spec.directory)
    if inside == os.curdir or inside.startswith(os.pardir):
        raise contradiction(
            spec.name,
            place,
            f"'{stated}' leaves the model's folder '{spec.directory}'; give an absolute path",
        )
    if not any(name == inside or name.startswith(f"{inside}/") for name in paths):
        raise contradiction(spec.name, place, f"'{stated}': no '{inside}' in '{spec.directory}'")
    return Path(path)
