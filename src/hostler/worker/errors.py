"""How a worker says no: a canonical code's name and a message for people."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

__all__ = ["Failure", "describe", "failure_of"]


class Failure(Exception):
    """`code`: the name of one of the server's canonical codes. `message`: one line.

    `status`: the HTTP status that a request handler of the package answers with, 400 to 599; 0
    where it names none.
    """

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def told(self) -> list[Any]:
        """As a frame has it: code and message, then details where there are any."""
        return [self.code, self.message, *([{"status": self.status}] if self.status else [])]


def describe(error: BaseException, directory: str) -> str:
    """One line for an exception of user code: `Type: text (file.py:12)`.

    The place is the deepest frame inside the model's own `directory`, its path relative to it.
    """
    text = str(error).strip()
    line = type(error).__name__ + (": " + text if text else "")
    own = os.path.join(os.path.realpath(directory), "")
    if isinstance(error, SyntaxError) and error.filename:
        return line
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = os.path.realpath(frame.filename)
        if path.startswith(own):
            return "{} ({}:{})".format(line, path[len(own) :], frame.lineno)
    return line


def failure_of(
    error: BaseException,
    where: str,
    directory: str,
    memory_bytes_max: int,
    requirements: str = "a requirements.txt beside model.py",
) -> Failure:
    """What a caller is told about an exception; its traceback goes to stderr, to the log.

    `where`: "model 'm' failed in execute", the start of the message. `requirements`: where the
    package says what it needs.
    """
    if isinstance(error, Failure):
        return error
    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    text = "{}: {}".format(where, describe(error, directory))
    if isinstance(error, ModuleNotFoundError):
        text += "; add it to {}, or install it into the server's environment".format(requirements)
    starved = isinstance(error, MemoryError) or "allocate memory" in str(error)
    if starved and memory_bytes_max:
        text += "; its worker may use at most {} bytes (worker_memory_bytes_max)".format(
            memory_bytes_max
        )
    return Failure("MODEL_ERROR", text)
