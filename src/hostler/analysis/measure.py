"""Measures a model under one choice of settings after another. Loop thread only."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from hostler.analysis.ask import Ask
from hostler.analysis.choices import AS_IT_IS, Choice, Facts, Point
from hostler.analysis.inputs import again, requests_of
from hostler.analysis.plan import Plan
from hostler.analysis.report import Profile, settings_text
from hostler.analysis.results import Result
from hostler.analysis.variants import config_of, facts_of
from hostler.core import Clock, Code, Context, HostlerError, InferRequest, ModelSpec, Report
from hostler.repository import Override
from hostler.serving import LiveModel, Serving

__all__ = ["Analyser", "Machine"]

_WINDOWS: Final = 5
"""Parts of a measurement whose rates are compared: how they differ is its noise."""

_WARM_SHARE: Final = 0.25
_WARM_MIN_S: Final = 0.15
"""Before a measurement: batch sizes are learnt, buffers grow."""

_SETTLE_MAX_S: Final = 6.5
_SETTLE_SHARE: Final = 0.1
_LONG_S: Final = 0.001
"""Where the server arranges cores by itself it tries for some seconds, with runs of this length."""

_SAMPLES_MIN: Final = 20
_STRETCH_MAX: Final = 4.0
"""A slow model is measured for longer, up to so many times, until it has answered that often."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the measurements run on. `process_bytes`: memory of this process now."""

    cores: int
    process_bytes: Callable[[], int]


class Analyser:
    """One profile of one model of a `Serving` in control mode explicit that holds nothing else."""

    def __init__(self, serving: Serving, clock: Clock, machine: Machine, report: Report) -> None:
        self._serving = serving
        self._clock = clock
        self._machine = machine
        self._report = report
        self._began = clock.now()
        self._choice: Choice | None = None
        self._base_bytes = 0
        self._settled = False
        self._requests: Sequence[InferRequest] = ()

    async def profile(self, ask: Ask) -> Profile:
        """Measure what `Plan` asks for. The model is not loaded any more then.

        Raises: HostlerError if the package as it is cannot be loaded or asked.
        """
        try:
            await self._load(ask, AS_IT_IS, None)
            spec, facts = await self._meet(ask)
            plan = Plan(facts, ask)
            points = plan.points()
            point = next(points)
            while True:
                point = points.send(await self._result(ask, facts, spec, point))
        except StopIteration:
            pass
        finally:
            await self._serving.unload(ask.model)
        first = plan.results[0]
        if first.error:
            raise HostlerError(Code.MODEL_ERROR, first.error)
        took_s = self._clock.now() - self._began
        return Profile(ask, facts, spec, plan.results, plan.left_out, plan.best(), took_s)

    async def _meet(self, ask: Ask) -> tuple[ModelSpec, Facts]:
        """See the model as it is, and ask it once."""
        live = await self._serving.acquire(ask.model, ask.version, Context())
        try:
            self._requests = requests_of(ask, live.signature)
            facts = facts_of(live.spec, ask, self._requests[0].rows, self._machine.cores)
            await self._try(ask, live)
        finally:
            live.release()
        return live.spec, facts

    async def _try(self, ask: Ask, live: LiveModel) -> None:
        try:
            await _ask_once(live, self._requests[0])
        except HostlerError as error:
            hint = ""
            if ask.data is None and error.code in (Code.MODEL_ERROR, Code.INVALID_ARGUMENT):
                hint = "; if made-up inputs do not suit the model, give real ones with --data"
            raise HostlerError(error.code, error.message + hint) from error

    async def _load(self, ask: Ask, choice: Choice, spec: ModelSpec | None) -> None:
        """Have the model in memory under this choice; `spec`: as the package has it."""
        self._choice = None
        await self._serving.unload(ask.model)  # first, so that no two of them are in memory
        self._base_bytes = self._machine.process_bytes()
        override = None
        if spec is not None:
            override = Override(config=config_of(choice, spec))
        await self._serving.load(ask.model, override)
        self._choice = choice if spec is not None else None

    async def _result(self, ask: Ask, facts: Facts, spec: ModelSpec, point: Point) -> Result:
        elapsed_s = self._clock.now() - self._began
        text = settings_text(facts, point.choice)
        self._report(f"{elapsed_s:3.0f} s of {ask.budget_s:g}: {text}, {point.concurrency} callers")
        try:
            if self._choice != point.choice:
                await self._load(ask, point.choice, spec)
            live = await self._serving.acquire(ask.model, spec.version, Context())
        except HostlerError as error:
            return self._failed(point, error)
        try:
            await self._settle(ask, facts, live, point)
            load = _Load(live, self._requests, self._clock)
            await load.run(point.concurrency, point.seconds)
        except HostlerError as error:
            return self._failed(point, error)
        finally:
            live.release()
        return Result(
            point.choice,
            point.concurrency,
            latencies_s=array("d", sorted(load.latencies_s)),
            rates=load.rates,
            memory_bytes=self._memory_bytes(ask.model, live),
            elapsed_s=self._clock.now() - self._began,
        )

    def _failed(self, point: Point, error: HostlerError) -> Result:
        elapsed_s = self._clock.now() - self._began
        return Result(point.choice, point.concurrency, elapsed_s=elapsed_s, error=error.message)

    async def _settle(self, ask: Ask, facts: Facts, live: LiveModel, point: Point) -> None:
        """Once, give the server the time that it takes to arrange cores for many callers."""
        arranges = facts.runtime == "onnx" and facts.threads is None and facts.instances == 1
        alone = point.concurrency == 1 or facts.cores == 1
        if self._settled or alone or not arranges or point.choice != AS_IT_IS:
            return
        self._settled = True
        started = self._clock.now()
        await _ask_once(live, self._requests[0])
        if self._clock.now() - started > _LONG_S:
            load = _Load(live, self._requests, self._clock)
            await load.run(point.concurrency, min(_SETTLE_MAX_S, ask.budget_s * _SETTLE_SHARE))

    def _memory_bytes(self, model: str, live: LiveModel) -> int:
        """What the model holds now: its workers, and growth of this process since the load."""
        loaded = live.loaded
        outside = loaded.footprint_bytes if loaded is not None else 0
        if outside:
            return outside
        growth = self._machine.process_bytes() - self._base_bytes
        known = [row.footprint_bytes for row in self._serving.index() if row.name == model]
        return max(growth, *known)


