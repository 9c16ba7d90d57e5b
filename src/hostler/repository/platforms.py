"""Triton's words for frameworks and the runtimes that serve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from hostler.core import HostlerError
from hostler.repository.ensembles import ENSEMBLE
from hostler.repository.package import contradiction, unserved

__all__ = ["MODEL_FILES", "PLATFORMS", "Platform", "platform_for_file", "stated_platform"]


@dataclass(frozen=True, slots=True)
class Platform:
    """A framework that is served.

    `runtime`: the key in `runtimes`. `backend`, `platform`: Triton's words; metadata shows
    `platform`, config JSON `config_platform`. `files`: default names in a version folder, first
    found wins. `suffixes`: of other names.
    """

    runtime: str
    backend: str
    platform: str
    config_platform: str
    files: tuple[str, ...]
    suffixes: tuple[str, ...]


PLATFORMS: Final = (
    Platform(
        "onnx",
        "onnxruntime",
        "onnxruntime_onnx",
        "onnxruntime_onnx",
        ("model.onnx",),
        (".onnx",),
    ),
    Platform(
        "torch",
        "pytorch",
        "pytorch_libtorch",
        "pytorch_libtorch",
        ("model.pt", "model.pt2"),
        (".pt", ".pt2"),
    ),
    # Triton's Python backend has no platform word: its config shows none, its metadata the backend.
    Platform("python", "python", "python", "", ("model.py",), (".py",)),
    # A plan of other models: its version folders are empty.
    Platform(ENSEMBLE, "", "ensemble", "ensemble", (), ()),
)
"""In the order in which a version folder without configuration is searched, which is Triton's."""

MODEL_FILES: Final = tuple(name for platform in PLATFORMS for name in platform.files)

_BY_WORD: Final[Mapping[str, Platform]] = {
    word: platform
    for platform in PLATFORMS
    for word in (platform.backend, platform.platform)
    if word
}


def platform_for_file(name: str) -> Platform | None:
    """The framework that a file name stands for, by its suffix."""
    suffix = PurePath(name).suffix
    return next((platform for platform in PLATFORMS if suffix in platform.suffixes), None)


def stated_platform(model: str, config: Mapping[str, object]) -> Platform | None:
    """What `backend`, `platform` or `default_model_filename` say; None if they say nothing.

    Raises: UNIMPLEMENTED for frameworks that are not served, INVALID_ARGUMENT if the two disagree.
    """
    backend = _named(model, "backend", config)
    platform = _named(model, "platform", config)
    if backend is not None and platform is not None and backend is not platform:
        raise contradiction(
            model,
            "platform",
            f"'{config['platform']}' does not belong to backend '{config['backend']}'",
        )
    found = backend or platform
    runtime = str(config.get("runtime", ""))
    if runtime == "model.py" and found is not None and found.runtime != "python":
        raise unserved(
            model, "runtime", "'model.py' is served only with backend 'python' in this release"
        )
    if found is None and config.get("default_model_filename"):
        found = platform_for_file(str(config["default_model_filename"]))
    if found is None and config.get("ensemble_scheduling"):
        raise contradiction(
            model, "platform", f"is missing; ensemble_scheduling is for platform '{ENSEMBLE}'"
        )
    return found


def _named(model: str, place: str, config: Mapping[str, object]) -> Platform | None:
    word = str(config.get(place, ""))
    if not word:
        return None
    found = _BY_WORD.get(word)
    if found is None:
        raise _unknown(model, place, word)
    return found


def _unknown(model: str, place: str, word: str) -> HostlerError:
    names = (platform.backend or platform.platform for platform in PLATFORMS)
    served = ", ".join(f"'{name}'" for name in names)
    return unserved(model, place, f"'{word}' is not served; this release serves {served}")
