"""What is served: packages on disk, read into model specifications."""

from hostler.repository.complete import complete
from hostler.repository.config import Config
from hostler.repository.environments import (
    Environments,
    EnvironmentStore,
    Pruned,
    StoredEnvironment,
)
from hostler.repository.package import Override, Package
from hostler.repository.repository import Repository

__all__ = [
    "Config",
    "EnvironmentStore",
    "Environments",
    "Override",
    "Package",
    "Pruned",
    "Repository",
    "StoredEnvironment",
    "complete",
]
