"""Drive a server with wrk and read what it measured.

wrk sends one prepared request again and again on each connection, so that it costs little itself;
its own processor time is measured with every run, because it shares the machine with the server.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.v2 import Request

__all__ = ["Load", "LoadError", "drive", "parse", "require_wrk"]

SCRIPT: Final = Path(__file__).with_name("post.lua")
MARK: Final = "hostler-bench "
GRACE_S: Final = 30.0
"""Beyond its duration wrk only waits for sockets to close; longer means that it hangs."""


class LoadError(Exception):
    """The load was not what was asked for: errors, or no answer at all."""


@dataclass(frozen=True)
class Load:
    """One run. `cpu_s`: processor seconds that wrk itself used for each request."""

    requests_per_s: float
    p50_s: float
    p99_s: float
    cpu_s: float


def require_wrk() -> None:
    """Raises: LoadError with the line that installs wrk."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is missing; install it with: sudo apt-get install wrk")


def drive(port: int, request: Request, connections: int, seconds: float) -> Load:
    """POST the request for some seconds. Raises: LoadError if any answer was not a 2xx."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        headers = [f"{name}={value}" for name, value in request.headers.items()]
        command = [
            "wrk",
            f"--connections={connections}",
            "--threads=1",
            f"--duration={max(1, round(seconds))}s",
            "--timeout=30s",
            f"--script={SCRIPT}",
            f"http://127.0.0.1:{port}{request.path}",
            "--",
            str(body),
            *headers,
        ]
        before = _children_s()
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
        )
        used_s = _children_s() - before
    if done.returncode:
        raise LoadError(f"wrk ended with {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout, used_s)


def parse(output: str, used_s: float) -> Load:
    """Read the line that post.lua prints at the end. Raises: LoadError."""
    found = [row for row in output.splitlines() if row.startswith(MARK)]
    if not found:
        raise LoadError(f"wrk printed no result: {output.strip()[-500:]!r}")
    result: dict[str, Any] = json.loads(found[-1].removeprefix(MARK))
    failed = {name: count for name, count in result["errors"].items() if count}
    if failed:
        raise LoadError(f"{failed} of {result['requests']} requests failed")
    if not result["requests"]:
        raise LoadError("no request was answered")
    return Load(
        requests_per_s=result["requests"] / (result["duration_us"] / 1e6),
        p50_s=result["p50_us"] / 1e6,
        p99_s=result["p99_us"] / 1e6,
        cpu_s=used_s / result["requests"],
    )


def _children_s() -> float:
    """Processor seconds of the children that have ended; servers under test still run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
