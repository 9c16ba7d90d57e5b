"""The nouns of this room: packages, and what a load request puts in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostler.core import Code, HostlerError, ModelSpec

__all__ = ["Override", "Package", "contradiction", "readable", "unserved"]


@dataclass(frozen=True, slots=True)
class Package:
    """A model as it lies in a repository.

    `versions`: the versions that its policy serves, ascending; partial specs, to be joined with an
    `Inspection` by `complete`. `error`: why the package cannot be read; then `versions` is empty.
    """

    name: str
    versions: tuple[ModelSpec, ...] = ()
    error: HostlerError | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """What a load request brings. Source: Triton's model repository extension, `load`.

    `config`: ModelConfig JSON that replaces the package's own, or None. `files`: contents by path
    within the package (`1/model.onnx`); if there are any they replace the package's files and need
    a `config`.
    """

    config: Mapping[str, object] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def readable(text: str) -> str:
    """Text that can travel: file names may hold bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()


def contradiction(model: str, place: str, text: str) -> HostlerError:
    """A configuration that cannot be meant; `place` is the field or file."""
    return HostlerError(Code.INVALID_ARGUMENT, readable(f"model '{model}': {place}: {text}"))


def unserved(model: str, place: str, text: str) -> HostlerError:
    """A configuration that this release does not serve; `place` is the field."""
    return HostlerError(Code.UNIMPLEMENTED, readable(f"model '{model}': {place}: {text}"))
