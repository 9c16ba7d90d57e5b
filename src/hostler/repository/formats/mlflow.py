"""MLflow model folders: an `MLmodel` file with the flavour python_function.

    MLmodel                what the model is, in YAML
    requirements.txt       installed for its workers, together with mlflow where it names none

Source: https://mlflow.org/docs/latest/ml/model/#storage-format, mlflow `models/model.py`.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import replace
from typing import Final

from hostler.core import Code, HostlerError, ModelSpec
from hostler.repository.formats.opaque import opaque_spec
from hostler.repository.package import readable
from hostler.repository.packaged_python import REQUIREMENTS
from hostler.repository.reading import Reading
from hostler.repository.source import read_bounded

__all__ = ["LOOKED_FOR", "RUNTIME", "detect", "read"]

RUNTIME: Final = "mlflow"
LOOKED_FOR: Final = "MLmodel"

_PYFUNC: Final = re.compile(r"^[ \t]+['\"]?python_function['\"]?[ \t]*:", re.MULTILINE)
"""The flavour's key, in either of YAML's styles; mlflow in the worker reads the rest."""
_BESIDE: Final = (("mlflow", "mlflow-skinny"), ("pandas",))
_ENVIRONMENTS: Final = ("conda.yaml", "python_env.yaml")


def detect(reading: Reading) -> bool:
    """Whether there is an MLmodel, at the top or one folder down."""
    return bool(_places(reading))


def read(reading: Reading) -> ModelSpec:
    """One opaque model. Raises: INVALID_ARGUMENT, UNIMPLEMENTED naming what is missing."""
    places = _places(reading)
    if not places:
        raise reading.wrong(f"no {LOOKED_FOR} in the archive; it holds {reading.listed()}")
    if len(places) > 1:
        raise reading.wrong(
            f"the archive holds {len(places)} models, {', '.join(places[:10])}; keep one"
        )
    path = places[0]
    root = posixpath.dirname(path)
    bytes_max = reading.config.config_bytes_max
    file = os.path.join(reading.folder, path)
    text = read_bounded(file, reading.name, bytes_max, "config_bytes_max")
    if not _PYFUNC.search(text) and '"python_function"' not in text:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            readable(
                f"model '{reading.name}': {path} has no flavour python_function, the only one that "
                "is served; log the model with one that has it"
            ),
        )
    requirements = posixpath.join(root, REQUIREMENTS)
    known = requirements in reading.paths
    if not known and reading.config.environments:
        unread = [name for name in _ENVIRONMENTS if posixpath.join(root, name) in reading.paths]
        if unread:
            raise reading.wrong(
                f"{' and '.join(unread)} without a {REQUIREMENTS}: only the latter is installed; "
                f"add it beside {path}, or turn repository.environments off to use the server's "
                "own Python"
            )
    spec = opaque_spec(
        reading,
        RUNTIME,
        reading.folder / path,
        requirements=reading.folder / requirements if known else None,
    )
    if spec.environment is None:
        return spec
    return replace(spec, environment=replace(spec.environment, beside=_BESIDE))


def _places(reading: Reading) -> list[str]:
    top = [path for path in reading.paths if path == LOOKED_FOR]
    return top or sorted(
        path for path in reading.paths if path.count("/") == 1 and path.endswith(f"/{LOOKED_FOR}")
    )
