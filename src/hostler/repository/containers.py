"""What a container definition and its unpacked archive are to be served as.

The image tells how the archive is read (`images`); where it tells nothing, what lies in the archive
does. Foreign images are never run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hostler.core import Code, HostlerError, ModelSpec
from hostler.repository import archived
from hostler.repository.config import Config
from hostler.repository.formats import djl, hooks, mlflow, tensorflow
from hostler.repository.formats.handlers import PYTORCH, SKLEARN, XGBOOST, Toolkit, script_of
from hostler.repository.images import READERS, reader_of
from hostler.repository.package import Package, readable
from hostler.repository.platforms import MODEL_FILES
from hostler.repository.reading import Container, ContainerPackages, Reading
from hostler.repository.tree import Bounds, list_folder, walk

__all__ = ["check_container", "check_image", "read_container"]

VARIABLES_MAX: Final = 100
VARIABLE_CHARACTERS_MAX: Final = 1024
"""Of names and of values. Source: CreateModel, EnvironmentMap and its members."""

INSTANCES_MAX: Final = 1024
"""Each may be a process; see `checks.INSTANCES_MAX`, which holds for their product."""

_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class _Reader:
    """A way to read an archive. `detect`: whether this one looks like it; None is never asked."""

    looked_for: str
    detect: Callable[[Reading], bool]
    read: Callable[[Reading], ContainerPackages]


def _single(read: Callable[[Reading], ModelSpec]) -> Callable[[Reading], ContainerPackages]:
    def packages(reading: Reading) -> ContainerPackages:
        return ContainerPackages(reading.name, (Package(reading.name, (read(reading),)),))

    return packages


def _of(toolkit: Toolkit) -> _Reader:
    return _Reader(toolkit.looked_for, toolkit.detect, _single(toolkit.read))


def _has_hooks(reading: Reading) -> bool:
    """Whether a script of hooks surrounds what is computed here, and no model of a framework's."""
    computed = archived.detect(reading) or archived.detect_bare(reading)
    others = (tensorflow, XGBOOST, PYTORCH, SKLEARN)
    return computed and not any(other.detect(reading) for other in others) and hooks.detect(reading)


def _hooked(reading: Reading) -> ContainerPackages:
    behind = archived.read_behind(reading)
    spec = hooks.read(reading, behind.entry)
    return ContainerPackages(reading.name, (Package(reading.name, (spec,)), *behind.packages))


# In the order of detection: what is told by one name before what many archives have.
_READERS: Final[Mapping[str, _Reader]] = {
    "mlflow": _Reader(mlflow.LOOKED_FOR, mlflow.detect, _single(mlflow.read)),
    "djl": _Reader(djl.LOOKED_FOR, djl.detect, _single(djl.read)),
    "hooks": _Reader("", _has_hooks, _hooked),
    "triton": _Reader(
        f"config.pbtxt, or a version folder with {', '.join(MODEL_FILES)}",
        archived.detect,
        archived.read,
    ),
    "tensorflow": _Reader(tensorflow.LOOKED_FOR, tensorflow.detect, _single(tensorflow.read)),
    "xgboost": _of(XGBOOST),
    "pytorch": _of(PYTORCH),
    "sklearn": _Reader(
        SKLEARN.looked_for,
        lambda reading: SKLEARN.detect(reading) or bool(script_of(reading)),
        _single(SKLEARN.read),
    ),
    "hostler": _Reader("*.onnx or *.pt2 at the top", archived.detect_bare, archived.read_any),
}

_MAY_HAVE_HOOKS: Final = frozenset({"triton", "pytorch", "sklearn", "hostler"})
"""Readers of images that give way to `hooks`: for them such an archive would have no model, or a
script that nobody runs."""


def check_image(image: str, config: Config) -> str:
    """The reader that the table of images has for this one, "" for detection."""
    return reader_of(image, config.images)


def check_container(container: Container) -> None:
    """Refuse an environment that no container can have. Raises: INVALID_ARGUMENT."""
    environment = container.environment
    if len(environment) > VARIABLES_MAX:
        raise _refused(f"has {len(environment)} variables; at most {VARIABLES_MAX}")
    for name, value in environment.items():
        if len(name) > VARIABLE_CHARACTERS_MAX or not _VARIABLE.fullmatch(name):
            raise _refused(f"has {name[:80]!r}; names are letters, digits and underscores")
        if len(value) > VARIABLE_CHARACTERS_MAX:
            raise _refused(
                f"has '{name[:80]}' of {len(value)} characters; at most {VARIABLE_CHARACTERS_MAX}"
            )
        if "\0" in value:
            raise _refused(f"has '{name[:80]}' with a zero byte, which no process can be given")


def read_container(
    name: str,
    folder: Path,
    token: str,
    container: Container,
    instances: int,
    config: Config,
) -> ContainerPackages:
    """The packages of an unpacked archive, the one that answers under `name`, first.

    The others are called `<name>/<model>`. `token`: what the store calls this content; it goes into
    the fingerprints, which are then the same wherever it is unpacked. `instances`: replicas, a
    factor of what the archive itself says. The folder must stay as it is while they are served.
    Blocks on the disk. Raises: INVALID_ARGUMENT, UNIMPLEMENTED naming the file or what was looked
    for; OSError.
    """
    if not 1 <= instances <= INSTANCES_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"model '{name}': {instances} instances are asked for; 1 to {INSTANCES_MAX}",
        )
    check_container(container)
    bounds = Bounds(os.path.realpath(folder), False, config.files_max, config.files_max)
    try:
        tree = walk(list_folder(str(folder), bounds, bounds.files_max), bounds)
    except HostlerError as error:
        raise HostlerError(error.code, readable(f"model '{name}': {error.message}")) from None
    reading = Reading(name, folder, tree, token, container, instances, config)
    reader = reader_of(container.image, config.images)
    if reader in _MAY_HAVE_HOOKS and _has_hooks(reading):
        reader = "hooks"
    if reader:
        return _READERS[reader].read(reading)
    for found in _READERS.values():
        if found.detect(reading):
            return found.read(reading)
    raise _nothing(reading)


def _nothing(reading: Reading) -> HostlerError:
    image = reading.container.image
    told = (
        f"no row of repository.images matches image '{image}', and " if image else ""
    ) + "nothing in the archive tells how to read it"
    looked_for = "; ".join(f"{name}: {_READERS[name].looked_for}" for name in READERS)
    return reading.wrong(f"{told}; it holds {reading.listed()}; looked for {looked_for}")


def _refused(text: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, readable(f"the container's environment {text}"))
