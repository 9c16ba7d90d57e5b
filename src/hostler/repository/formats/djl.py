"""Archives for DJL Serving's Python engine.

    serving.properties     settings of the model; variables OPTION_<KEY> say what it leaves out
    model.py               handle(inputs: Input) -> Output; option.entryPoint names another file
    requirements.txt       installed for its workers

Handlers of the LMI containers (vLLM, TensorRT-LLM, rolling batches) and engines other than Python
are refused by name: nothing of them is here.

Source: djl-serving `serving/docs/configurations_model.md`, `ModelInfo.java`, `PyModel.java`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hostler.core import Code, HostlerError, ModelSpec
from hostler.repository.formats.opaque import opaque_spec
from hostler.repository.package import readable
from hostler.repository.packaged_python import REQUIREMENTS
from hostler.repository.reading import Reading
from hostler.repository.source import read_bounded

__all__ = ["LOOKED_FOR", "RUNTIME", "detect", "parse_properties", "read"]

RUNTIME: Final = "djl"
LOOKED_FOR: Final = "serving.properties"

_ENTRY_POINT: Final = "model.py"
_OPTION: Final = "option."
_VARIABLE: Final = "OPTION_"
_SNAKE_CASE: Final = re.compile(r"[A-Z_0-9]+")
_ENGINES: Final = frozenset({"", "Python"})
_ROLLING: Final = frozenset({"", "disable", "false"})
_WORKERS_MAX: Final = 1024
_LMI: Final = (
    "the handlers of LMI containers are not served; bring a model.py with handle(inputs) and no "
    "option.rolling_batch"
)


def detect(reading: Reading) -> bool:
    """Whether there is a serving.properties, at the top or in the one folder there."""
    return f"{_root(reading)}{LOOKED_FOR}" in reading.paths


def read(reading: Reading) -> ModelSpec:
    """One opaque model.

    Raises: INVALID_ARGUMENT for a setting or file that is wrong; UNIMPLEMENTED for another engine.
    """
    root = _root(reading)
    properties = _properties(reading, root)
    entry_point = _entry_point(reading, root, properties)
    workers = _workers(reading, properties)
    requirements = root + REQUIREMENTS
    has_requirements = requirements in reading.paths
    _check_wheels(reading, root, requirements if has_requirements else "")
    options = {
        "handler": properties.get("option.handler") or "handle",
        "tensor_parallel_degree": _degree(reading, properties),
        "properties": json.dumps(_given(properties)),
    }
    spec = opaque_spec(
        replace(reading, instances=reading.instances * workers),
        RUNTIME,
        reading.folder / entry_point,
        options={key: value for key, value in options.items() if value},
        streams=True,
        requirements=reading.folder / requirements if has_requirements else None,
    )
    return replace(spec, variables={**spec.variables, **_variables(properties)})


def _root(reading: Reading) -> str:
    """`folder/` where all files are in one, else the empty text."""
    tops = {path.partition("/")[0] for path in reading.paths}
    if len(tops) == 1 and all("/" in path for path in reading.paths):
        return f"{tops.pop()}/"
    return ""


def _properties(reading: Reading, root: str) -> dict[str, str]:
    """The file's, then the variables', which it overrides."""
    path = f"{root}{LOOKED_FOR}"
    found: dict[str, str] = {}
    if path in reading.paths:
        bytes_max = reading.config.config_bytes_max
        place = os.path.join(reading.folder, path)
        found = parse_properties(read_bounded(place, reading.name, bytes_max, "config_bytes_max"))
    for name, value in reading.container.environment.items():
        if name.startswith(_VARIABLE) and value:
            key = name[len(_VARIABLE) :]
            if _SNAKE_CASE.fullmatch(key):
                key = key.lower()
            key = "entryPoint" if key == "entrypoint" else key
            found.setdefault("engine" if key == "engine" else _OPTION + key, value)
    model_id = reading.variable("HF_MODEL_ID")
    if model_id:
        found.setdefault("option.model_id", model_id)
    for key, name in (("minWorkers", "MIN_WORKERS"), ("maxWorkers", "MAX_WORKERS")):
        value = reading.variable(f"SERVING_{name}")
        if value:
            found.setdefault(key, value)
    return found


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values of a file of Java properties; of equal keys the last counts.

    Source: java.util.Properties.load.
    """
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        logical = line.lstrip()
        if not logical or logical[0] in "#!":
            continue
        while _is_continued(logical):
            logical = logical[:-1] + next(lines, "").lstrip()
        match = _SEPARATOR.match(logical)
        assert match is not None
        found[_unescaped(match[1])] = _unescaped(logical[match.end() :])
    return {key: value.rstrip() for key, value in found.items()}


