"""What running transform jobs needs of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hostler.core import Context, ModelSpec
from hostler.jobs import Plan, Progress, Start, Summary

__all__ = ["Engine", "Live", "Repository", "Transforming"]


class Engine(Protocol):
    """What runs jobs: `jobs.Transforms`."""

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
        """Run one from wherever it is to its end.

        `stages`: models, each of which gets the answers of the one before. `start`: with the token
        of these models; outputs of others do not count as finished. `stop`: set it to have the job
        given up. Cancelled, it leaves what another run can go on with.
        Raises: HostlerError for what ends the whole job; ALREADY_EXISTS, before anything is done,
        where an unfinished job of other models or options has left its mark.
        """
        ...

    async def finish(self, plan: Plan, *, stop: asyncio.Event) -> bool:
        """Clear up after a job that is known to be done; False if it was stopped before."""
        ...


class Live(Protocol):
    """A model in memory: `serving.LiveModel`."""

    @property
    def spec(self) -> ModelSpec:
        """The completed package."""
        ...

    def release(self) -> None:
        """Give a pin back."""
        ...


class Repository(Protocol):
    """The server's own models: `serving.Serving`."""

    def ready(self) -> bool:
        """Whether the start is through, so that a model which is unknown is not there."""
        ...

    async def acquire(self, name: str, version: int | None, context: Context) -> Live:
        """A model, pinned, loaded first if need be. Raises: HostlerError."""
        ...


@dataclass(frozen=True, slots=True)
class Transforming:
    """`jobs_max`: jobs that run at the same time; others wait, their models not loaded."""

    engine: Engine
    repository: Repository
    jobs_max: int
