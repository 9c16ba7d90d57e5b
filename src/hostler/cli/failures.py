"""What the command line raises of its own."""

from __future__ import annotations

__all__ = ["Misuse"]


class Misuse(Exception):
    """The command line, a settings file or a variable is wrong: one line, exit code 2."""
