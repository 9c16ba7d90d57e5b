"""When a connection has been quiet for too long: a pure decision over its phase."""

from __future__ import annotations

import enum

from hostler.gateway.config import Config

__all__ = ["Overdue", "Phase", "overdue"]


class Phase(enum.IntEnum):
    """What a connection waits for."""

    IDLE = 0
    """The first byte of a request."""
    HEAD = 1
    """The end of the headers; the clock runs from the first byte."""
    BODY = 2
    """The end of the body; the clock runs from the last piece."""
    ANSWER = 3
    """The application."""
    CLOSING = 4
    """The other side's end; what still comes is thrown away."""


class Overdue(enum.Enum):
    """What to do about it."""

    CLOSE = "close"
    REFUSE = "refuse"
    ABORT = "abort"


def overdue(phase: Phase, quiet_s: float, unsent_bytes: int, config: Config) -> Overdue | None:
    """What becomes of a connection whose clock has stood for `quiet_s`; None to leave it alone.

    `unsent_bytes`: of answers that wait for the client to read; their progress restarts the clock.
    """
    if unsent_bytes:
        return Overdue.ABORT if quiet_s > config.body_timeout_s else None
    if phase is Phase.IDLE:
        return Overdue.CLOSE if quiet_s > config.keep_alive_s else None
    if phase is Phase.HEAD:
        return Overdue.REFUSE if quiet_s > config.header_timeout_s else None
    if phase is Phase.BODY:
        return Overdue.REFUSE if quiet_s > config.body_timeout_s else None
    if phase is Phase.CLOSING:
        return Overdue.ABORT if quiet_s > config.linger_s else None
    return None
