"""The one place that builds the object graph, and runs it."""

from hostler.app.cluster import Cluster
from hostler.app.server import serve
from hostler.app.transform import Job, ModelAsk, first_input, transform
from hostler.app.trials import CheckRow, check, profile

__all__ = [
    "CheckRow",
    "Cluster",
    "Job",
    "ModelAsk",
    "check",
    "first_input",
    "profile",
    "serve",
    "transform",
]
