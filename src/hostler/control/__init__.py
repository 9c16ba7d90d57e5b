"""Desired state: the SageMaker control plane, and what brings the server in line with it.

Importing it loads neither botocore nor SQLAlchemy; the first call does.
"""

from hostler.control.config import Config
from hostler.control.control import Allow, Control
from hostler.control.driver import Driver
from hostler.control.models import StoredModels
from hostler.control.operations import served_actions
from hostler.control.ports import Observed
from hostler.control.transforms import Transforming

__all__ = [
    "Allow",
    "Config",
    "Control",
    "Driver",
    "Observed",
    "StoredModels",
    "Transforming",
    "served_actions",
]
