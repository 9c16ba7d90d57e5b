"""Packages that bring request handlers of their own: what their readers have in common.

Such a model takes and gives bytes (`core.payload`), a request at a time. A reader of an archive is
a module here with

    LOOKED_FOR: Final = "an MLmodel file"              for whoever is told that nothing was found
    def detect(reading: Reading) -> bool               looks at `reading.paths` alone
    def read(reading: Reading) -> ModelSpec            one model, most often by `opaque_spec`

and a row in the table of `repository/containers.py`, whose order is that of detection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hostler.core import BODY, Environment, ModelSpec
from hostler.protocols.oip.model_config import (
    INSTANCE_GROUP,
    MODEL_CONFIG,
    MODEL_INPUT,
    MODEL_OUTPUT,
)
from hostler.repository.derive import derive, normalise
from hostler.repository.platforms import Platform
from hostler.repository.reading import Reading

__all__ = ["fingerprint", "opaque_spec"]

_BODY: Final = {"name": BODY, "data_type": "TYPE_UINT8", "dims": [-1]}


def opaque_spec(
    reading: Reading,
    runtime: str,
    file: Path,
    *,
    options: Mapping[str, str] | None = None,
    streams: bool = False,
    requirements: Path | None = None,
) -> ModelSpec:
    """Version 1 of a model that takes and gives bytes.

    `runtime`: a key of the table in `runtimes`; its worker adapter gets `file`, the archive's
    folder as `directory`, and `options` as `Task.options`. `streams`: the adapter may answer in
    pieces, so the model is decoupled. `requirements`: a requirements.txt to make its Python of.
    """
    environment = None
    if requirements is not None and reading.config.environments:
        environment = Environment("requirements", requirements, reading.folder)
    spec = ModelSpec(
        name=reading.name,
        version=1,
        directory=reading.folder,
        file=file,
        runtime=runtime,
        platform=runtime,
        auto_complete=False,
        file_bytes=reading.size_bytes,
        fingerprint=fingerprint(reading),
    )
    config = _config(reading, options or {}, streams=streams)
    # No backend's name: Triton has none for these, and only its own have rules attached.
    platform = Platform(runtime, "", runtime, runtime, (), ())
    spec = derive(spec, normalise(config, spec.name, platform, file.name), rows_known=True)
    return replace(
        spec,
        opaque=True,
        environment=environment,
        variables=reading.variables,
    )


def fingerprint(reading: Reading) -> str:
    """Changes with the archive's content, its container and the number of its replicas."""
    container = reading.container
    content = reading.token or reading.tree.files
    facts = (content, container.image, sorted(container.environment.items()), reading.instances)
    return hashlib.blake2b(repr(facts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _config(reading: Reading, options: Mapping[str, str], *, streams: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        **MODEL_CONFIG,
        "input": [{**MODEL_INPUT, **_BODY}],
        "output": [{**MODEL_OUTPUT, **_BODY}],
        "instance_group": [{**INSTANCE_GROUP, "count": reading.instances}],
        "parameters": {key: {"string_value": value} for key, value in options.items()},
    }
    if streams:
        config["model_transaction_policy"] = {"decoupled": True}
    return config
