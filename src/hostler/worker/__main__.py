"""Entry of a worker: `<python> -u <this folder> <socket fd> <parent pid>`."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import socket
import sys
from types import ModuleType

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, however it ends.

    The signal is not sent for a parent that ended before the call, hence the check after it.
    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def private_package(folder: str) -> ModuleType:
    """This folder as the package `hostler_worker`, off `sys.path`.

    A model's own `loop.py` or `channel.py` must not meet ours, so our modules have no bare names.
    """
    spec = importlib.util.spec_from_file_location(
        "hostler_worker",
        os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder],
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["hostler_worker"] = package
    spec.loader.exec_module(package)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != folder]
    return package


def main() -> int:
    """Serve until told to stop or until the server is gone."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    del sys.argv[1:]
    private_package(os.path.dirname(os.path.abspath(__file__)))
    loop = importlib.import_module("hostler_worker.loop")
    loop.serve(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main())
