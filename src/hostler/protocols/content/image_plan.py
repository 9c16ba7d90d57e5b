"""Which input of a model takes pictures, and what its tensor is to look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hostler.core import ImageRule, Signature, TensorSpec
from hostler.protocols.content.forms import invalid

__all__ = ["NCHW", "NHWC", "ImagePlan", "image_plan"]

NCHW: Final = "NCHW"
NHWC: Final = "NHWC"

_CHANNELS: Final = (1, 3, 4)
"""Grey, RGB, and RGB with alpha."""

_DATATYPES: Final = frozenset(("UINT8", "FP16", "FP32", "FP64"))


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One input, once it is known to take pictures.

    `layout`: NCHW or NHWC. `height`, `width`: 0 for the picture's own. `lead`: the dimensions in
    front of the picture's own, each 1. `rank`: of the picture's part of the shape: 3; 2 without
    channels; 1 where all pixels come behind one another.
    """

    spec: TensorSpec
    layout: str
    channels: int
    height: int
    width: int
    lead: tuple[int, ...]
    rank: int

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """The tensor's, for a picture of this size."""
        if self.rank == 1:
            return (*self.lead, self.channels * height * width)
        if self.rank == 2:
            return (*self.lead, height, width)
        return (*self.lead, *self.planes(height, width))

    def planes(self, height: int, width: int) -> tuple[int, int, int]:
        """The picture's three dimensions in their order."""
        if self.layout == NCHW:
            return (self.channels, height, width)
        return (height, width, self.channels)


def image_plan(signature: Signature) -> ImagePlan:
    """The input that pictures are for, by `signature.image` and by the shapes of the inputs.

    Raises: INVALID_ARGUMENT where none is, or more than one may be.
    """
    rule = signature.image or ImageRule()
    asked = [spec for spec in signature.inputs if rule.input in ("", spec.name)]
    plans = [plan for spec in asked for plan in _plans(spec, rule, batched=signature.batched)]
    if len(plans) > 1:
        found = ", ".join(f"'{plan.spec.name}' as {plan.layout}" for plan in plans[:8])
        raise invalid(
            f"a picture could be read for {found}; set format: FORMAT_NCHW or FORMAT_NHWC of the "
            "input that pictures are for, or the parameter image.layout"
        )
    if not plans:
        raise invalid(_misfit(signature, rule))
    chosen = plans[0].spec
    others = [s.name for s in signature.inputs if s is not chosen and not s.optional]
    if others:
        listed = ", ".join(f"'{name}'" for name in others[:32])
        raise invalid(
            f"a picture is all of the body, but beside input '{chosen.name}' the model needs "
            f"{listed}; send application/json"
        )
    return plans[0]


def _misfit(signature: Signature, rule: ImageRule) -> str:
    listed = ", ".join(
        f"'{spec.name}' {spec.datatype.name} {list(spec.dims)}" for spec in signature.inputs[:32]
    )
    told = f" {rule.layout}" if rule.layout else ""
    told += f" of {rule.height} rows and {rule.width} columns" if rule.height else ""
    return (
        f"no input takes a picture{told}: that needs {', '.join(sorted(_DATATYPES))} of shape "
        "[C, H, W] or [H, W, C] with C of 1, 3 or 4, or [H, W]; for pixels behind one another set "
        f"the parameter image.size. The model takes {listed or 'none'}"
    )


def _plans(spec: TensorSpec, rule: ImageRule, *, batched: bool) -> list[ImagePlan]:
    """What the input may be read as; more than one thing only where the rule says no layout."""
    dims = spec.dims
    if spec.datatype.name not in _DATATYPES:
        return []
    plans = list(_fitting(spec, dims, (1,) * batched, rule))
    if not plans and not batched and dims[:1] in ((1,), (-1,)):
        # A model that was exported for batches, but is not served as a batched one.
        plans = list(_fitting(spec, dims[1:], (1,), rule))
    return plans


def _fitting(
    spec: TensorSpec, dims: tuple[int, ...], lead: tuple[int, ...], rule: ImageRule
) -> Iterator[ImagePlan]:
    wanted = rule.layout
    if len(dims) == 3:
        if wanted in ("", NCHW) and dims[0] in _CHANNELS and _sized(dims[1:], rule):
            yield _plan(spec, (NCHW, dims[0], dims[1], dims[2]), lead, rule, 3)
        if wanted in ("", NHWC) and dims[2] in _CHANNELS and _sized(dims[:2], rule):
            yield _plan(spec, (NHWC, dims[2], dims[0], dims[1]), lead, rule, 3)
    elif len(dims) == 2 and _sized(dims, rule):
        # Of variable dimensions it is more likely a table, unless somebody says otherwise.
        if min(dims) > 0 or rule.height or rule.layout:
            yield _plan(spec, (wanted or NCHW, 1, dims[0], dims[1]), lead, rule, 2)
    elif len(dims) == 1 and rule.height and not dims[0] % (rule.height * rule.width):
        channels = dims[0] // (rule.height * rule.width)
        if channels in _CHANNELS:
            yield _plan(spec, (wanted or NCHW, channels, -1, -1), lead, rule, 1)


def _sized(dims: tuple[int, ...], rule: ImageRule) -> bool:
    """Whether height and width may be those of the rule."""
    size = (rule.height, rule.width)
    return not rule.height or all(dim in (-1, own) for dim, own in zip(dims, size, strict=True))


def _plan(
    spec: TensorSpec,
    place: tuple[str, int, int, int],
    lead: tuple[int, ...],
    rule: ImageRule,
    rank: int,
) -> ImagePlan:
    layout, channels, height, width = place
    height, width = rule.height or max(0, height), rule.width or max(0, width)
    return ImagePlan(spec, layout, channels, height, width, lead, rank)
