"""The guard that keeps unit tests from the network, from processes and from sleeping."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

EDGES = [
    ("opens a socket", lambda: socket.create_connection(("127.0.0.1", 9))),
    ("opens a socket", lambda: socket.socket().bind(("127.0.0.1", 0))),
    ("starts a process", lambda: subprocess.run([sys.executable, "-V"], check=True)),
    ("starts a process", lambda: os.system("true")),
    ("sleeps", lambda: time.sleep(0)),
]


@pytest.mark.parametrize(("what", "reach"), EDGES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_reaching_out_fails_the_test(what: str, reach: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match=f"{what}|resolves a host name"):
        reach()
