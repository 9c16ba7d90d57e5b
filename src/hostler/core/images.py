"""How a picture becomes the tensor of an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ImageRule"]

_WHITE: Final = 255


@dataclass(frozen=True, slots=True)
class ImageRule:
    """What is done to a picture: its size first, then `(pixel * scale - mean) / std`.

    `input`: the input that takes pictures; "" for the only one that can. `layout`: NCHW or NHWC,
    "" where the input's dims tell. `height`, `width`: of the tensor, 0 where the dims say it or the
    picture's own are kept. `resize`: stretch; crop (cover the size, then cut out the middle); pad
    (fit into the size, then fill up). `shorter_side`: of the picture before it is cropped, 0 for as
    small as covers. `fill`: the pixels that pad adds, of 0 to 255. `interpolation`: bilinear,
    bicubic, nearest or area. `scale`, `mean`, `std`: one value, or one for each channel, in the
    order of `channels`; pixels of UINT8 inputs stay as they are. `channels`: RGB or BGR.
    """

    input: str = ""
    layout: str = ""
    height: int = 0
    width: int = 0
    resize: str = "stretch"
    shorter_side: int = 0
    fill: int = 0
    interpolation: str = "bilinear"
    scale: float = 1 / _WHITE
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "RGB"
