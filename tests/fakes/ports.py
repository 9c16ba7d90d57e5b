"""Ports that no other test takes by chance."""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["quiet_port"]

_BELOW_EPHEMERAL: Final = range(15_000, 30_000)
"""Linux gives out ports from 32768 on to whoever asks for any, clients included."""

_TRIALS_MAX: Final = 50


def quiet_port(following: int = 0) -> int:
    """A port that nobody listens on, nor on the `following` ones; not among those given to all."""
    for _ in range(_TRIALS_MAX):
        port = random.choice(_BELOW_EPHEMERAL)
        if all(_free(p) for p in range(port, port + following + 1)):
            return port
    raise AssertionError(f"no free port among {_TRIALS_MAX} of {_BELOW_EPHEMERAL}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
