"""The object graph, from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from hostler.config import Settings, installer_variables
from hostler.core import CustomMetrics, Foreground, ModelSpec, Stats, SystemClock
from hostler.placement import (
    LocalPlacement,
    available_bytes,
    process_bytes,
    trim_memory,
    usable_cores,
)
from hostler.repository import Environments, Repository
from hostler.runtimes import RUNTIMES
from hostler.scheduler import Scheduler
from hostler.serving import Host, Serving

__all__ = ["ARENAS_MAX", "build_repository", "build_serving", "by_hand", "cores_of"]

ARENAS_MAX: Final = 2
"""malloc arenas: one for the loop and one for all other threads, so that freed models go back."""


def cores_of(settings: Settings) -> int:
    """Cores that models may compute on."""
    return settings.placement.compute_threads or usable_cores()


def build_serving(
    settings: Settings,
    repository: Repository,
    metrics: CustomMetrics | None = None,
    foreground: Foreground | None = None,
) -> Serving:
    """What serves the models of a repository.

    `metrics`: takes what models count themselves. `foreground`: tells jobs of clients.
    """
    clock = SystemClock()
    shared = foreground or Foreground(cores_of(settings))

    def new_scheduler(spec: ModelSpec, stats: Stats) -> Scheduler:
        return Scheduler(
            spec,
            stats,
            clock,
            settings.scheduler,
            retry_singly=RUNTIMES[spec.runtime].pure,
            foreground=shared,
        )

    return Serving(
        settings.serving,
        repository,
        LocalPlacement(settings.placement, settings.workers, clock, metrics),
        new_scheduler,
        clock,
        host=Host(process_bytes=process_bytes, available_bytes=available_bytes, trim=trim_memory),
    )


def build_repository(settings: Settings, paths: Sequence[Path]) -> Repository:
    """What finds models under these paths."""
    environments = Environments(settings.repository, SystemClock(), installer_variables())
    return Repository(paths, settings.repository, environments)


def by_hand(settings: Settings) -> Settings:
    """The same, but nothing is loaded unless it is asked for."""
    explicit = msgspec.structs.replace(settings.serving, control_mode="explicit", startup_models=())
    return msgspec.structs.replace(settings, serving=explicit)
