"""`hostler version`."""

from __future__ import annotations

import hostler

__all__ = ["command"]


def command() -> int:
    """Print hostler's version."""
    print(hostler.__version__)
    return 0
