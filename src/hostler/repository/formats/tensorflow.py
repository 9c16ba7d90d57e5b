"""Archives of SavedModels, as TensorFlow Serving's containers take them.

    <model>/<version>/saved_model.pb       or export/Servo/<version>/, <version>/, or at the top
    code/inference.py                      input_handler and output_handler, optional
    code/requirements.txt                  installed for its workers, with tensorflow

Source: sagemaker-tensorflow-serving-container README.md; `tfs_utils.py` `find_models`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hostler.core import ModelSpec
from hostler.repository.formats.opaque import opaque_spec
from hostler.repository.packaged_python import REQUIREMENTS
from hostler.repository.reading import Reading

__all__ = ["LOOKED_FOR", "RUNTIME", "detect", "read"]

RUNTIME: Final = "tensorflow"
LOOKED_FOR: Final = "<model>/<version>/saved_model.pb"

_FILES: Final = ("saved_model.pb", "saved_model.pbtxt")
_NAME: Final = "SAGEMAKER_TFS_DEFAULT_MODEL_NAME"
_SCRIPT: Final = "code/inference.py"
_BESIDE: Final = (("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"),)
_VERSION_DIGITS_MAX: Final = 18
_LISTED_MAX: Final = 10


def detect(reading: Reading) -> bool:
    """Whether there is a SavedModel."""
    return bool(_folders(reading))


def read(reading: Reading) -> ModelSpec:
    """One opaque model: the latest version of the only model, or of the one that a variable names.

    Raises: INVALID_ARGUMENT naming what is there.
    """
    folders = _folders(reading)
    if not folders:
        raise reading.wrong(
            f"no SavedModel in the archive; looked for {LOOKED_FOR}; it holds {reading.listed()}"
        )
    folder = _chosen(reading, folders)
    script = _SCRIPT if _SCRIPT in reading.paths else ""
    requirements = f"code/{REQUIREMENTS}"
    known = requirements in reading.paths
    file = next(name for name in _FILES if posixpath.join(folder, name) in reading.paths)
    options = {"script": script, "served_name": _served_name(folder) or reading.name}
    spec = opaque_spec(
        reading,
        RUNTIME,
        reading.folder / folder / file,
        options={key: value for key, value in options.items() if value},
        requirements=reading.folder / requirements if known else None,
    )
    if spec.environment is None:
        return spec
    return replace(spec, environment=replace(spec.environment, beside=_BESIDE))


def _folders(reading: Reading) -> list[str]:
    """Folders of SavedModels, relative to the archive; "" is its top."""
    return sorted(
        {
            posixpath.dirname(path)
            for path in reading.paths
            if posixpath.basename(path) in _FILES and not path.startswith("code/")
        }
    )


def _chosen(reading: Reading, folders: Sequence[str]) -> str:
    models: dict[str, list[str]] = {}
    for folder in folders:
        models.setdefault(_model(folder), []).append(folder)
    stated = reading.variable(_NAME)
    if stated:
        found = next(
            (name for name in models if name == stated or posixpath.basename(name) == stated), None
        )
        if found is None:
            raise reading.wrong(f"{_NAME} is '{stated}', but the archive holds {_listed(models)}")
        return max(models[found], key=_version)
    if len(models) > 1:
        raise reading.wrong(
            f"the archive holds {len(models)} models, {_listed(models)}; name one in {_NAME}"
        )
    return max(folders, key=_version)


def _version(folder: str) -> int:
    last = posixpath.basename(folder)
    digits = last.isascii() and last.isdigit() and len(last) <= _VERSION_DIGITS_MAX
    return int(last) if digits else -1


def _model(folder: str) -> str:
    """The folder that a version is in, or the folder itself."""
    return posixpath.dirname(folder) if _version(folder) >= 0 else folder


def _served_name(folder: str) -> str:
    return posixpath.basename(_model(folder))


def _listed(models: Sequence[str] | dict[str, list[str]]) -> str:
    names = [f"'{name or '.'}'" for name in list(models)[:_LISTED_MAX]]
    return ", ".join(names)
