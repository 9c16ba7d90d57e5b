"""Which actors a cluster is asked for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hostler.core import Code, HostlerError

__all__ = ["ClusterNode", "Post", "posts"]


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node that lives. `host`: its machine's name; a machine may have several nodes."""

    id: str
    host: str
    cpus: float


@dataclass(frozen=True, slots=True)
class Post:
    """An actor to be. `cpus`: its own. `node`: where it best is, "" for anywhere."""

    cpus: float
    node: str = ""


def posts(nodes: Sequence[ClusterNode], workers: int, worker_cpus: float) -> list[Post]:
    """One for each actor that is asked for.

    `workers`: 0 for one a node. `worker_cpus`: 0 for all of a node's, in equal shares.
    Raises: RESOURCE_EXHAUSTED if no node has a CPU.
    """
    able = [node for node in nodes if node.cpus > 0]
    if not able:
        raise HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"none of the cluster's {len(nodes)} nodes has CPUs for actors; start one with "
            "`ray start --num-cpus N`",
        )
    if not workers:
        return [Post(worker_cpus or node.cpus, node.id) for node in able]
    each_node = -(-workers // len(able))
    share = max(1.0, min(node.cpus for node in able) // each_node)
    return [Post(worker_cpus or share)] * workers
