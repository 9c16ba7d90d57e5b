"""`hostler transform` in a process of its own, and what it is given: objects, models.

    job = Job(model, folder / "in", folder / "out", "--gzip")
    with job.start() as process:
        process.kill()
    assert job.run().code == 0

A process never outlives its block, nor the test process.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import psutil
import pyarrow as pa
from fakes.onnx_models import save
from fakes.python_models import python_model, tensors
from fakes.s3_server import Faults, S3Server
from onnx import TensorProto, helper, numpy_helper
from pyarrow import parquet

from hostler.jobs.transform.naming import is_marker

__all__ = [
    "Files",
    "Finished",
    "Job",
    "Objects",
    "Seen",
    "TransformProcess",
    "csv_rows",
    "laborious",
    "patient",
    "sleeping_model",
    "tf_records",
    "write_lines",
    "write_table",
]

_DRAFT = ".hostler-put-"
_ERRORS = ".errors.jsonl"
RUN_S = 100.0

# As in fakes.server: the kernel ends the process with the test that started it.
_RUN = """
import ctypes, runpy, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
sys.argv[0] = "hostler"
{prelude}
runpy.run_module("hostler", run_name="__main__", alter_sys=True)
"""


class Finished(NamedTuple):
    """How a run ended. `told`: what --json printed, {} for nothing. `rss_max`: bytes."""

    code: int
    told: dict[str, Any]
    stderr: str
    rss_max: int = 0


@dataclass(frozen=True)
class Job:
    """One command line. `env`: beside the variables of this process.

    `prelude`: Python that runs in the process before hostler does, to break what it stands on.
    """

    model: Path | str
    source: Path | str
    output: Path | str
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    prelude: str = ""

    def start(self) -> TransformProcess:
        """Begin it, or go on with it."""
        return TransformProcess(self)

    def run(self, timeout_s: float = RUN_S) -> Finished:
        """From wherever it is to its end."""
        with self.start() as process:
            return process.wait(timeout_s)

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-c", _RUN.format(prelude=self.prelude), "transform"),
            *(str(self.model), "-i", str(self.source), "-o", str(self.output), "--json"),
            *self.flags,
        ]


class TransformProcess:
    """See Job. `children`: all processes of its own that were seen."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.children: dict[int, psutil.Process] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="hostler-transform-")
        self._stdout = Path(self._folder.name) / "stdout"
        self._stderr = Path(self._folder.name) / "stderr"
        hidden = ("HOSTLER_", "AWS_")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                self._job.command(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=variables | dict(self._job.env),
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            sys.stderr.write(f"\n--- hostler transform ---\n{self.stderr()[-4000:]}\n")
        self.look()
        if self.alive:
            self.process.kill()
            self.process.wait(20)
        for child in self.children.values():
            with contextlib.suppress(psutil.Error):
                child.kill()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stderr(self) -> str:
        return self._stderr.read_text("utf-8", "replace")

    def look(self) -> None:
        """Note its children."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.children[child.pid] = child

    def orphans(self) -> list[psutil.Process]:
        """Children that were seen and are still there."""
        return [
            child
            for child in self.children.values()
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def kill(self) -> bool:
        """kill -9, and whether it was still alive then."""
        self.look()
        self.process.kill()
        return self.process.wait(20) == -signal.SIGKILL

    def rss_max(self) -> int:
        """The peak so far, in bytes; 0 once it has ended. Source: proc(5), VmHWM."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def wait(self, timeout_s: float = RUN_S, poll_s: float = 0.02) -> Finished:
        """Its end. Memory of children counts, each with its own peak."""
        peak = 0
        try:
            for _ in patient(timeout_s, "hostler transform to end", poll_s):
                peak = max(peak, self.rss_max())
                if not self.alive:
                    break
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr()[-4000:]}") from None
        text = self._stdout.read_text()
        told = json.loads(text) if text.startswith("{") else {}
        return Finished(self.process.returncode, told, self.stderr(), peak)


def patient(timeout_s: float, what: str, poll_s: float = 0.005) -> Iterator[None]:
    """Turns of a loop that looks at something again and again; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(poll_s)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


# -- what lies in an output folder ----------------------------------------------------------


class Seen(NamedTuple):
    """Outputs and set-aside records by name, each with what changes if it is written again."""

    files: dict[str, bytes]
    stamps: dict[str, tuple[object, ...]]
    has_marker: bool
    drafts: int

    def finished(self) -> dict[str, tuple[object, ...]]:
        """Stamps of what belongs to outputs that are there."""
        return {
            name: stamp
            for name, stamp in self.stamps.items()
            if not name.endswith(_ERRORS)
            or any(out.startswith(f"{name.removesuffix(_ERRORS)}.out") for out in self.stamps)
        }


class Files:
    """A folder that outputs are written to; may be looked at meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self) -> int:
        """Outputs that are there."""
        return sum(".out" in path.name for path in self._folder.rglob("*"))

    def settle(self) -> None:
        """What a process did that was killed is all there."""

    def look(self) -> Seen:
        """All that is there. Outputs are not empty, a folder is no output."""
        files, stamps, drafts = {}, {}, 0
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        for path in sorted(paths):
            if path.name.startswith(_DRAFT):
                drafts += 1
            elif not is_marker(path.name):
                name, found = str(path.relative_to(self._folder)), path.stat()
                stamps[name] = found.st_ino, found.st_mtime_ns
                files[name] = path.read_bytes()
        has_marker = any(is_marker(path.name) for path in paths)
        return Seen(files, stamps, has_marker, drafts)


