"""Fitting what a person wrote to the shape that a model wants. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hostler.core import Code, DataType, HostlerError

__all__ = ["ImageLayout", "InputSpec", "cast", "fit", "image_layout", "widen_bf16"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input as metadata shows it; -1 is a variable dimension, at the front the batch."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """How an input wants an image.

    `channels`: 1 (grey) or 3 (RGB). `size`: (width, height) to resize to; None keeps that side.
    `order`: chw, hwc, hw or flat (rows of pixels one after another).
    """

    channels: int
    size: tuple[int | None, int | None]
    order: str


def fit(array: Array, spec: InputSpec) -> Array:
    """Give an array the input's shape.

    A single item gets its batch dimension; flat data is folded where only one way is possible.
    Raises: INVALID_ARGUMENT naming both shapes.
    """
    wanted = spec.shape
    if _matches(array.shape, wanted):
        return array
    batched = len(wanted) > 0 and wanted[0] == -1
    if batched and _matches(array.shape, wanted[1:]):
        return array[np.newaxis]
    item = wanted[1:] if batched else wanted
    if all(dim >= 0 for dim in item):
        size = math.prod(item)
        if array.size == size:
            return array.reshape(_one(batched) + item)
        if batched and array.ndim > 1 and math.prod(array.shape[1:]) == size:
            return array.reshape((array.shape[0], *item))
    elif array.ndim == 1 and item.count(-1) == 1 and len(item) == 1:
        return array.reshape(_one(batched) + array.shape)
    raise HostlerError(
        Code.INVALID_ARGUMENT,
        f"input '{spec.name}' wants shape {list(wanted)}, got {list(array.shape)}",
    )


def cast(array: Array, spec: InputSpec) -> Array:
    """The same values in the input's datatype (BF16: rounded to nearest even, as uint16).

    Raises: INVALID_ARGUMENT for values that the datatype cannot hold.
    """
    datatype = spec.datatype
    if datatype.is_bytes:
        return _as_bytes(array, spec)
    if datatype.name == "BF16":
        if array.dtype == np.uint16:
            return array
        return _narrow_bf16(_checked(array, np.dtype(np.float32), spec))
    return _checked(array, datatype.numpy, spec)


def widen_bf16(array: Array) -> Array:
    """BF16 bits (uint16) as float32."""
    widened: Array = (array.astype(np.uint32) << 16).view(np.float32)
    return widened


def image_layout(spec: InputSpec) -> ImageLayout:
    """How to lay out an image for an input of this shape.

    Raises: INVALID_ARGUMENT if no image fits it.
    """
    dims = spec.shape
    found = _layout(dims[1:]) if dims and dims[0] in (-1, 1) else None
    if len(dims) == 3 and (dims[0] in (1, 3) or dims[2] in (1, 3)):
        found = _layout(dims)
    if found is None and dims and dims[0] != -1:
        found = _layout(dims)
    if found is None:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{spec.name}' of shape {list(dims)} takes no image; one of [-1, 3, H, W], "
            "[-1, H, W, 3], [-1, H, W] or a square number of pixels is needed",
        )
    return found


def _layout(dims: Sequence[int]) -> ImageLayout | None:
    if len(dims) == 3 and dims[0] in (1, 3):
        return ImageLayout(dims[0], _size(dims[2], dims[1]), "chw")
    if len(dims) == 3 and dims[2] in (1, 3):
        return ImageLayout(dims[2], _size(dims[1], dims[0]), "hwc")
    if len(dims) == 2:
        return ImageLayout(1, _size(dims[1], dims[0]), "hw")
    if len(dims) == 1 and dims[0] > 0:
        for channels in (1, 3):
            side = math.isqrt(dims[0] // channels)
            if side * side * channels == dims[0]:
                return ImageLayout(channels, (side, side), "flat")
    return None


def _size(width: int, height: int) -> tuple[int | None, int | None]:
    return (width if width > 0 else None, height if height > 0 else None)


def _one(batched: bool) -> tuple[int, ...]:
    return (1,) if batched else ()


def _matches(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (-1, got) for got, want in zip(shape, wanted, strict=True)
    )


def _checked(array: Array, target: np.dtype[Any], spec: InputSpec) -> Array:
    source = array.dtype
    fits = source == target or (source.kind in "iuf" and target.kind == "f")
    if source.kind in "iu" and target.kind in "iu":
        limits = np.iinfo(target)
        fits = not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    if not fits:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{spec.name}' takes {spec.datatype.name}, which cannot hold these "
            f"{source.name if source.kind != 'U' else 'text'} values",
        )
    with np.errstate(over="ignore"):  # to FP16: too large becomes infinity, as IEEE 754 has it
        return array.astype(target)


def _as_bytes(array: Array, spec: InputSpec) -> Array:
    if array.dtype.kind not in "USO":
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"input '{spec.name}' takes BYTES; text is expected, not {array.dtype.name} numbers",
        )
    return array.astype(object)


def _narrow_bf16(array: Array) -> Array:
    bits = array.view(np.uint32).astype(np.uint64)
    rounded: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
