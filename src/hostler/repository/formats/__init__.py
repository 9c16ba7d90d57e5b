"""The kinds of package there are, by the first that recognises an entry.

A format is a module with `detect(item, inside)`, which looks only at what it is given (`inside`:
a folder's own entries), and `read(source)`, which returns partial specs, ascending by version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hostler.core import ModelSpec
from hostler.repository.formats import single_file, triton
from hostler.repository.source import Source
from hostler.repository.tree import Item

__all__ = ["FORMATS", "SINGLE_FILE", "TRITON", "Format", "detect"]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of package. `name_of` tells the model's name from the entry."""

    name: str
    detect: Callable[[Item, Sequence[Item]], bool]
    name_of: Callable[[Item], str]
    read: Callable[[Source], tuple[ModelSpec, ...]]


TRITON: Final = Format("triton", triton.detect, triton.name_of, triton.read)
SINGLE_FILE: Final = Format(
    "single_file", single_file.detect, single_file.name_of, single_file.read
)
FORMATS: Final = (TRITON, SINGLE_FILE)


def detect(item: Item, inside: Sequence[Item]) -> Format | None:
    """The format of this entry, or None if it is no package."""
    return next((form for form in FORMATS if form.detect(item, inside)), None)
