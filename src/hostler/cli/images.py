"""Image files -> arrays in an input's layout. Needs the extra `images`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from hostler.cli.shapes import InputSpec, image_layout
from hostler.core import Code, HostlerError

__all__ = ["read_image"]


def read_image(
    content: bytes, spec: InputSpec, white: float | None, source: str
) -> npt.NDArray[Any]:
    """One image, resized and laid out as the input's shape says; no batch dimension.

    `white`: the value of a white pixel; by default 1 for floating-point inputs, 255 for others.
    Returns `[C, H, W]`, `[H, W, C]`, `[H, W]` or flat, float32 or uint8.
    Raises: INVALID_ARGUMENT for what is no image; UNIMPLEMENTED without Pillow.
    """
    layout = image_layout(spec)
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - optional: extra `images`
    except ImportError:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            "reading images needs Pillow; install it with `pip install 'hostler[images]'`",
        ) from None
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB" if layout.channels == 3 else "L")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{source} is no image that can be read: {error}"
        ) from None
    width, height = layout.size
    size = (width or image.width, height or image.height)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels: npt.NDArray[Any] = np.asarray(image)
    floating = spec.datatype.name in ("FP16", "BF16", "FP32", "FP64")
    scale = (1.0 if floating else 255.0) if white is None else white
    if scale != 255.0 or floating:
        pixels = pixels.astype(np.float32) * np.float32(scale / 255.0)
        pixels = pixels if floating else np.rint(pixels).astype(np.int64)
    if layout.order == "chw":
        return pixels[np.newaxis] if layout.channels == 1 else pixels.transpose(2, 0, 1)
    if layout.order == "hwc":
        return pixels[:, :, np.newaxis] if layout.channels == 1 else pixels
    return pixels.ravel() if layout.order == "flat" else pixels
