"""Clients that ask a real server again and again on a connection of their own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from fakes.server import ServerProcess, fp32_request

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """`sent`, `received`: `time.monotonic()` around the request."""

    model: str
    status: int
    document: dict[str, Any]
    sent: float
    received: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.received - self.sent

    @property
    def error(self) -> str:
        """The error's text; "" for an answer."""
        return str(self.document.get("error", ""))

    def output(self, index: int = 0) -> list[Any]:
        """The flat data of one output."""
        data: list[Any] = self.document["outputs"][index]["data"]
        return data


class Client:
    """One connection, kept alive over all requests."""

    def __init__(self, server: ServerProcess, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = HTTPConnection(server.host, server.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def infer(self, model: str, **inputs: list[Any]) -> Answer:
        """One request of FP32 inputs given as lists of rows."""
        body = json.dumps(fp32_request(**inputs)).encode()
        sent = time.monotonic()
        self._connection.request("POST", f"/v2/models/{model}/infer", body)
        answer = self._connection.getresponse()
        text = answer.read()
        return Answer(model, answer.status, json.loads(text), sent, time.monotonic())

    def invoke(self, endpoint: str, target: str, rows: list[Any]) -> Answer:
        """One InvokeEndpoint of a target model, with rows as JSON instances."""
        headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Model": target}
        body = json.dumps({"instances": rows}).encode()
        sent = time.monotonic()
        self._connection.request("POST", f"/endpoints/{endpoint}/invocations", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        return Answer(target, answer.status, json.loads(text), sent, time.monotonic())


class Crowd:
    """Threads that each repeat one action until they are told to end.

    `failures`: what went wrong, exceptions included; a crowd gives up after twenty.
    """

    FAILURES_MAX = 20

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def add(self, server: ServerProcess, act: Callable[[Client, int], None], count: int) -> None:
        """Start `count` threads that call `act(client, turn)` over and over."""
        for _ in range(count):
            thread = threading.Thread(target=self._repeat, args=(server, act))
            self._threads.append(thread)
            thread.start()

    def fail(self, text: str) -> None:
        """Note a failure."""
        self.failures.append(text)

    def run_for(self, seconds: float) -> None:
        """Let them go on for so long, or until too much has failed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(self.failures) < self.FAILURES_MAX:
            time.sleep(0.05)

    def end(self) -> None:
        """Wait until each has finished its turn."""
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 10)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def _repeat(self, server: ServerProcess, act: Callable[[Client, int], None]) -> None:
        turn = 0
        try:
            with Client(server) as client:
                while not self._ended.is_set():
                    act(client, turn)
                    turn += 1
        except Exception as error:
            self.fail(f"{act.__name__}, turn {turn}: {error!r}")
