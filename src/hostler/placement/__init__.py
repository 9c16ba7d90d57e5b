"""Where a replica runs: in this process or in a worker process of its own.

And where such processes run: on a Ray cluster, which costs nothing until `connect_ray`.
"""

from hostler.placement.actors import Actors, Terms
from hostler.placement.clusters import connect_ray
from hostler.placement.config import Config
from hostler.placement.host import (
    available_bytes,
    limit_arenas,
    process_bytes,
    trim_memory,
    usable_cores,
)
from hostler.placement.local import LocalPlacement
from hostler.placement.posts import ClusterNode, posts
from hostler.placement.process import Config as ProcessConfig

__all__ = [
    "Actors",
    "ClusterNode",
    "Config",
    "LocalPlacement",
    "ProcessConfig",
    "Terms",
    "available_bytes",
    "connect_ray",
    "limit_arenas",
    "posts",
    "process_bytes",
    "trim_memory",
    "usable_cores",
]
