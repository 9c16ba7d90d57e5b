"""Ensembles and the models that they are made of: who depends on whom. Loop thread only."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from hostler.core import (
    Clock,
    Code,
    Context,
    EnsemblePlan,
    EnsembleStep,
    HostlerError,
    Inspection,
    Invoke,
    ModelSpec,
    Stats,
)
from hostler.repository import complete
from hostler.serving.calls import Acquire
from hostler.serving.config import Config
from hostler.serving.ensemble import EnsembleScheduler
from hostler.serving.ensemble_layout import Layout, arrange
from hostler.serving.lifecycle import State
from hostler.serving.live import Changes, LiveModel
from hostler.serving.registry import Model, ModelVersion

__all__ = ["Ensembles", "members_of"]

log = logging.getLogger("hostler.serving")


class Ensembles:
    """Brings ensembles up, and keeps them in step with their models.

    `models`: all there are, by name. `acquire`: gives a pinned model; `invoke`: asks one.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        acquire: Acquire,
        invoke: Invoke,
        config: Config,
        clock: Clock,
    ) -> None:
        self._models = models
        self._acquire = acquire
        self._invoke = invoke
        self._requests_max = config.ensemble_requests_max
        self._clock = clock

    # -- one ensemble ----------------------------------------------------------------------

    async def bring_up(self, spec: ModelSpec, stats: Stats, changes: Changes) -> LiveModel:
        """Check it against its models, and make it ready.

        A model that was never in memory is loaded for that, one after another, and let go again.
        Raises: HostlerError naming the ensemble, the step and the model.
        """
        plan = _plan_of(spec)
        completed = complete(spec, Inspection())
        circle = self._circle(spec)
        if circle is not None:
            raise circle
        parts = []
        for index in range(len(plan.steps)):
            try:
                parts.append(await self._part(spec, index))
            except HostlerError as error:
                raise HostlerError(
                    error.code,
                    f"model '{spec.label}': {plan.place(index)}: {error.message}",
                    details=error.details,
                    retry_after_s=error.retry_after_s,
                ) from error
        layout = arrange(completed, parts)
        scheduler = EnsembleScheduler(layout, stats, self._invoke, self._clock, self._requests_max)
        return LiveModel(layout.spec, stats, scheduler, changes, self._clock)

    async def _part(self, spec: ModelSpec, index: int) -> ModelSpec:
        step = _plan_of(spec).steps[index]
        completed = self._version(spec, step).completed_spec()
        if completed is not None:
            return completed
        context = Context(call_path=(spec.name,))
        live = await self._acquire(step.model, step.version, context)
        try:
            return live.spec
        finally:
            live.release()

    def _version(self, spec: ModelSpec, step: EnsembleStep) -> ModelVersion:
        """Raises: NOT_FOUND, UNAVAILABLE."""
        name = step.model
        model = self._models.get(name)
        if model is None or (model.group and model.group != self._group(spec.name)):
            raise HostlerError(Code.NOT_FOUND, f"there is no model '{name}' in the repository")
        return model.find(step.version)

    def _group(self, name: str) -> str:
        model = self._models.get(name)
        return "" if model is None else model.group

    def _circle(self, spec: ModelSpec) -> HostlerError | None:
        """The error of an ensemble that contains itself through others.

        Its load would wait for theirs, and theirs for its own.
        """
        plan = _plan_of(spec)
        for index, step in enumerate(plan.steps):
            path = self._path(step.model, spec.name, (spec.name,))
            if path:
                return HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"model '{spec.label}': {plan.place(index)}: the ensemble contains itself: "
                    f"{' -> '.join(path)}",
                )
        return None

    def _path(self, name: str, wanted: str, path: tuple[str, ...]) -> tuple[str, ...]:
        """The way from `path` through `name` to `wanted`, or () if it is not within."""
        if name == wanted:
            return (*path, name)
        if name in path:
            return ()
        for member in self.members(name):
            found = self._path(member, wanted, (*path, name))
            if found:
                return found
        return ()

    def problem(self, spec: ModelSpec, path: tuple[str, ...] = ()) -> HostlerError | None:
        """Why an ensemble could not answer now, because of its models; None for others."""
        if spec.ensemble is None or spec.name in path:
            return None
        for index, step in enumerate(spec.ensemble.steps):
            try:
                version = self._version(spec, step)
                reason = version.unhealthy_because()
                inner = self.problem(version.spec, (*path, spec.name))
            except HostlerError as error:
                reason, inner = error.message, None
            if inner is not None:
                reason = inner.message
            if reason:
                place = spec.ensemble.place(index)
                text = f"model '{spec.label}': {place}: {reason}"
                return HostlerError(Code.UNAVAILABLE, text)
        return None

    # -- who depends on whom ---------------------------------------------------------------

    def members(self, name: str) -> list[str]:
        """The models that an ensemble is made of, over all its versions; [] for others."""
        model = self._models.get(name)
        return [] if model is None else members_of([v.spec for v in model.versions.values()])

    def used(self, name: str) -> bool:
        """Whether an ensemble that is served has this model in it."""
        return any(v.state is not State.WITHDRAWN for v in self._dependents(name))

    def unmet(self, spec: ModelSpec) -> bool:
        """Whether bringing it up now would load another model first."""
        if self._circle(spec) is not None:
            return False
        for step in _plan_of(spec).steps:
            try:
                version = self._version(spec, step)
            except HostlerError:
                continue  # which is told at once
            if version.completed_spec() is None and version.available and version.live is None:
                return True
        return False

    def _dependents(self, name: str) -> Iterator[ModelVersion]:
        for model in self._models.values():
            for version in model.versions.values():
                plan = version.spec.ensemble
                if plan is not None and any(step.model == name for step in plan.steps):
                    yield version

    # -- changes of their models -----------------------------------------------------------

    def appeared(self, name: str) -> None:
        """A model is known now: ensembles that failed may be tried again."""
        for ensemble in self._dependents(name):
            if ensemble.state is State.FAILED:
                ensemble.admit()

    def arrived(self, version: ModelVersion) -> None:
        """A model is in memory: ensembles that it is part of are checked again."""
        for ensemble in list(self._dependents(version.spec.name)):
            try:
                if ensemble.live is not None:
                    self._rearrange(ensemble, ensemble.live)
                elif ensemble.state is State.FAILED:
                    parts = self._known_parts(ensemble.spec)
                    if parts is not None:
                        arrange(complete(ensemble.spec, Inspection()), parts)
                    ensemble.admit()
            except HostlerError as error:
                ensemble.error = error

    def _known_parts(self, spec: ModelSpec) -> list[ModelSpec] | None:
        """The completed models of all steps, or None where some are not known (yet).

        Raises: NOT_FOUND, UNAVAILABLE.
        """
        versions = [self._version(spec, step) for step in _plan_of(spec).steps]
        parts = [version.completed_spec() for version in versions]
        known = [part for part in parts if part is not None]
        return known if len(known) == len(parts) else None

    def _rearrange(self, ensemble: ModelVersion, live: LiveModel) -> None:
        scheduler = live.scheduler
        assert isinstance(scheduler, EnsembleScheduler)
        try:
            parts = self._known_parts(live.spec)
        except HostlerError:
            return  # a part is missing, which each request is told
        if parts is None or (live.error is None and _same(parts, scheduler.layout)):
            return
        try:
            layout = arrange(live.spec, parts)
        except HostlerError as error:
            event = {"model": live.name, "version": live.version, "error": error.message}
            log.warning("model.unhealthy", extra={"event": event})
            live.error = HostlerError(Code.UNAVAILABLE, error.message)
            scheduler.unhealthy(live.error)
            return
        live.error = None
        scheduler.unhealthy(None)
        scheduler.layout = layout
        live.spec = ensemble.completed = layout.spec
        assert layout.spec.signature is not None
        live.signature = layout.spec.signature
        self.arrived(ensemble)


def _plan_of(spec: ModelSpec) -> EnsemblePlan:
    assert spec.ensemble is not None, f"{spec.label} is no ensemble"
    return spec.ensemble


def members_of(specs: Iterable[ModelSpec]) -> list[str]:
    """The models that ensembles among these are made of, each once."""
    plans = [spec.ensemble for spec in specs if spec.ensemble is not None]
    return list(dict.fromkeys(step.model for plan in plans for step in plan.steps))


def _same(parts: list[ModelSpec], layout: Layout) -> bool:
    """Whether these are the very packages that the layout was made of."""
    return [(p.label, p.fingerprint, p.decoupled) for p in parts] == [
        (p.label, p.fingerprint, p.decoupled) for p in layout.parts
    ]
