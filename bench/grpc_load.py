"""Drive a gRPC server with h2load or with an asyncio client, and read what each measured.

The servers' processor time is read with every run: the load generator shares the machine with them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.harness import ROOT
from bench.load import GRACE_S, LoadError
from bench.servers import Server

__all__ = [
    "CONNECTIONS",
    "IN_FLIGHT",
    "PATH",
    "Calls",
    "asyncio_client",
    "h2load",
    "loads",
    "parse",
]

PATH: Final = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 32

_FINISHED: Final = re.compile(r"finished in ([\d.]+)(us|ms|s),")
_COUNTS: Final = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Calls:
    """One run. `server_cpu_s`: processor seconds of the server for each call."""

    calls_per_s: float
    server_cpu_s: float


Drive = Callable[[Server, int, bytes, float], Calls]
"""(server, its gRPC port, message, seconds) -> what was measured."""


def loads() -> dict[str, Drive]:
    """The load generators that are installed; h2load costs the machine much less."""
    found: dict[str, Drive] = {}
    if shutil.which("h2load") is not None:
        found["h2load"] = h2load
    found["asyncio client"] = asyncio_client
    return found


def h2load(server: Server, port: int, message: bytes, seconds: float) -> Calls:
    """4 connections of 8 streams each. Raises: LoadError if any call failed."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        # A gRPC message on the wire: not compressed, its length, itself.
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        command = ["h2load", "--threads=1", f"--clients={CONNECTIONS}"]
        command += [f"--max-concurrent-streams={IN_FLIGHT // CONNECTIONS}"]
        command += [f"--duration={max(1, round(seconds))}", f"--data={body}"]
        command += ["--header=content-type: application/grpc", "--header=te: trailers"]
        command += [f"http://127.0.0.1:{port}{PATH}"]
        return _measured(server, command, seconds, parse)


def asyncio_client(server: Server, port: int, message: bytes, seconds: float) -> Calls:
    """32 callers over 4 connections in one process. Raises: LoadError if any call failed."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(message)
        command = [sys.executable, "-m", "bench.grpc_client", str(port), str(body)]
        command += [str(seconds), str(IN_FLIGHT)]
        return _measured(server, command, seconds, _parse_client)


def _measured(
    server: Server,
    command: list[str],
    seconds: float,
    read: Callable[[str], tuple[int, float]],
) -> Calls:
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + GRACE_S,
        check=False,
    )
    after = process.cpu_times()
    if done.returncode:
        raise LoadError(
            f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr[-500:]}"
        )
    calls, took_s = read(done.stdout)
    used_s = after.user + after.system - before.user - before.system
    return Calls(calls / took_s, used_s / calls)


def parse(output: str) -> tuple[int, float]:
    """Calls and seconds of h2load's report. Raises: LoadError."""
    finished, counts = _FINISHED.search(output), _COUNTS.search(output)
    if finished is None or counts is None:
        raise LoadError(f"h2load printed no result: {output.strip()[-500:]!r}")
    succeeded, *failed = map(int, counts.groups())
    if any(failed) or not succeeded:
        raise LoadError(f"h2load: {counts[0]}")
    return succeeded, float(finished[1]) * _UNITS[finished[2]]


def _parse_client(output: str) -> tuple[int, float]:
    found = json.loads(output)
    return int(found["calls"]), float(found["seconds"])
