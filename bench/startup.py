"""How long from `hostler serve one.onnx` to the first right answer?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from bench.harness import Effort, Goal, line
from bench.models import run_once, subject
from bench.servers import ServerError, hostler
from bench.v2 import WrongAnswer, check, json_request

FIRST_ANSWER_S: Final = Goal(at_least=False, value=1.5)
MODEL: Final = "first"
POLL_S: Final = 0.005
LIMIT_S: Final = 60.0


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line: wall time of a bare .onnx file from the start of the process."""
    model = subject("digits")
    # A file that is served by itself is a model of the file's name.
    file = model.file.parents[2] / f"{MODEL}.onnx"
    file.write_bytes(model.file.read_bytes())
    request = json_request(MODEL, model.input, model.inputs)
    expected = run_once(model)

    def first_answer() -> float:
        start = time.perf_counter()
        with hostler(file, await_ready=False) as server:
            while time.perf_counter() - start < LIMIT_S:
                try:
                    check(server.port, request, model.output, expected)
                except (OSError, WrongAnswer):
                    server.check_alive()
                    time.sleep(POLL_S)
                else:
                    return time.perf_counter() - start
        raise ServerError(f"no right answer within {LIMIT_S:g} s")

    yield line(
        "one ONNX file: wall time from start to the first right answer",
        "value_s",
        [first_answer() for _ in range(effort.starts)],
        goal=FIRST_ANSWER_S,
    )
