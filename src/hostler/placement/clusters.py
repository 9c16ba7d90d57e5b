"""The door to Ray: who does not go through it does not pay for it, a second and 60 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostler.core import Code, HostlerError, Report

if TYPE_CHECKING:
    from hostler.placement.ray import RayCluster

__all__ = ["connect_ray"]


def connect_ray(address: str, *, debug: bool, report: Report) -> RayCluster:
    """Join a cluster, see `RayCluster.connect`. Raises: HostlerError that says what to mend."""
    try:
        from hostler.placement.ray import RayCluster  # noqa: PLC0415 - optional, and takes a second
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise HostlerError(
            Code.UNIMPLEMENTED,
            "--on ray needs Ray, which is not installed here; pip install 'hostler[ray]', here "
            "and on all nodes of the cluster",
        ) from None
    return RayCluster.connect(address, debug=debug, report=report)
