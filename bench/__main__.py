"""Run the questions: `python -m bench [--quick] [NAME...]`; one line of JSON for each answer.

Lines go to standard output and to a file in bench/results/; progress goes to standard error. Ends
with 1 if a goal is missed beyond noise or a question could not be asked, else with 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from subprocess import SubprocessError
from typing import Any, Final, TextIO

from bench.harness import QUICK, ROOT, THOROUGH, Effort, commit
from bench.load import LoadError, require_wrk
from bench.servers import ServerError
from bench.v2 import WrongAnswer

QUESTIONS: Final = (
    "digits_json",
    "grpc_digits",
    "sigv4",
    "multi_model",
    "transform",
    "transform_beside",
    "resnet18",
    "encoder",
    "ensemble",
    "worker_cost",
    "cold_load",
    "startup",
    "memory",
    "telemetry_cost",
)


def main() -> int:
    """Ask what the command line names, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="short runs: a smoke test, no figure")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(QUESTIONS))
    if unknown:
        parser.error(f"no question named {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    try:
        require_wrk()
    except LoadError as error:
        say(str(error))
        return 1
    effort = QUICK if chosen.quick else THOROUGH
    stamp = time.strftime("%Y%m%dT%H%M%S")
    path = ROOT / "bench" / "results" / f"{stamp}-{commit().rstrip('+')}.json"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as kept:
        good = [ask(name, effort, kept) for name in chosen.names or QUESTIONS]
    return 0 if all(good) else 1


def ask(name: str, effort: Effort, kept: TextIO) -> bool:
    """Print the lines of one question; whether it was answered and no goal missed."""
    started = time.monotonic()
    say(f"{name} ...")
    good = True
    try:
        for found in importlib.import_module(f"bench.{name}").run(effort):
            show(found, kept)
            good = good and found["pass"] is not False
    except (LoadError, ServerError, WrongAnswer, ImportError, OSError, SubprocessError) as error:
        show({"question": name, "error": str(error), "pass": False}, kept)
        good = False
    say(f"{name} took {time.monotonic() - started:.0f} s")
    return good


def show(found: dict[str, Any], kept: TextIO) -> None:
    """One line, to standard output and to the file."""
    text = json.dumps(found) + "\n"
    for sink in (sys.stdout, kept):
        sink.write(text)
        sink.flush()


def say(text: str) -> None:
    """Progress, beside the lines."""
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
