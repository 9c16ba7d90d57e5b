"""What a transform job needs: stores in memory, a model that is a function, and a way to run it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes.clock import FakeClock

from hostler.core import Code, HostlerError, Signature
from hostler.jobs import Config, Outcome, Plan, Progress, Summary, Task, transform
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.local import LocalRunner
from hostler.jobs.transform.naming import is_marker
from hostler.jobs.transform.plan import Input, Output
from hostler.jobs.transform.ports import Payload, Prediction, Site
from hostler.jobs.transform.run import Start
from hostler.storage import ObjectStat

__all__ = ["HANDS", "EchoModel", "Jobs", "Memory", "MemoryStore", "error", "plan"]

HANDS = Hands(2, 1 << 28, FakeClock())
"""For everybody: its threads start when somebody computes without a virtual loop."""


def error(code: Code = Code.INVALID_ARGUMENT, text: str = "no", **details: Any) -> HostlerError:
    return HostlerError(code, text, details=details)


def plan(url: str = "mem://m/in/", output: str = "mem://m/out/", **options: Any) -> Plan:
    """A plan of records. `gzip`, `accept`, ... go where they belong."""
    given = {k: options.pop(k) for k in ("gzip", "content_type", "source") if k in options}
    taken = {k: options.pop(k) for k in ("accept", "assemble", "naming") if k in options}
    return Plan(
        name="job", input=Input(url=url, **given), output=Output(url=output, **taken), **options
    )


@dataclass
class MemoryStore:
    """Keeps the promises of `ObjectStore`. All of one `Memory` are one.

    `fails`: operation ("get", "put", ...) and key -> errors to come. `dead`: whoever asks is told
    nothing any more, as a process that was killed. `written`: keys that became objects. `tick_s`:
    how precise its times are.
    """

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    fails: dict[tuple[str, str], list[HostlerError]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    open_writers: int = 0
    dead: bool = False
    tick_s: float = 0.001
    piece_bytes: int = 1000

    def set(self, key: str, body: bytes, modified: float = 1.0) -> None:
        self.objects[key] = body, modified

    def body(self, key: str) -> bytes:
        return self.objects[key][0]

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def _step(self, operation: str, key: str) -> None:
        await asyncio.sleep(0)
        if self.dead:
            await asyncio.get_running_loop().create_future()
        if errors := self.fails.get((operation, key)):
            raise errors.pop(0)

    def _find(self, key: str) -> tuple[bytes, float]:
        if key not in self.objects:
            raise HostlerError(Code.NOT_FOUND, f"mem/{key}: there is no such object")
        return self.objects[key]

    def _stat(self, key: str) -> ObjectStat:
        body, modified = self._find(key)
        return ObjectStat(key, len(body), _etag(body), modified)

    def _store(self, key: str, body: bytes) -> ObjectStat:
        now = asyncio.get_running_loop().time()
        self.objects[key] = body, now - now % self.tick_s
        self.written.append(key)
        return self._stat(key)

    async def stat(self, key: str) -> ObjectStat:
        await self._step("stat", key)
        return self._stat(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectStat]:
        await self._step("list", prefix)
        for key in self.keys(prefix):
            yield self._stat(key)

    async def read(self, key: str, *, offset: int = 0, etag: str = "") -> AsyncIterator[bytes]:
        body, _ = self._find(key)
        for at in range(offset, len(body), self.piece_bytes):
            await self._step("read", key)
            if etag and self._stat(key).etag != etag:
                raise HostlerError(Code.UNAVAILABLE, f"mem/{key} has changed meanwhile")
            yield body[at : at + self.piece_bytes]

    async def get(self, key: str, *, etag: str = "", bytes_max: int) -> bytes:
        await self._step("get", key)
        body, _ = self._find(key)
        if etag and self._stat(key).etag != etag:
            raise HostlerError(Code.UNAVAILABLE, f"mem/{key} has changed meanwhile")
        if len(body) > bytes_max:
            raise HostlerError(Code.RESOURCE_EXHAUSTED, f"mem/{key} has more than {bytes_max}")
        return body

    def write(self, key: str, *, bytes_expected: int = 0) -> _Writer:
        return _Writer(self, key)

    async def put(self, key: str, body: bytes) -> None:
        await self._step("put", key)
        self._store(key, body)

    async def delete(self, key: str) -> None:
        await self._step("delete", key)
        if self.objects.pop(key, None) is not None:
            self.deleted.append(key)

    async def sweep(self, prefix: str) -> int:
        await self._step("sweep", prefix)
        return 0


@functools.lru_cache(maxsize=64)
def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class _Writer:
    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: list[bytes] = []
        self._is_open = True
        store.open_writers += 1

    async def write(self, piece: bytes | bytearray | memoryview) -> None:
        await self._store._step("write", self._key)
        self._parts.append(bytes(piece))

    async def complete(self) -> ObjectStat:
        await self._store._step("complete", self._key)
        self._end()
        return self._store._store(self._key, b"".join(self._parts))

    async def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        self._store.open_writers -= self._is_open
        self._is_open = False


class Memory:
    """`Stores` of one memory: `mem://m/in/a` is the object `in/a`."""

    def __init__(self, **objects: bytes) -> None:
        self.store = MemoryStore()
        for key, body in objects.items():
            self.store.set(key, body)

    def open(self, url: str) -> tuple[MemoryStore, str]:
        if not url.startswith("mem://m/"):
            raise HostlerError(Code.INVALID_ARGUMENT, f"{url!r} cannot be used")
        return self.store, url.removeprefix("mem://m/")


@dataclass
class EchoModel:
    """Answers with what `answer` makes of a body, by default the body.

    `asked`: bodies of each call. `delay`: seconds before a call's answer, by its how-manieth.
    """

    answer: Callable[[bytes], bytes | HostlerError] = lambda body: body
    delay: Callable[[int], float] = lambda _: 0.0
    asked: list[list[bytes]] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)
    busy: int = 0
    busy_max: int = 0

    @property
    def bodies(self) -> list[bytes]:
        return [body for call in self.asked for body in call]

    async def signature(self) -> Signature | None:
        return None

    async def ask(
        self, payloads: Sequence[Payload], timeout_s: float
    ) -> list[Prediction | HostlerError]:
        self.asked.append([one.body for one in payloads])
        self.payloads += payloads
        self.busy += len(payloads)
        self.busy_max = max(self.busy_max, self.busy)
        try:
            await asyncio.sleep(self.delay(len(self.asked)))
        finally:
            self.busy -= len(payloads)
        found: list[Prediction | HostlerError] = []
        for one in payloads:
            said = self.answer(one.body)
            found.append(said if isinstance(said, HostlerError) else Prediction(said, one.accept))
        return found

    async def infer(self, requests: Any, timeout_s: float) -> Any:
        raise NotImplementedError


class Jobs:
    """Runs plans over one memory with one model."""

    def __init__(self, model: EchoModel | None = None, **config: int) -> None:
        self.memory = Memory()
        self.store = self.memory.store
        self.model = model or EchoModel()
        self.site = Site(self.memory, Config(**config), FakeClock())
        self.progress = Progress()
        self.stop = asyncio.Event()
        self.outcomes: list[Outcome] = []

    async def run(self, plan: Plan, *, token: str = "model", fresh: bool = False) -> Summary:
        self.progress = Progress()
        runner = _Noting(
            LocalRunner(plan, self.model, self.site, self.progress, HANDS), self.outcomes
        )
        return await transform(
            plan, runner, self.site, self.progress, Start(token, fresh), self.stop
        )

    def outputs(self) -> dict[str, bytes]:
        """By their keys below `out/`, without the marker."""
        keys = [key for key in self.store.keys("out/") if not is_marker(key)]
        return {key.removeprefix("out/"): self.store.body(key) for key in keys}


class _Noting:
    """A runner that tells what it did."""

    def __init__(self, runner: LocalRunner, outcomes: list[Outcome]) -> None:
        self._runner = runner
        self._outcomes = outcomes
        self.slots = runner.slots

    async def run(self, task: Task) -> Outcome:
        outcome = await self._runner.run(task)
        self._outcomes.append(outcome)
        return outcome
