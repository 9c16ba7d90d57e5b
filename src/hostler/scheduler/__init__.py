"""When a request runs: a bounded queue, the forming of batches, and the driver of replicas."""

from hostler.scheduler.config import Config
from hostler.scheduler.driver import Scheduler

__all__ = ["Config", "Scheduler"]
