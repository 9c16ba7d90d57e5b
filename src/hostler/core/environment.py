"""Which Python a model's workers run on, when it is not the server's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """What a package says of its Python; `repository` makes an interpreter of it before a load.

    `kind`: "requirements", where `source` is a requirements.txt to be installed, or "packed",
    where it is an archive to be unpacked or a folder that was. `package`: the folder that paths
    in a requirements.txt may not leave. `beside`: what is installed with it, each by one of several
    names (`xgboost`, `xgboost-cpu`), unless the file names one of them itself.
    """

    kind: Literal["requirements", "packed"]
    source: Path
    package: Path
    beside: tuple[tuple[str, ...], ...] = ()
