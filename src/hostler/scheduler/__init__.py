"""When a request runs: a bounded queue, the forming of batches, and the driver of replicas."""

from hostler.scheduler.config import Config
from hostler.scheduler.controls import SequenceInputs
from hostler.scheduler.driver import Scheduler
from hostler.scheduler.responses import count_response
from hostler.scheduler.shaping import Shaper

__all__ = ["Config", "Scheduler", "SequenceInputs", "Shaper", "count_response"]
