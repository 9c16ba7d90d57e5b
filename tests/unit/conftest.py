"""Unit tests touch no network, start no process and never sleep: each of these raises here."""

from __future__ import annotations

import multiprocessing.process
import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

FORBIDDEN = [
    # Not socket.socket itself: an event loop's own wake-up is a socket pair.
    *[(socket.socket, name, "opens a socket") for name in ("bind", "connect", "connect_ex")],
    (socket, "getaddrinfo", "resolves a host name"),
    (subprocess.Popen, "__init__", "starts a process"),
    (multiprocessing.process.BaseProcess, "start", "starts a process"),
    (os, "system", "starts a process"),
    (os, "fork", "starts a process"),
    (time, "sleep", "sleeps"),
]


@pytest.fixture(autouse=True)
def _edge_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, what in FORBIDDEN:
        monkeypatch.setattr(owner, name, _refuse(what))


def _refuse(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError(
            f"this unit test {what}; give it a fake, or move it to tests/integration"
        )

    return refuse
