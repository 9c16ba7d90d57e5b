"""Starting a worker's process with nothing of ours in its hands but one socket."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hostler.core import ModelSpec

__all__ = ["Launched", "describe_exit", "environment", "held_back", "launch"]


WORKER_FOLDER: Final = Path(__file__).resolve().parents[2] / "worker"
"""Known by its path alone: nothing imports it."""

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(slots=True)
class Launched:
    """A started process: `pidfd` is readable once it has ended, `output` is its stdout and stderr.

    The owner closes `pidfd`, `connection` and `output`, and reaps `process`.
    """

    process: subprocess.Popen[bytes]
    pidfd: int
    connection: socket.socket
    output: int


HELD_BACK: Final = ("LD_AUDIT", "LD_PRELOAD", "PYTHON")
"""How variables begin that the loader and the interpreter obey before our own code runs."""


def held_back(variables: Mapping[str, str]) -> dict[str, str]:
    """A model's variables that its worker sets itself, once its own modules are there."""
    return {name: value for name, value in variables.items() if name.startswith(HELD_BACK)}


def environment(
    python: str, threads: int, variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All variables that a worker gets; the server's own (its secrets too) stay here.

    `variables`: the model's; they win over the ones that all have, save those that are held back.
    """
    user = pwd.getpwuid(os.getuid())
    servers = python == sys.executable
    own = variables or {}
    folders = [os.path.dirname(python), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": os.pathsep.join(folder for folder in folders if folder),
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        # A package's own environment is whole; the server itself may lie in the user's packages.
        **({} if servers else {"PYTHONNOUSERSITE": "1"}),
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        **{name: value for name, value in own.items() if not name.startswith(HELD_BACK)},
    }


def launch(spec: ModelSpec, threads: int) -> Launched:
    """Start a worker whose working directory is the package's folder, on its own interpreter.

    Call it on a thread
    that lives as long as the server: the kernel sends the parent-death signal when the thread that
    started a process ends. Raises: OSError; nothing is left open then.
    """
    python = str(spec.python or sys.executable)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    output, output_end = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own folder, and a known interpreter
            [python, "-u", str(WORKER_FOLDER), str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output_end,
            stderr=output_end,
            cwd=spec.directory,
            env=environment(python, threads, spec.variables),
            pass_fds=(theirs.fileno(),),
            # Its own session: a terminal's Ctrl-C is for the server to act upon, and children of
            # user code can be ended with it.
            start_new_session=True,
        )
    except OSError:
        ours.close()
        os.close(output)
        raise
    finally:
        theirs.close()
        os.close(output_end)
    ours.setblocking(False)
    os.set_blocking(output, False)
    return Launched(process, os.pidfd_open(process.pid), ours, output)


def describe_exit(code: int, memory_bytes_max: int) -> str:
    """`subprocess` return code in words: "was killed by SIGSEGV"."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code != signal.SIGKILL:
        return f"was killed by {name}"
    limit = f"; its memory limit is {memory_bytes_max} bytes" if memory_bytes_max else ""
    return f"was killed by {name} (out of memory, or by hand{limit})"
