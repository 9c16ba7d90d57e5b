"""Does hostler answer a tiny model over gRPC nearly as fast as its library answers at all?

Unary ModelInfer, the digits network, 32 in flight; the reference is `reference_grpc.py`.
"""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from bench.grpc_load import IN_FLIGHT, PATH, Calls, Drive, loads
from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import LoadError
from bench.models import Subject, run_once, subject
from bench.servers import Server, free_port, grpc_echo, hostler
from bench.v2 import NAMES, Array, WrongAnswer

THROUGHPUT: Final = Goal(at_least=True, value=0.75)
WARM_S: Final = 1.0
_ENDED: Final = re.compile(rb'hostler_rpcs_total\{rpc="ModelInfer",code="(\w+)"\} (\d+)')


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line for each load generator that is installed."""
    if shutil.which("h2load") is None:
        sys.stderr.write("bench: h2load is missing: sudo apt-get install nghttp2-client\n")
    model = subject("digits")
    message = request(model)
    port = free_port()
    with grpc_echo() as base, hostler(model.repository, "--grpc-port", str(port)) as ours:
        check(port, message, model.output, run_once(model))
        for name, drive in loads().items():
            yield measured(name, Sides(drive, message, base, ours, port), effort)
        check_answers(ours)


class Sides:
    """The two servers under one load. `cpu_s`: of each server's calls, run by run."""

    def __init__(self, drive: Drive, message: bytes, base: Server, ours: Server, port: int) -> None:
        self._drive = drive
        self._message = message
        self._ports = {"reference": (base, base.port), "hostler": (ours, port)}
        self.cpu_s: dict[str, list[float]] = {name: [] for name in self._ports}

    def calls(self, side: str, seconds: float) -> Callable[[], float]:
        """A run that gives calls a second."""
        server, port = self._ports[side]

        def once() -> float:
            found: Calls = self._drive(server, port, self._message, seconds)
            self.cpu_s[side].append(found.server_cpu_s)
            return found.calls_per_s

        return once


def measured(name: str, sides: Sides, effort: Effort) -> dict[str, Any]:
    """The line of one load generator."""
    for side in sides.cpu_s:
        sides.calls(side, WARM_S)()
        sides.cpu_s[side].clear()
    busy = rounds(
        sides.calls("reference", effort.run_s), sides.calls("hostler", effort.run_s), effort.rounds
    )
    found, again = ratios(busy)
    return line(
        f"digits gRPC, {IN_FLIGHT} in flight, {name}: throughput over a bare echo's",
        "ratio",
        found,
        goal=THROUGHPUT,
        again=again,
        reference_per_s=round(median(r.base_mean for r in busy)),
        hostler_per_s=round(median(r.ours for r in busy)),
        reference_cpu_us=round(median(sides.cpu_s["reference"]) * 1e6, 1),
        hostler_cpu_us=round(median(sides.cpu_s["hostler"]) * 1e6, 1),
    )


def request(model: Subject) -> bytes:
    """A ModelInferRequest with raw contents."""
    message = pb.ModelInferRequest(model_name=model.name)
    datatype = NAMES[model.inputs.dtype]
    message.inputs.add(name=model.input, datatype=datatype, shape=model.inputs.shape)
    message.raw_input_contents.append(model.inputs.tobytes())
    return bytes(message.SerializeToString())


def check(port: int, message: bytes, name: str, expected: Array) -> None:
    """Ask once and compare one output. Raises: WrongAnswer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = pb.ModelInferResponse.FromString(
                channel.unary_unary(PATH)(message, timeout=60)
            )
        except grpc.RpcError as error:
            raise WrongAnswer(f"{PATH}: {error}") from None
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if output.name == name:
            found = np.frombuffer(raw, expected.dtype).reshape(expected.shape)
            if np.allclose(found, expected, rtol=1e-3, atol=1e-4):
                return
    raise WrongAnswer(f"{PATH}: {name} is not what onnxruntime computes")


def check_answers(server: Server) -> None:
    """A failed call is a 200 to an HTTP/2 client. Raises: LoadError if there were any."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        ended = dict(_ENDED.findall(answer.read()))
    # h2load leaves without waiting for its last calls.
    failed = {
        code.decode(): int(n) for code, n in ended.items() if code not in (b"OK", b"CANCELLED")
    }
    if failed:
        raise LoadError(f"calls that failed: {failed}")
