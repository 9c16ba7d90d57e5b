"""Pictures -> the tensor of one input: JPEG, PNG, WebP, BMP, and the first frame of a GIF.

Turned upright as EXIF says, brought to the model's colours and size, then scaled. Pillow decodes
and resizes without the interpreter's lock; after it the pixels are gone over once or twice. Needs
the extra `images`.
"""

from __future__ import annotations

import io
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hostler.core import Allowance, Code, HostlerError, ImageRule, Signature, Tensor
from hostler.protocols.content.forms import Body, invalid
from hostler.protocols.content.image_plan import NCHW, ImagePlan, image_plan
from hostler.protocols.content.limits import IMAGE_BYTES_MAX, IMAGE_PIXELS_MAX

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageReader"]

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_LISTED: Final = "JPEG, PNG, WebP, BMP or GIF"
_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What turns a picture upright, by its orientation. Source: EXIF 2.32, tag 274."""
_LYING: Final = frozenset((5, 6, 7, 8))

_INTERPOLATIONS: Final = {
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "nearest": "NEAREST",
    "area": "BOX",
}

_DRAFT_GAP: Final = 2
"""A JPEG is decoded at a fraction of its size that is still this much larger than wanted, where
Pillow's documentation of `reducing_gap` calls the result close to that of all pixels."""

_PIXELS_AT_ONCE: Final = 2 * IMAGE_PIXELS_MAX
"""Of all pictures that are decoded at a time. A pixel takes 8 to 16 bytes meanwhile, and a KiB of a
PNG or WebP can hold millions: without a limit some small requests at a time fill the memory."""

_room: Final = Allowance(_PIXELS_AT_ONCE)

Size = tuple[int, int]
"""Width and height, as Pillow has it."""


