"""`--input` texts -> tensors: JSON, .npy, images or text, from the command line, files or stdin."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hostler.cli.failures import Misuse
from hostler.cli.images import read_image
from hostler.cli.shapes import Array, InputSpec, cast, fit
from hostler.core import Code, HostlerError, Tensor

__all__ = ["InputReader", "whole_request"]

_IMAGES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_IMAGE_MAGICS: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_NPY_MAGIC: Final = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input's content is: `name` for messages; `content` its bytes, `is_file` or typed."""

    name: str
    content: bytes
    is_file: bool


class InputReader:
    """Reads inputs for one model. `stdin`: gives all of standard input, for `-`."""

    def __init__(
        self, specs: Mapping[str, InputSpec], stdin: Callable[[], bytes], white: float | None
    ) -> None:
        self._specs = specs
        self._stdin = stdin
        self._white = white

    def tensors(self, texts: Sequence[str]) -> list[Tensor]:
        """One tensor for each text, or for each member of a JSON object.

        Raises: Misuse for unknown, repeated or missing names; INVALID_ARGUMENT for content that
        does not fit its input.
        """
        found: dict[str, Tensor] = {}
        for text in texts:
            name, rest = self._split(text)
            source = _source(rest, self._stdin)
            members = _json_object(source) if name is None else None
            if members is None:
                members = {name or self._only(source.name): source}
            for key, part in members.items():
                if key in found:
                    raise Misuse(f"input '{key}' is given twice")
                found[key] = self._tensor(self._spec(key), part)
        return list(found.values())

    def _split(self, text: str) -> tuple[str | None, str]:
        """`name=value` -> its parts, where name is one of the inputs."""
        name, equals, value = text.partition("=")
        if equals and name in self._specs:
            return name, value
        if equals and name.isidentifier() and not Path(text).exists():
            self._spec(name)  # raises: it was meant as a name
        return None, text

    def _spec(self, name: str) -> InputSpec:
        if name not in self._specs:
            raise Misuse(f"the model has no input '{name}'; it has {self._names()}")
        return self._specs[name]

    def _only(self, source: str) -> str:
        if len(self._specs) != 1:
            raise Misuse(
                f"name the input that {source} is for, as in NAME={source}; the model "
                f"has {self._names()}"
            )
        return next(iter(self._specs))

    def _names(self) -> str:
        return ", ".join(f"'{name}'" for name in self._specs) or "none"

    def _tensor(self, spec: InputSpec, part: Any) -> Tensor:
        array = self._array(part, spec) if isinstance(part, Source) else _from_json(part, spec)
        return Tensor.from_numpy(spec.name, cast(fit(array, spec), spec), spec.datatype)

    def _array(self, source: Source, spec: InputSpec) -> Array:
        content = source.content
        if content.startswith(_NPY_MAGIC):
            return _from_npy(source)
        looks_image = content.startswith(_IMAGE_MAGICS) or source.name.lower().endswith(_IMAGES)
        if source.is_file and looks_image and not spec.datatype.is_bytes:
            return read_image(content, spec, self._white, source.name)
        try:
            return _from_json(json.loads(content), spec)
        except ValueError:
            pass
        if spec.datatype.is_bytes:  # text or an encoded image, for models that decode it themselves
            array = np.empty((), dtype=object)
            array[()] = content
            return array
        kind = (
            "holds neither JSON, .npy nor an image"
            if source.is_file
            else ("is neither a file nor JSON")
        )
        raise Misuse(
            f"{source.name} {kind}, for input '{spec.name}' ({spec.datatype.name} "
            f"{list(spec.shape)})"
        )


def whole_request(texts: Sequence[str], stdin: Callable[[], bytes]) -> bytes | None:
    """The bytes of a V2 request, where that is what the one input is; else None."""
    if len(texts) != 1:
        return None
    source = _source(texts[0], stdin)
    inputs = (_json_object(source) or {}).get("inputs")
    named = isinstance(inputs, list) and all(isinstance(i, dict) and "name" in i for i in inputs)
    return source.content if inputs and named else None


def _source(text: str, stdin: Callable[[], bytes]) -> Source:
    if text == "-":
        return Source("stdin", stdin(), is_file=True)
    path = Path(text)
    try:
        if path.is_file():
            return Source(text, path.read_bytes(), is_file=True)
    except PermissionError:
        raise Misuse(f"{text}: permission denied") from None
    except (OSError, ValueError):  # not a path: JSON text is often too long or too odd for one
        pass
    return Source(_shortened(text), text.encode(errors="surrogateescape"), is_file=False)


def _json_object(source: Source) -> Mapping[str, Any] | None:
    """The members of a JSON object, or None for anything else."""
    if not source.content.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(source.content)
    except ValueError as error:
        raise Misuse(f"{source.name} is not valid JSON: {error}") from None
    return value if isinstance(value, dict) else None


def _from_json(value: Any, spec: InputSpec) -> Array:
    if spec.datatype.is_bytes:
        return np.array(value, dtype=object)
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(value, dtype=object)
    if array.dtype.kind not in "biuf":
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{spec.name}' takes {spec.datatype.name}: a number or lists of numbers that "
            "are all of one length are expected",
        )
    return array


def _from_npy(source: Source) -> Array:
    try:
        array: Array = np.load(io.BytesIO(source.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{source.name} is not a .npy file that can be read: {error}"
        ) from None
    return array


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
