"""An engine and a repository for the driver of transform jobs, without objects and models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hostler.core import Code, Context, HostlerError
from hostler.jobs import Plan, Progress, Start, Summary

__all__ = ["Ended", "FakeEngine", "FakeRepository", "Ran"]


@dataclass
class Ran:
    """One run of a job. `ended`: how: "done", "stopped", "cancelled" or "raised"."""

    plan: Plan
    stages: tuple[str, ...]
    token: str
    principal: str | None
    fresh: bool
    ended: str = ""


class Ended(Summary, frozen=True):
    """`failure` is told, not made of the other members."""

    why: str = ""

    @property
    def failure(self) -> str:
        return self.why


@dataclass
class FakeEngine:
    """Runs take `run_s`, then end with `summary`, or with what `error` has for the job's name.

    `others`: jobs that find the mark of another one. `hosted`: what is hosted now; a stage with a
    `/` must be there until its run has ended. `finished`: jobs whose marks were removed, in order;
    `dies`: the server is killed just then.
    """

    run_s: float = 60.0
    summary: Summary = field(default_factory=Ended)
    error: dict[str, Exception] = field(default_factory=dict)
    hosted: dict[str, float] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    ran: list[Ran] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    dies: bool = False
    running: int = 0
    running_max: int = 0

    async def run(
        self,
        plan: Plan,
        stages: Sequence[str],
        *,
        start: Start,
        progress: Progress,
        stop: asyncio.Event,
        principal: str | None = None,
    ) -> Summary:
        if plan.name in self.others and not start.fresh:
            raise HostlerError(Code.ALREADY_EXISTS, "another job is unfinished here")
        ran = Ran(plan, tuple(stages), start.token, principal, start.fresh)
        self.ran.append(ran)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            summary = await self._run(ran, progress, stop)
            if start.on_done is not None and not summary.failure and not summary.stopped:
                done = asyncio.ensure_future(start.on_done())
                stopper = asyncio.ensure_future(stop.wait())
                try:
                    await asyncio.wait((done, stopper), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    done.cancel()
                    stopper.cancel()
                if not done.done():
                    ran.ended = "stopped"
                    return Ended(stopped=True)
                await self.finish(plan, stop=stop)
            return summary
        except asyncio.CancelledError:
            ran.ended = "cancelled"
            raise
        except Exception:
            ran.ended = "raised"
            raise
        finally:
            self.running -= 1
            assert all(stage in self.hosted for stage in stages if "/" in stage)

    async def finish(self, plan: Plan, *, stop: asyncio.Event) -> bool:
        self.finished.append(plan.name)
        if self.dies:
            await asyncio.Event().wait()
        return True

    async def _run(self, ran: Ran, progress: Progress, stop: asyncio.Event) -> Summary:
        progress.objects_total = 4
        progress.listed = True
        try:
            async with asyncio.timeout(self.run_s):
                await stop.wait()
        except TimeoutError:
            if ran.plan.name in self.error:
                raise self.error[ran.plan.name] from None
            ran.ended = "done"
            progress.objects_done = 4
            return self.summary
        ran.ended = "stopped"
        return Ended(stopped=True)


@dataclass
class FakeRepository:
    """`models`: fingerprints by name. `started`: they are known."""

    models: dict[str, str] = field(default_factory=dict)
    started: bool = True
    pins: int = 0

    def ready(self) -> bool:
        return self.started

    async def acquire(self, name: str, version: int | None, context: Context) -> Any:
        assert self.started
        if name not in self.models:
            raise HostlerError(Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        self.pins += 1
        spec = SimpleNamespace(name=name, version=1, fingerprint=self.models[name])
        return SimpleNamespace(spec=spec, release=self._release)

    def _release(self) -> None:
        self.pins -= 1
