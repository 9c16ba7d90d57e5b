"""What is known of each model, loaded or not; everything here is plain state."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from hostler.core import Code, HostlerError, ModelSpec, Stats
from hostler.serving.lifecycle import AVAILABLE, INDEX_STATES, Event, State, step
from hostler.serving.live import LiveModel

__all__ = ["MemoryReport", "Model", "ModelStatus", "ModelVersion", "is_hosted"]


def is_hosted(name: str) -> bool:
    """Whether a name stands for a package that endpoints host: those alone hold a `/`."""
    return "/" in name


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One row of the index. `version`: None for a package that cannot be read.

    `state`: READY (loaded, or loaded when asked for), UNAVAILABLE, LOADING or UNLOADING.
    `footprint_bytes`: 0 when it is not in memory. `busy`: see `LiveModel.busy`. `last_error`: of
    its last failed load or request. `hosted`: by an endpoint; it is in no repository.
    """

    name: str
    version: int | None
    state: str
    reason: str
    loaded: bool
    runtime: str
    footprint_bytes: int
    busy: int
    stats: Stats
    last_error: str
    hosted: bool = False


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Memory of all models. `used_bytes` includes unexplained growth of the server process.

    `loads`, `evictions`: since start. `loaded`: model versions in memory.
    """

    budget_bytes: int
    used_bytes: int
    loads: int
    evictions: int
    loaded: int


class ModelVersion:
    """One version of one model, from its discovery to its removal.

    `spec`: as the repository gives it. `admitted`: part of what the model serves; a version that
    is to replace others is not until it is loaded. `barred`: on its way out, so nobody new may
    have it. `error`: of the last load that failed, until one succeeds. `retry_at`: `Clock.now()`
    before which no request may try again. `known`: fingerprint and measured bytes of the last load.
    `completed`: the spec of the last load, joined with what the model said of itself.
    `loading`: the one load in flight; `closing`: the one eviction in flight; `waiters`: requests
    that wait for a load. `for_job`: the load in flight is one that jobs alone have asked for.
    `load_s`: what its last load took. `idle_ttl_s`: of its own, 0 for `Config.idle_ttl_s`.
    """

    __slots__ = (
        "admitted",
        "barred",
        "closing",
        "completed",
        "error",
        "for_job",
        "idle_ttl_s",
        "key",
        "known",
        "live",
        "load_s",
        "loading",
        "on_demand",
        "reason",
        "retry_at",
        "spec",
        "state",
        "stats",
        "waiters",
    )

    def __init__(self, spec: ModelSpec, state: State, *, admitted: bool = True) -> None:
        assert state in (State.REGISTERED, State.WITHDRAWN)
        self.spec = spec
        self.state: State = state
        self.admitted = admitted
        self.barred = False
        self.reason = "" if state is State.REGISTERED else "not loaded"
        self.error: HostlerError | None = None
        self.retry_at = 0.0
        self.live: LiveModel | None = None
        self.key: Hashable = None
        self.known: tuple[str, int] | None = None
        self.completed: ModelSpec | None = None
        self.loading: asyncio.Task[HostlerError | None] | None = None
        self.closing: asyncio.Task[None] | None = None
        self.on_demand = False
        self.for_job = False
        self.load_s = 0.0
        self.idle_ttl_s = 0.0
        self.waiters: dict[asyncio.Future[LiveModel], None] = {}
        self.stats = Stats()

    def take(self, event: Event) -> None:
        """Go through the transition table. Raises: IllegalTransition."""
        self.state = step(self.state, event)

    def admit(self) -> None:
        """Let requests have it again; a failure is forgotten."""
        self.barred = False
        self.reason = ""
        self.retry_at = 0.0
        if self.state in (State.WITHDRAWN, State.FAILED):
            self.take(Event.ADMIT)

    def known_bytes(self, spec: ModelSpec) -> int | None:
        """What this very package was last measured to hold, or None."""
        known = self.known
        return known[1] if known is not None and known[0] == spec.fingerprint else None

    def completed_spec(self) -> ModelSpec | None:
        """What this very package is, in memory or not; None if it was never loaded."""
        completed = self.completed
        same = completed is not None and completed.fingerprint == self.spec.fingerprint
        return completed if same else None

    @property
    def available(self) -> bool:
        """Whether a request for it can be served, perhaps after a load."""
        return self.state in AVAILABLE and not self.barred

    @property
    def healthy(self) -> bool:
        """Whether it is ready to the outside: a request now should succeed."""
        if not self.available or (self.state is State.LOADING and not self.on_demand):
            return False
        return self.live is None or self.live.error is None

    def unhealthy_because(self) -> str:
        """Why a request now should not succeed, or "" if it should."""
        if self.healthy:
            return ""
        error = self.error if self.live is None else self.live.error
        return error.message if error is not None else self.reason or f"it is {self.state.value}"

    def status(self, footprint_bytes: int) -> ModelStatus:
        """Its row in the index."""
        state, reason = INDEX_STATES[self.state], self.reason
        sick = self.live.error if self.live is not None else None
        if sick is not None:
            state, reason = "UNAVAILABLE", sick.message
        elif self.state is State.FAILED and self.error is not None:
            reason = self.error.message
        last_error = sick or self.error
        return ModelStatus(
            name=self.spec.name,
            version=self.spec.version,
            state=state,
            reason=reason,
            loaded=self.live is not None,
            runtime=self.spec.runtime,
            footprint_bytes=footprint_bytes if self.live is not None else 0,
            busy=self.live.busy if self.live is not None else 0,
            stats=self.stats,
            last_error=last_error.message if last_error is not None else self.stats.last_error,
            hosted=is_hosted(self.spec.name),
        )


class Model:
    """All versions of one model. `error`: why its package cannot be read, or None.

    `told`: somebody asked for this very model to be loaded, not only for an ensemble of it.
    `group`: of a hosted model, the name under which it and the models beside it are asked from
    outside; "" for one of the repository.
    """

    __slots__ = ("error", "group", "name", "told", "versions")

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: HostlerError | None = None
        self.told = False
        self.group = ""
        self.versions: dict[int, ModelVersion] = {}

    @property
    def replicas(self) -> int:
        """Copies of it that answer at the same time, 0 for an ensemble, which has none."""
        version = self.default()
        if version is None:
            return 1
        return 0 if version.spec.ensemble is not None else version.spec.instance_count

    def default(self) -> ModelVersion | None:
        """The version of a request that names none: the highest that can be served.

        Where none can, the highest that failed, for its error or another attempt; else None.
        """
        admitted = [v for v in self.versions.values() if v.admitted and not v.barred]
        ready = [v for v in admitted if v.available]
        failed = [v for v in admitted if v.state is State.FAILED]
        return max(ready or failed, key=lambda v: v.spec.version, default=None)

    def find(self, version: int | None) -> ModelVersion:
        """The version to serve a request. Raises: NOT_FOUND, UNAVAILABLE."""
        if version is None:
            found = self.default()
            if found is not None:
                return found
            raise self._unavailable()
        found = self.versions.get(version)
        if found is None:
            if self.error is not None and not self.versions:
                raise self._unavailable()
            raise HostlerError(
                Code.NOT_FOUND,
                f"Request for unknown model: '{self.name}' version {version} is not found; its "
                f"versions are {', '.join(map(str, sorted(self.versions))) or 'none'}. A package "
                "serves its highest version unless its config.pbtxt sets version_policy",
            )
        if not found.available and found.state is not State.FAILED:
            raise self._unavailable(found)
        return found

    def status(self) -> ModelStatus:
        """The index row of a package that cannot be read."""
        message = self.error.message if self.error is not None else "no version is served"
        return ModelStatus(
            name=self.name,
            version=None,
            state="UNAVAILABLE",
            reason=message,
            loaded=False,
            runtime="",
            footprint_bytes=0,
            busy=0,
            stats=Stats(),
            last_error=message,
            hosted=is_hosted(self.name),
        )

    def _unavailable(self, version: ModelVersion | None = None) -> HostlerError:
        if version is None and self.error is not None:
            return HostlerError(
                Code.UNAVAILABLE, f"model '{self.name}' cannot be served: {self.error.message}"
            )
        label = self.name if version is None else version.spec.label
        reasons = [v.reason for v in self.versions.values() if v.reason]
        reason = (version.reason if version is not None else "") or next(iter(reasons), "unloaded")
        hint = "" if self.group else f"; load it with POST /v2/repository/models/{self.name}/load"
        return HostlerError(Code.UNAVAILABLE, f"model '{label}' is not available: {reason}{hint}")
