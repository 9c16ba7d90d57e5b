"""Which models are live: loading on demand, the memory budget, the repository API."""

from hostler.serving.config import Config
from hostler.serving.host import Host
from hostler.serving.live import LiveModel, NewScheduler
from hostler.serving.manager import Serving
from hostler.serving.registry import MemoryReport, ModelStatus

__all__ = [
    "Config",
    "Host",
    "LiveModel",
    "MemoryReport",
    "ModelStatus",
    "NewScheduler",
    "Serving",
]
