"""Where a replica runs: in this process or in a worker process of its own."""

from hostler.placement.config import Config
from hostler.placement.host import (
    available_bytes,
    limit_arenas,
    process_bytes,
    trim_memory,
    usable_cores,
)
from hostler.placement.local import LocalPlacement
from hostler.placement.process import Config as ProcessConfig

__all__ = [
    "Config",
    "LocalPlacement",
    "ProcessConfig",
    "available_bytes",
    "limit_arenas",
    "process_bytes",
    "trim_memory",
    "usable_cores",
]
