"""Replicas in worker processes: started, fed through shared memory, watched and replaced."""

from hostler.placement.process.config import Config
from hostler.placement.process.placement import ProcessModel, ProcessPlacement

__all__ = ["Config", "ProcessModel", "ProcessPlacement"]
