"""How a package wants pictures to become an input: its configuration -> `core.ImageRule`. Pure.

Triton's `format` of an input says its layout; the rest is our own, written as `parameters` so that
the configuration stays Triton's. Archives without one say it in their container's environment.

    image.scale            HOSTLER_IMAGE_SCALE      a number, or 1/255
    image.mean, image.std  and so on                a number, or one for each channel: 0.5, 0.4, 0.3
    image.resize                                    stretch, crop or pad
    image.shorter_side                              pixels, before crop
    image.fill                                      0 to 255, what pad adds
    image.interpolation                             bilinear, bicubic, nearest or area
    image.channels                                  RGB or BGR
    image.layout                                    NCHW or NHWC, where the input has no format
    image.size                                      HEIGHTxWIDTH, where dims leave it open
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from hostler.core import HostlerError, ImageRule, Signature
from hostler.protocols.content import ImagePlan, image_plan
from hostler.repository.package import contradiction

__all__ = ["with_images"]

_PARAMETER: Final = "image."
_VARIABLE: Final = "HOSTLER_IMAGE_"

_FORMATS: Final = {"FORMAT_NCHW": "NCHW", "FORMAT_NHWC": "NHWC"}
_SIDE_MAX: Final = 16384
"""Pixels: 16384 x 16384 of three floats are 3 GiB already."""


class _Said(NamedTuple):
    """What is said under one name, and where, for messages."""

    text: str
    place: str


def with_images(
    model: str,
    config: Mapping[str, Any],
    variables: Mapping[str, str],
    signature: Signature,
    *,
    runtime: str,
) -> Signature:
    """The signature with what a completed configuration says of pictures.

    `variables`: of the model's workers; its configuration goes before them, and they speak of those
    models alone that take pictures. Python models may have parameters of their own by such names.
    Raises: INVALID_ARGUMENT naming the model and the parameter or variable.
    """
    stated = {
        key.removeprefix(_PARAMETER): _Said(item["string_value"].strip(), f"parameters.{key}")
        for key, item in config["parameters"].items()
        if key.startswith(_PARAMETER)
    }
    inherited = {
        key.removeprefix(_VARIABLE).lower(): _Said(text.strip(), f"variable {key}")
        for key, text in variables.items()
        if key.startswith(_VARIABLE)
    }
    if runtime == "python":
        stated = {name: said for name, said in stated.items() if name in _READERS}
    formats = {
        tensor["name"]: _FORMATS[tensor["format"]]
        for tensor in config["input"]
        if tensor.get("format") in _FORMATS
    }
    if not (stated or inherited or formats):
        return signature
    said = {**inherited, **stated}
    fields: dict[str, Any] = {}
    for name, (text, place) in said.items():
        if name not in _READERS:
            known = ", ".join(f"{_PARAMETER}{other}" for other in _READERS)
            raise contradiction(model, place, f"is not known; there are {known}")
        try:
            fields.update(_READERS[name](name, text))
        except ValueError as error:
            raise contradiction(model, place, f"is '{text[:64]}'; {error}") from None
    if len(formats) == 1:
        ((fields["input"], layout),) = formats.items()
        if fields.setdefault("layout", layout) != layout:
            text = f"is {fields['layout']}, but format of input '{fields['input']}' is {layout}"
            raise contradiction(model, said["layout"].place, text)
    taught = replace(signature, image=ImageRule(**fields))
    _check(model, taught, said, needed=bool(stated))
    return taught


def _check(model: str, signature: Signature, said: Mapping[str, _Said], *, needed: bool) -> None:
    """Hold a rule against the input. `needed`: the model must have one that it fits."""
    try:
        plan = image_plan(signature)
    except HostlerError as error:
        if needed:
            raise contradiction(model, next(iter(said.values())).place, error.message) from None
        return
    assert signature.image is not None
    for name, find in _FAULTS.items():
        if name in said and (fault := find(signature.image, plan, said)) is not None:
            raise contradiction(model, said[name].place, f"is '{said[name].text[:64]}'; {fault}")


# -- what the words mean -----------------------------------------------------------------------


def _number(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    value = float(numerator) / (float(denominator) if slash else 1.0)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _scale(name: str, text: str) -> dict[str, Any]:
    try:
        value = _number(text)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not value:
        raise ValueError("a number other than 0 is expected, such as 1/255")
    return {name: value}


def _numbers(name: str, text: str) -> dict[str, Any]:
    try:
        values = tuple(_number(word) for word in text.split(",", 4))
    except (ValueError, ZeroDivisionError):
        values = ()
    if len(values) not in (1, 3, 4):
        raise ValueError("one number is expected, or one for each channel: '0.485, 0.456, 0.406'")
    if name == "std" and min(values) <= 0:
        raise ValueError("it is divided by, so it must be above 0")
    return {name: values}


def _one_of(*words: str) -> Callable[[str, str], dict[str, Any]]:
    def read(name: str, text: str) -> dict[str, Any]:
        found = next((word for word in words if word.lower() == text.lower()), None)
        if found is None:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return {name: found}

    return read


def _whole(lowest: int, highest: int) -> Callable[[str, str], dict[str, Any]]:
    def read(name: str, text: str) -> dict[str, Any]:
        plain = text.isascii() and text.isdigit() and len(text) < 10
        if not plain or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} is expected")
        return {name: int(text)}

    return read


_side = _whole(1, _SIDE_MAX)


def _size(_: str, text: str) -> dict[str, Any]:
    height, cross, width = text.lower().partition("x")
    sides = _side("height", height.strip()), _side("width", (width if cross else height).strip())
    return {**sides[0], **sides[1]}


_READERS: Final[Mapping[str, Callable[[str, str], dict[str, Any]]]] = {
    "scale": _scale,
    "mean": _numbers,
    "std": _numbers,
    "resize": _one_of("stretch", "crop", "pad"),
    "shorter_side": _side,
    "fill": _whole(0, 255),
    "interpolation": _one_of("bilinear", "bicubic", "nearest", "area"),
    "channels": _one_of("RGB", "BGR"),
    "layout": _one_of("NCHW", "NHWC"),
    "size": _size,
}


# -- what cannot be meant ----------------------------------------------------------------------

_Fault = Callable[[ImageRule, ImagePlan, Mapping[str, _Said]], str | None]


def _floats_alone(rule: ImageRule, plan: ImagePlan, said: Mapping[str, _Said]) -> str | None:
    if plan.spec.datatype.name != "UINT8":
        return None
    return f"input '{plan.spec.name}' is UINT8, which takes pixels as they are; leave it out"


def _each_channel(name: str) -> _Fault:
    def find(rule: ImageRule, plan: ImagePlan, said: Mapping[str, _Said]) -> str | None:
        values: tuple[float, ...] = getattr(rule, name)
        if len(values) not in (1, plan.channels):
            return f"input '{plan.spec.name}' has {plan.channels} channels; name as many, or one"
        if "scale" not in said and max(map(abs, values)) > 1:
            return (
                "pixels are of 0 to 1 unless image.scale says otherwise; set image.scale to 1 if "
                "this is meant for pixels of 0 to 255"
            )
        return _floats_alone(rule, plan, said)

    return find


def _shorter_side(rule: ImageRule, plan: ImagePlan, said: Mapping[str, _Said]) -> str | None:
    if rule.resize != "crop":
        return "it is of use only where image.resize is crop"
    if not plan.height or not plan.width:
        return "what is cropped needs a size; set image.size"
    if rule.shorter_side < max(plan.height, plan.width):
        return f"it must be {max(plan.height, plan.width)} or more, to cut the input's size out of"
    return None


def _fill(rule: ImageRule, plan: ImagePlan, said: Mapping[str, _Said]) -> str | None:
    return None if rule.resize == "pad" else "it is of use only where image.resize is pad"


def _channels(rule: ImageRule, plan: ImagePlan, said: Mapping[str, _Said]) -> str | None:
    if rule.channels == "BGR" and plan.channels == 1:
        return f"input '{plan.spec.name}' has one channel, grey; leave it out"
    return None


_FAULTS: Final[Mapping[str, _Fault]] = {
    "scale": _floats_alone,
    "mean": _each_channel("mean"),
    "std": _each_channel("std"),
    "shorter_side": _shorter_side,
    "fill": _fill,
    "channels": _channels,
}