class _Load:
    """Callers who ask again as soon as they are answered.

    `latencies_s`, `rates`: of what was answered within the windows.
    """

    def __init__(self, live: LiveModel, requests: Sequence[InferRequest], clock: Clock) -> None:
        self.latencies_s = array("d")  # a quarter of a list's memory, which is being measured
        self.rates: list[float] = []
        self._live = live
        self._now = clock.now
        self._requests = cycle(requests)
        self._rows = 0
        self._measuring = False
        self._ended = False

    async def run(self, callers: int, seconds: float) -> None:
        """Warm up, then measure for this long, or longer while there are few answers.

        Raises: the first HostlerError that a caller met.
        """
        tasks = [asyncio.ensure_future(self._call()) for _ in range(callers)]
        try:
            await self._pass(max(_WARM_MIN_S, seconds * _WARM_SHARE), tasks)
            self._measuring = True
            since = self._now()
            while True:
                started, self._rows = self._now(), 0
                await self._pass(seconds / _WINDOWS, tasks)
                now = self._now()
                self.rates.append(self._rows / (now - started))
                count, late = len(self.latencies_s), now - since > seconds * _STRETCH_MAX
                if len(self.rates) >= _WINDOWS and (count >= _SAMPLES_MIN or (count and late)):
                    break
        finally:
            self._ended = True
            self._measuring = False
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            raise errors[0]

    async def _pass(self, seconds: float, tasks: Sequence[asyncio.Future[None]]) -> None:
        """Let time pass; a caller that ends early has met an error."""
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        failed = next((task for task in tasks if task.done() and task.exception()), None)
        if failed is not None:
            failed.result()

    async def _call(self) -> None:
        live, now, requests = self._live, self._now, self._requests
        while not self._ended:
            request = next(requests)
            started = now()
            await _ask_once(live, request)
            if self._measuring:
                self.latencies_s.append(now() - started)
                self._rows += request.rows


async def _ask_once(live: LiveModel, request: InferRequest) -> None:
    """One answer, or all of a model that may give several."""
    if not live.spec.decoupled:
        await live.infer(again(request))
        return
    stream = live.stream(again(request))
    try:
        async for _ in stream:
            pass
    finally:
        stream.close()
