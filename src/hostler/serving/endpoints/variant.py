"""One variant of a fleet: its models, its limits, and how it does. Loop thread only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hostler.core import Clock, Code, Context, HostlerError
from hostler.serving.config import Config
from hostler.serving.endpoints.counters import Counters, Window
from hostler.serving.endpoints.plan import VariantPlan
from hostler.serving.endpoints.target_models import TargetModels
from hostler.serving.endpoints.targets import TargetStatus
from hostler.serving.hosting import Hosting
from hostler.serving.live import LiveModel

__all__ = ["Variant", "VariantStatus"]

Key = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class VariantStatus:
    """One row of facts about a variant, for metrics and status pages.

    `generation`: of its fleet; while an endpoint is updated there may be two of one name. `share`:
    of the endpoint's requests that name no variant, 0 to 1. `shadow`: it answers copies. `refused`:
    at `concurrency_max`, and in no other count. `total`: since its fleet began. `targets`: of its
    multi-model containers, in their order.
    """

    endpoint: str
    variant: str
    generation: int
    share: float
    shadow: bool
    in_flight: int
    refused: int
    total: Window
    targets: tuple[TargetStatus, ...]


class Variant:
    """A variant of one fleet. Counters go on while generation and name stay.

    A request is `begin()`, for each container `live(...)` or `await acquire(...)`, and `end(...)`.
    `in_flight`: requests between the two. `refused`: see `VariantStatus`.
    """

    __slots__ = (
        "_concurrency_max",
        "_counters",
        "_hosting",
        "_keys",
        "_live",
        "_now",
        "_open_to_targets",
        "_targets",
        "endpoint",
        "generation",
        "in_flight",
        "name",
        "plan",
        "refused",
    )

    def __init__(
        self,
        endpoint: str,
        generation: int,
        plan: VariantPlan,
        hosting: Hosting,
        config: Config,
        clock: Clock,
    ) -> None:
        self.endpoint = endpoint
        self.name = plan.name
        self.generation = generation
        self.in_flight = 0
        self.refused = 0
        self._hosting = hosting
        self._live: Callable[[Key], LiveModel | None] = hosting.live.get
        self._now = clock.now
        self._counters = Counters()
        self._targets: dict[int, TargetModels] = {}
        for index, stage in enumerate(plan.stages):
            if stage.archives is not None:
                prefix = f"endpoint/{endpoint}/{generation}/{plan.name}/{index}"
                found = TargetModels(prefix, stage.archives, hosting, config, clock)
                self._targets[index] = found
        self.adopt(plan)

    def adopt(self, plan: VariantPlan) -> None:
        """Follow a plan that is another in weights, limits or the objects that it holds."""
        self.plan = plan
        self._concurrency_max: float = plan.concurrency_max or math.inf
        self._keys: list[Key | None] = [(s.model, None) if s.model else None for s in plan.stages]
        for index, targets in self._targets.items():
            archives = plan.stages[index].archives
            if archives is not None:
                targets.archives = archives
        self._open_to_targets = bool(self._targets)

    @property
    def targets(self) -> Sequence[TargetModels]:
        """Of its multi-model containers."""
        return tuple(self._targets.values())

    # -- the path of a request -------------------------------------------------------------

    def live(self, stage: int, target_model: str = "") -> LiveModel | None:
        """The model of a container if it is in memory right now; pin it before the next await.

        `target_model`: for multi-model containers; other containers of the same variant need none.
        """
        if target_model and not self._open_to_targets:
            return None
        key = self._keys[stage]
        if key is not None:
            return self._live(key)
        return self._targets[stage].live(target_model)

    async def acquire(self, stage: int, target_model: str, context: Context) -> LiveModel:
        """The model, pinned, fetched and loaded first if need be; give it back with `release()`.

        Raises: INVALID_ARGUMENT for a target model where there can be none, or none where there
        must be one; NOT_FOUND; UNAVAILABLE (with details `{"loading": True}` where a target model
        will be there later); DEADLINE_EXCEEDED; CANCELLED; RESOURCE_EXHAUSTED; QUEUE_FULL.
        """
        if target_model and not self._open_to_targets:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"variant '{self.name}' of endpoint '{self.endpoint}' takes no target model: none "
                "of its containers has Mode MultiModel",
            )
        key = self._keys[stage]
        if key is not None:
            return await self._hosting.acquire(key[0], context, ongoing=stage > 0)
        if not target_model:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"variant '{self.name}' of endpoint '{self.endpoint}' has a multi-model container: "
                "name the target model, an archive under its prefix",
            )
        return await self._targets[stage].acquire(target_model, context, ongoing=stage > 0)

    def begin(self) -> None:
        """Count one request in; it must `end`. Raises: QUEUE_FULL at `concurrency_max`."""
        in_flight = self.in_flight
        if in_flight >= self._concurrency_max:
            self.refused += 1
            raise HostlerError(
                Code.QUEUE_FULL,
                f"variant '{self.name}' of endpoint '{self.endpoint}' works on {in_flight} "
                "requests, its MaxConcurrency; try again later",
                details={"concurrency_max": self.plan.concurrency_max},
                retry_after_s=1.0,
            )
        self.in_flight = in_flight + 1

    def end(self, seconds: float, error: HostlerError | None) -> None:
        """Count it out, after `seconds`; `error`: what its caller gets instead of an answer."""
        self.in_flight -= 1
        self._counters.count(self._now(), seconds, error)

    # -- how it went -----------------------------------------------------------------------

    def window(self, seconds: float) -> Window:
        """The requests that ended in the last `seconds`, at most 15 minutes."""
        return self._counters.window(self._now(), seconds)

    def status(self, share: float, *, shadow: bool) -> VariantStatus:
        """Its row; `share`, `shadow`: as the endpoint has it."""
        return VariantStatus(
            endpoint=self.endpoint,
            variant=self.name,
            generation=self.generation,
            share=share,
            shadow=shadow,
            in_flight=self.in_flight,
            refused=self.refused,
            total=self._counters.total(),
            targets=tuple(targets.status() for targets in self._targets.values()),
        )