class Objects:
    """The same of a prefix in a bucket; drafts are multipart uploads that have not ended.

    `asked`: requests by operation and key. The server's faults are taken for that.
    """

    def __init__(self, s3: S3Server, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix
        self.asked: Counter[tuple[str, str]] = Counter()
        s3.faults = Faults(chances={"throttle": 0.0}, only=self._note)

    def _note(self, operation: str, key: str) -> bool:
        self.asked[operation, key] += 1
        return False

    def count(self) -> int:
        """Outputs that are there."""
        return sum(".out" in key for key in self._s3.keys(self._bucket, self._prefix))

    def settle(self) -> None:
        """The server has done what it was asked, though nobody waits for its answer any more."""
        time.sleep(2 * self._s3.delay_s + 0.05)

    def look(self) -> Seen:
        """All that is there."""
        files, stamps = {}, {}
        keys = self._s3.keys(self._bucket, self._prefix)
        for key in keys:
            if not is_marker(key):
                name = key.removeprefix(self._prefix)
                files[name] = self._s3.get(self._bucket, key)
                stored = self._s3.buckets[self._bucket].objects[key]
                stamps[name] = stored.etag, stored.modified
        has_marker = any(is_marker(key) for key in keys)
        return Seen(files, stamps, has_marker, len(self._s3.uploads))


# -- inputs ---------------------------------------------------------------------------------


def csv_rows(seed: int, count: int, width: int = 4, bad_every: int = 0) -> list[str]:
    """Lines of small whole numbers; with `bad_every`, each so manieth is no row of numbers."""
    draw = random.Random(seed)
    return [
        "1,no,number"
        if bad_every and index % bad_every == bad_every - 1
        else ",".join(str(draw.randrange(1000)) for _ in range(width))
        for index in range(count)
    ]


def write_lines(path: Path, rows: list[str], *, compress: bool = False) -> None:
    """A file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(f"{row}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(body, 1, mtime=0) if compress else body)


def write_table(path: Path, rows: list[str]) -> None:
    """The same numbers as a Parquet file of columns a, b, c and d."""
    columns = np.array([row.split(",") for row in rows], np.float32).T
    table = {name: pa.array(column) for name, column in zip("abcd", columns, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(table), path, row_group_size=64)


def tf_records(rows: list[str]) -> bytes:
    """Each row as a record. Source: TensorFlow's record_writer.h; checksums of CRC-32C."""
    return b"".join(
        header + struct.pack("<I", _masked(header)) + body + struct.pack("<I", _masked(body))
        for body in (row.encode() for row in rows)
        for header in (struct.pack("<Q", len(body)),)
    )


def _masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]


# -- models ---------------------------------------------------------------------------------


def laborious(path: Path, rounds: int, repeat: int = 1) -> Path:
    """`y = 2 x`, `repeat` times side by side, over [batch, 4] FP32, by way of large matrices.

    A row takes some 0.2 ms for each ten `rounds` on one core. Answers are the same in every bit,
    however rows are batched: the matrices are those that change nothing.
    """
    wide = 512
    weights = [
        numpy_helper.from_array(np.eye(4, wide, dtype=np.float32) * 2, "first"),
        numpy_helper.from_array(np.eye(wide, dtype=np.float32), "same"),
        numpy_helper.from_array(np.eye(wide, 4, dtype=np.float32), "last"),
        numpy_helper.from_array(np.array([1, repeat], np.int64), "times"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["r0"])]
    for index in range(rounds):
        nodes.append(helper.make_node("MatMul", [f"r{index}", "same"], [f"r{index + 1}"]))
    nodes.append(helper.make_node("MatMul", [f"r{rounds}", "last"], ["narrow"]))
    nodes.append(helper.make_node("Tile", ["narrow", "times"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "laborious",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4 * repeat])],
        weights,
    )
    return save(graph, path)


SLEEPING = """
def initialize(self, args):
    self.draw = np.random.default_rng(int(args["model_instance_name"].rsplit("_", 1)[-1]))

def execute(self, requests):
    responses = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        time.sleep(SECONDS * self.draw.exponential())
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]))
    return responses
"""


def sleeping_model(folder: Path, seconds: float, instances: int = 1) -> Path:
    """`y = 2 x` over [batch, 4] FP32 in a worker; each request takes so long on average."""
    config = "max_batch_size: 8\n" + tensors("FP32", "4", "x", "y")
    config += f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]\n"
    body = SLEEPING.replace("SECONDS", repr(seconds))
    return python_model(folder, "sleeping", body, config)
