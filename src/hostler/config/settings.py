"""The tree of settings: one section a room, and one for placement's worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import msgspec

from hostler.config.describe import Setting, settings_of
from hostler.config.layers import from_environment, from_file, from_flags, variable_value
from hostler.config.resolve import Resolved, build
from hostler.control import Config as ControlConfig
from hostler.gateway import Config as GatewayConfig
from hostler.jobs import Config as JobsConfig
from hostler.placement import Config as PlacementConfig
from hostler.placement import ProcessConfig as WorkersConfig
from hostler.repository import Config as RepositoryConfig
from hostler.scheduler import Config as SchedulerConfig
from hostler.serving import Config as ServingConfig
from hostler.storage import Config as StorageConfig
from hostler.telemetry import Config as TelemetryConfig

__all__ = ["Settings", "known_settings", "resolve"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; a new room is a line here."""

    gateway: GatewayConfig = GatewayConfig()
    serving: ServingConfig = ServingConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    placement: PlacementConfig = PlacementConfig()
    workers: WorkersConfig = WorkersConfig()
    repository: RepositoryConfig = RepositoryConfig()
    storage: StorageConfig = StorageConfig()
    control: ControlConfig = ControlConfig()
    jobs: JobsConfig = JobsConfig()
    telemetry: TelemetryConfig = TelemetryConfig()


@cache
def known_settings() -> Mapping[str, Setting]:
    """Every setting by its name `room.field`."""
    return settings_of(Settings)


def resolve(
    *,
    file: Path | None = None,
    flags: Iterable[tuple[str, str, str]] = (),
    variables: Mapping[str, str] | None = None,
) -> Resolved[Settings]:
    """One YAML file < environment < flags.

    `file`: the YAML file; else the one that HOSTLER_CONFIG names, if any. `flags`: `(setting,
    text, flag as typed)` each. `variables`: instead of the process's environment, for tests.
    Raises: HostlerError in one line naming setting, value, what is allowed and where it stands.
    """
    known = known_settings()
    if file is None and variables is None:
        named = variable_value("HOSTLER_CONFIG")
        file = Path(named) if named else None
    given = from_file(file, known) if file is not None else []
    given += from_environment(known, variables)
    given += from_flags(flags, known)
    return build(Settings, known, given)