class ImageReader:
    """Reads pictures for one signature; made once for each. Of any thread."""

    def __init__(self, signature: Signature) -> None:
        """Raises: INVALID_ARGUMENT for a model that no picture fits."""
        rule = signature.image or ImageRule()
        self._rule = rule
        self._plan = plan = image_plan(signature)
        self._dtype = plan.spec.datatype.numpy
        # Halves are made of singles: numpy computes them no faster, and less exactly.
        self._float = np.dtype(np.float64 if plan.spec.datatype.name == "FP64" else np.float32)
        mean, std = np.array(rule.mean), np.array(rule.std)
        shape = (-1, 1, 1) if plan.layout == NCHW else (-1,)
        self._factor = (rule.scale / std).astype(self._float).reshape(shape)
        offset = (mean / std).astype(self._float).reshape(shape)
        self._offset = offset if offset.any() else None

    def read(self, body: Body) -> Tensor:
        """The input's tensor.

        Raises: INVALID_ARGUMENT for what is no whole picture or too large; UNIMPLEMENTED without
        Pillow.
        """
        plan = self._plan
        image = self._fitted(body)
        pixels: npt.NDArray[np.uint8] = np.asarray(image)
        height, width = pixels.shape[:2]
        pixels = pixels.reshape(height, width, plan.channels)
        if self._rule.channels == "BGR":
            pixels = pixels[:, :, ::-1] if plan.channels == 3 else pixels[:, :, [2, 1, 0, 3]]
        if plan.layout == NCHW:
            pixels = pixels.transpose(2, 0, 1)
        array = self._scaled(pixels).reshape(plan.shape(height, width))
        array.flags.writeable = False
        return Tensor(plan.spec.name, plan.spec.datatype, array.shape, array)

    def _scaled(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        if self._dtype == np.uint8:
            return np.ascontiguousarray(pixels)
        values = np.empty(pixels.shape, self._float)
        values[...] = pixels
        values *= self._factor
        if self._offset is not None:
            values -= self._offset
        return values.astype(self._dtype, copy=False)

    def _fitted(self, body: Body) -> Image:
        """The picture, upright, in the colours and of the size that are wanted."""
        pillow = _pillow()
        plan, mode = self._plan, _MODES[self._plan.channels]
        image = _opened(pillow, body)
        orientation = _orientation(image)
        lying = orientation in _LYING
        size = image.size[::-1] if lying else image.size
        target = (plan.width or size[0], plan.height or size[1])
        if not (plan.width and plan.height):
            _check_own_size(plan, target, self._dtype.itemsize)
        resized = _resized(self._rule, size, target)
        _check_way(self._rule, size, resized, target)
        stored = image.size
        if self._rule.interpolation != "nearest":
            _draft(image, mode, resized[::-1] if lying else resized)
        with _room.of(image.width * image.height):
            _load(image, stored)
            # Grey needs its other channels only once it is small.
            if image.mode not in (mode, "L"):
                image = _coloured(image, mode)
            if orientation in _UPRIGHT:
                image = image.transpose(getattr(pillow.Transpose, _UPRIGHT[orientation]))
            image = self._sized(pillow, image, resized, target)
        return image if image.mode == mode else image.convert(mode)

    def _sized(self, pillow: ModuleType, image: Image, resized: Size, target: Size) -> Image:
        rule, own = self._rule, image.size
        if own == target == resized:
            return image
        filter_ = getattr(pillow.Resampling, _INTERPOLATIONS[rule.interpolation])
        if rule.resize == "crop":
            return image.resize(target, filter_, box=_middle(own, resized, target))
        image = image.resize(resized, filter_)
        if resized == target:
            return image
        fill = (rule.fill,) * 3 + (255,) if image.mode == "RGBA" else (rule.fill,) * 3
        whole: Image = pillow.new(image.mode, target, rule.fill if image.mode == "L" else fill)
        whole.paste(image, ((target[0] - resized[0]) // 2, (target[1] - resized[1]) // 2))
        return whole


# -- Pillow ----------------------------------------------------------------------------------


@cache
def _pillow() -> ModuleType:
    try:
        # Optional: extra `images`. The plugins by name, or the first WebP loads all forty.
        from PIL import (  # noqa: PLC0415 - loaded with the first picture
            BmpImagePlugin,
            GifImagePlugin,
            Image,
            JpegImagePlugin,
            PngImagePlugin,
            WebPImagePlugin,
        )
    except ImportError:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            "reading pictures needs Pillow; install it with `pip install 'hostler[images]'`",
        ) from None
    del BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
    return Image


def _opened(pillow: ModuleType, body: Body) -> Image:
    """The picture, of which no more than the header is read."""
    try:
        image: Image = pillow.open(io.BytesIO(body), formats=_FORMATS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise invalid(
            f"the picture has more than {IMAGE_PIXELS_MAX} pixels; send a smaller one"
        ) from None
    except Exception:  # noqa: BLE001 - plugins raise whatever they stumble upon
        raise invalid(f"the body is no picture that can be read; send {_LISTED}") from None
    width, height = image.size
    if width * height > IMAGE_PIXELS_MAX:
        raise invalid(
            f"the picture has {width} x {height} pixels; at most {IMAGE_PIXELS_MAX} are taken, "
            "send a smaller one"
        )
    return image


def _orientation(image: Image) -> int:
    """As EXIF has it; 1, upright, where it has none or cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a picture is worth more than what is wrong with its EXIF
        return 1


def _load(image: Image, size: Size) -> None:
    try:
        image.load()
    except Exception as error:  # noqa: BLE001 - as when it is opened
        raise invalid(
            f"the {image.format or 'picture'} of {size[0]} x {size[1]} pixels is cut short or "
            f"broken: {str(error)[:80]}"
        ) from None


def _draft(image: Image, mode: str, size: Size) -> None:
    """Let a JPEG be decoded at an eighth, a quarter or half of its size, if that is enough."""
    image.draft(mode, (size[0] * _DRAFT_GAP, size[1] * _DRAFT_GAP))


def _coloured(image: Image, mode: str) -> Image:
    """In another mode. Transparency is dropped where the model has no channel for it."""
    if mode != "RGBA":
        image.info.pop("transparency", None)
    if image.mode.startswith(("I", "F")):
        # Grey of 16 bits, which Pillow would cut off at 255 rather than scale.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert(mode)


# -- sizes -----------------------------------------------------------------------------------


def _check_own_size(plan: ImagePlan, size: Size, itemsize: int) -> None:
    nbytes = size[0] * size[1] * plan.channels * itemsize
    if nbytes > IMAGE_BYTES_MAX:
        raise invalid(
            f"the picture of {size[0]} x {size[1]} pixels makes a tensor of {nbytes} bytes for "
            f"input '{plan.spec.name}'; at most {IMAGE_BYTES_MAX} are taken, send a smaller one"
        )


def _check_way(rule: ImageRule, size: Size, resized: Size, target: Size) -> None:
    """Pillow resizes rows before columns: a picture of long columns is wide before it is short."""
    width = target[0] if rule.resize == "crop" else resized[0]
    if size != resized and width * size[1] > IMAGE_PIXELS_MAX:
        raise invalid(
            f"the picture of {size[0]} x {size[1]} pixels is too high to be resized to "
            f"{target[0]} x {target[1]}; cut it"
        )


def _resized(rule: ImageRule, size: Size, target: Size) -> Size:
    """What the whole picture is resized to, before it is cropped or padded."""
    width, height = size
    if rule.resize == "stretch":
        return target
    if rule.resize == "crop" and rule.shorter_side:
        shorter = rule.shorter_side
        if width <= height:
            return shorter, shorter * height // width
        return shorter * width // height, shorter
    by_width = target[0] * height >= target[1] * width
    if by_width == (rule.resize == "crop"):
        return target[0], max(1, target[0] * height // width)
    return max(1, target[1] * width // height), target[1]


def _middle(own: Size, resized: Size, target: Size) -> tuple[float, float, float, float]:
    """The part of a picture that is left when its resized form is cropped.

    No other pixels are computed.
    """
    edges: list[float] = []
    for length, whole, part in zip(own, resized, target, strict=True):
        start = round((whole - part) / 2)
        edges += (start * length / whole, min(length, (start + part) * length / whole))
    return edges[0], edges[2], edges[1], edges[3]
