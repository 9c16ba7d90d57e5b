"""Scaling policies: how many instances a variant should have by its load.

It only edits desired state: endpoints' records, as UpdateEndpointWeightsAndCapacities does.
"""

from hostler.control.autoscale.loop import Autoscaler
from hostler.control.autoscale.policy import check_policy

__all__ = ["Autoscaler", "check_policy"]
