"""Which actors a cluster is asked for."""

from __future__ import annotations

import pytest

from hostler.core import HostlerError
from hostler.placement.posts import ClusterNode, Post, posts

HEAD = ClusterNode("head", "m0", 0)
SMALL = ClusterNode("small", "m1", 4)
LARGE = ClusterNode("large", "m2", 16)


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus", "expected"),
    [
        ([HEAD, SMALL, LARGE], 0, 0, [Post(4, "small"), Post(16, "large")]),
        ([HEAD, SMALL, LARGE], 0, 2, [Post(2, "small"), Post(2, "large")]),
        ([SMALL, LARGE], 3, 1.5, [Post(1.5)] * 3),
        ([SMALL, LARGE], 2, 0, [Post(4)] * 2),
        ([SMALL], 3, 0, [Post(1)] * 3),
        ([SMALL], 9, 0, [Post(1)] * 9),
    ],
)
def test_posts(nodes: list[ClusterNode], workers: int, cpus: float, expected: list[Post]) -> None:
    assert posts(nodes, workers, cpus) == expected


def test_a_cluster_without_cpus_is_refused() -> None:
    with pytest.raises(HostlerError, match="none of the cluster's 1 nodes has CPUs"):
        posts([HEAD], 0, 0)
