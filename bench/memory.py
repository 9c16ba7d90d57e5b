"""How much memory does an empty server hold, and what does a small model add?

Proportional set size of the server and its children, in MB of a million bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from bench.harness import Effort, line
from bench.models import small_copies, subject
from bench.servers import Server, hostler
from bench.v2 import Request, json_request, post

COPIES: Final = 20


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line: the empty server; beside it one model, and each of twenty more."""
    digits = subject("digits")
    many = small_copies(COPIES)
    empty: list[float] = []
    one: list[float] = []
    each: list[float] = []
    for _ in range(effort.rounds):
        with hostler(many, "--model-control", "explicit") as server:
            empty.append(resident_mb(server))
        one.append(_loaded_mb(digits.repository, ["digits"]))
        names = sorted(folder.name for folder in many.iterdir())
        each.append((_loaded_mb(many, names) - one[-1]) / (COPIES - 1))
    yield line(
        "resident memory of an empty server",
        "value_mb",
        empty,
        one_small_model_mb=round(sorted(one)[len(one) // 2], 1),
        each_further_model_mb=round(sorted(each)[len(each) // 2], 2),
    )


def _loaded_mb(repository: Path, names: list[str]) -> float:
    """Memory with these models loaded, each having answered once."""
    digits = subject("digits")
    with hostler(repository, "--model-control", "explicit") as server:
        for name in names:
            post(server.port, Request(f"/v2/repository/models/{name}/load", {}, b"{}"))
            post(server.port, json_request(name, digits.input, digits.inputs))
        return resident_mb(server)


def resident_mb(server: Server) -> float:
    """Pages of the server and its children, shared ones counted by share."""
    process = psutil.Process(server.pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_full_info().pss for member in family)) / 1e6
