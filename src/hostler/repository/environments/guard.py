"""Starts a command that ends with the server: `python -I guard.py <server pid> <command> ...`.

Standard library alone, and no part of the server's process. What builds an environment must not
outlive the lock under which it writes, nor take the processor from models that serve.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICENESS = 10


def main() -> None:
    """Become the command, which the kernel kills when the server ends. Source: prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)  # it ended before it could be watched
    os.nice(_NICENESS)
    command = sys.argv[2:]
    try:
        os.execv(command[0], command)  # noqa: S606 - that is what it is for
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