_SEPARATOR: Final = re.compile(r"((?:\\.|[^\\=:\s])*)\\?[ \t\f]*[=:]?[ \t\f]*")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _CONTROLS.get(found[2], found[2]),
        text,
    )


def _entry_point(reading: Reading, root: str, properties: Mapping[str, str]) -> str:
    engine = properties.get("engine", "")
    if engine not in _ENGINES:
        hint = (
            f"; {_LMI}"
            if engine == "MPI"
            else "; an archive of model.onnx or model.pt2 needs no serving.properties"
        )
        raise _unserved(reading, f"engine '{engine}' is not served, only Python is{hint}")
    rolling = properties.get("option.rolling_batch", "")
    if rolling.lower() not in _ROLLING:
        raise _unserved(reading, f"option.rolling_batch '{rolling}': {_LMI}")
    stated = properties.get("option.entryPoint", "") or reading.variable("DJL_ENTRY_POINT")
    name = stated or _ENTRY_POINT
    if "://" in name:
        raise _unserved(
            reading, f"option.entryPoint '{name}' is not fetched; put it into the archive"
        )
    if not name.endswith(".py"):
        name = name.replace(".", "/") + ".py"
    path = os.path.normpath(root + name)
    # Only what the walk has seen is run, so no name leads out of the archive.
    if path in reading.paths:
        return path
    if stated.startswith("djl_python.") or (not stated and "option.model_id" in properties):
        raise _unserved(reading, f"{stated or 'option.model_id without a model.py'}: {_LMI}")
    raise reading.wrong(
        f"no '{path}' in the archive, which holds the handler (option.entryPoint); it holds "
        f"{reading.listed()}"
    )


def _workers(reading: Reading, properties: Mapping[str, str]) -> int:
    for key in ("cpu.minWorkers", "minWorkers"):
        text = properties.get(key, "")
        if text and text != "-1":
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _WORKERS_MAX):
                raise reading.wrong(
                    f"{key} is '{text}'; a number of workers from 1 to {_WORKERS_MAX} is expected"
                )
            return int(text[:9])
    return 1


def _degree(reading: Reading, properties: Mapping[str, str]) -> str:
    text = properties.get("option.tensor_parallel_degree", "")
    if text in ("", "max"):
        return ""
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise reading.wrong(
            f"option.tensor_parallel_degree is '{text}'; a whole number or 'max' is expected"
        )
    return text


def _given(properties: Mapping[str, str]) -> dict[str, str]:
    """What the handler's first call gets: options by their own names, others as they are."""
    return {
        key.removeprefix(_OPTION): value for key, value in properties.items() if key != "option.env"
    }


def _variables(properties: Mapping[str, str]) -> dict[str, str]:
    """`option.env=A=1,B=2`."""
    pairs = (item.split("=", 1) for item in properties.get("option.env", "").split(","))
    return {
        pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2 and pair[0].strip()
    }


def _check_wheels(reading: Reading, root: str, requirements: str) -> None:
    """DJL installs wheels that lie about; here requirements.txt must name them."""
    wheels = sorted(
        path[len(root) :]
        for path in reading.paths
        if path.startswith(root) and path.endswith(".whl") and "/" not in path[len(root) :]
    )
    if not wheels:
        return
    text = ""
    if requirements:
        bytes_max = reading.config.config_bytes_max
        place = os.path.join(reading.folder, requirements)
        text = read_bounded(place, reading.name, bytes_max, "config_bytes_max")
    for wheel in wheels:
        if wheel not in text:
            raise reading.wrong(
                f"the archive brings '{wheel}', which nothing installs; add ./{wheel} to "
                f"{root}{REQUIREMENTS}"
            )


def _unserved(reading: Reading, text: str) -> HostlerError:
    return HostlerError(
        Code.UNIMPLEMENTED, readable(f"model '{reading.name}': {LOOKED_FOR}: {text}")
    )
