"""All endpoints of this server, as control wants them. Loop thread only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from hostler.core import Clock
from hostler.serving.config import Config
from hostler.serving.endpoints.endpoint import Endpoint
from hostler.serving.endpoints.plan import EndpointPlan, VariantPlan
from hostler.serving.endpoints.shadow import Shadow
from hostler.serving.endpoints.target_models import TargetModels
from hostler.serving.endpoints.variant import Variant, VariantStatus
from hostler.serving.hosting import Hosting

__all__ = ["Endpoints"]

# A request between two containers of a pipeline holds no pin, so its end is looked for.
_LOOK_S: Final = 0.05

_PARTS: Final = 8
"""In which idle target models leave for the sake of the disk."""


class Endpoints:
    """What `control` pushes down, and whoever asks looks up.

    The models themselves are hosted and unhosted with `Serving.host` and `unhost`, by whoever makes
    the plans; target models of multi-model containers come and go by themselves.
    """

    def __init__(self, hosting: Hosting, config: Config, clock: Clock) -> None:
        self._hosting = hosting
        self._config = config
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self._leaving: dict[asyncio.Task[None], Variant] = {}
        self._stopped: list[Variant] = []
        self._dismissing: asyncio.Task[None] | None = None

    # -- plans -----------------------------------------------------------------------------

    def apply(self, plan: EndpointPlan) -> None:
        """Have this endpoint as the plan says, from the next request on.

        Requests that have their variant finish on it, whether or not the plan has it still.
        """
        before = self._endpoints.get(plan.name)
        old = before.variants if before is not None else {}
        variants: dict[tuple[int, str], Variant] = {}
        for fleet in plan.fleets:
            for wanted in fleet.variants:
                key = (fleet.generation, wanted.name)
                variants[key] = self._variant(plan.name, key[0], wanted, old.get(key))
        shadows = self._shadows(plan, before.shadows if before is not None else ())
        after = Endpoint(plan, variants, shadows, before)
        self._endpoints[plan.name] = after
        if before is not None:
            kept = _all_variants(after)
            self._retire(v for v in _all_variants(before) if v not in kept)

    def remove(self, name: str) -> None:
        """Forget an endpoint; requests that have their variant finish on it. Idempotent."""
        endpoint = self._endpoints.pop(name, None)
        if endpoint is not None:
            self._retire(_all_variants(endpoint))

    def find(self, name: str) -> Endpoint | None:
        """The endpoint as it is now; ask again for each request."""
        return self._endpoints.get(name)

    def names(self) -> list[str]:
        """All endpoints, sorted."""
        return sorted(self._endpoints)

    def _variant(
        self, endpoint: str, generation: int, plan: VariantPlan, old: Variant | None
    ) -> Variant:
        if old is None:
            variant = Variant(endpoint, generation, plan, self._hosting, self._config, self._clock)
            for task, leaving in self._leaving.items():
                if (leaving.endpoint, leaving.generation, leaving.name) == (
                    endpoint,
                    generation,
                    plan.name,
                ):
                    for targets in variant.targets:
                        targets.after.append(task)
            return variant
        old.adopt(plan)
        return old

    def _shadows(self, plan: EndpointPlan, old: tuple[Shadow, ...]) -> tuple[Shadow, ...]:
        """They are of the newest fleet."""
        generation = max((fleet.generation for fleet in plan.fleets), default=0)
        known = {(s.variant.generation, s.variant.name): s for s in old}
        found = []
        for wanted in plan.shadows:
            shadow = known.get((generation, wanted.variant.name))
            if shadow is None:
                variant = self._variant(plan.name, generation, wanted.variant, None)
                shadow = Shadow(variant, wanted)
            else:
                shadow.variant.adopt(wanted.variant)
                shadow.plan = wanted
            found.append(shadow)
        return tuple(found)

    # -- variants that nobody chooses any more ---------------------------------------------

    def _retire(self, variants: Iterable[Variant]) -> None:
        for variant in variants:
            if variant.targets or variant.in_flight:
                task = asyncio.get_running_loop().create_task(self._close(variant))
                self._leaving[task] = variant
                task.add_done_callback(self._leaving.pop)

    async def _close(self, variant: Variant) -> None:
        end = self._clock.now() + self._config.drain_timeout_s
        while True:
            await asyncio.sleep(_LOOK_S)
            if not variant.in_flight or self._clock.now() >= end:
                break
        for targets in variant.targets:
            await targets.close()

    def _variants(self) -> list[Variant]:
        found = [v for e in self._endpoints.values() for v in _all_variants(e)]
        return [*found, *self._leaving.values()]

    # -- the end of the server -------------------------------------------------------------

    def busy(self) -> bool:
        """Whether a request is being served."""
        return any(variant.in_flight for variant in self._variants())

    async def stop(self) -> None:
        """End all work on target models; the models themselves are withdrawn with all others."""
        for task in self._leaving:
            task.cancel()
        if self._dismissing is not None:
            self._dismissing.cancel()
        self._stopped = self._variants()
        if self._leaving:
            await asyncio.wait(set(self._leaving))
        for variant in self._stopped:
            for targets in variant.targets:
                await targets.stop()

    def release_all(self) -> None:
        """Nothing is in memory any more: all archives may be removed from the disk."""
        for variant in self._stopped:
            for targets in variant.targets:
                targets.release_all()

    # -- what is known ---------------------------------------------------------------------

    def release_idle(self) -> None:
        """Let go of the archives of target models that are not in memory.

        Where there are none, a part of those that are idle leaves memory, those first that were
        asked longest ago, and their archives follow. For the disk cache to call as long as it is
        too full.
        """
        if self._release() or self._dismissing is not None:
            return
        idle = sorted(found for targets in self._targets() for found in targets.idle())
        names = {name for _, names in idle[: -(-len(idle) // _PARTS)] for name in names}
        ends = self._hosting.dismiss(names)
        if ends:
            self._dismissing = asyncio.get_running_loop().create_task(self._dismissed(ends))

    async def _dismissed(self, ends: list[asyncio.Task[None]]) -> None:
        try:
            await asyncio.wait(ends)
            self._release()
        finally:
            self._dismissing = None

    def _release(self) -> bool:
        return any([targets.release_idle() for targets in self._targets()])

    def _targets(self) -> Iterator[TargetModels]:
        for variant in self._variants():
            yield from variant.targets

    def rows(self) -> list[VariantStatus]:
        """Facts of all variants, by endpoint, generation and name, shadows after the others."""
        return [row for name in self.names() for row in self._endpoints[name].rows()]


def _all_variants(endpoint: Endpoint) -> set[Variant]:
    return {*endpoint.variants.values(), *(shadow.variant for shadow in endpoint.shadows)}
