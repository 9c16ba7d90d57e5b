"""A small tree of settings with one field of each kind."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Door(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kinds of single values."""

    host: Annotated[str, Meta(description="Address.", extra={"unit": "text"})] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port.", ge=0, le=65535, extra={"unit": "count"})] = 8000
    open: Annotated[bool, Meta(description="Open.", extra={"unit": "flag"})] = False
    share: Annotated[float, Meta(description="Share.", ge=0, le=1, extra={"unit": "ratio"})] = 0.5
    wait_s: Annotated[float, Meta(description="Wait.", gt=0, extra={"unit": "s"})] = 30.0
    body_bytes_max: Annotated[int, Meta(description="Body.", ge=1, extra={"unit": "bytes"})] = 1024


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Choices, lists and what may be absent."""

    mode: Annotated[Literal["none", "poll"], Meta(description="M.", extra={"unit": "text"})] = (
        "none"
    )
    colour: Annotated[Colour, Meta(description="Colour.", extra={"unit": "text"})] = Colour.RED
    models: Annotated[tuple[str, ...], Meta(description="L.", extra={"unit": "text"})] = ()
    sizes: Annotated[tuple[int, ...], Meta(description="S.", extra={"unit": "count"})] = ()
    folder: Annotated[Path | None, Meta(description="F.", extra={"unit": "path"})] = None
    limit_s: Annotated[float | None, Meta(description="T.", extra={"unit": "s"})] = None
    low: Annotated[int, Meta(description="Low.", extra={"unit": "count"})] = 1
    high: Annotated[int, Meta(description="High.", extra={"unit": "count"})] = 9

    def __post_init__(self) -> None:
        """Fields that belong together."""
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")


class House(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tree."""

    door: Door = Door()
    store: Store = Store()
