"""What is served: packages on disk, read into model specifications."""

from hostler.repository.complete import complete
from hostler.repository.config import Config
from hostler.repository.containers import check_container, check_image, read_container
from hostler.repository.environments import (
    Environments,
    EnvironmentStore,
    Pruned,
    StoredEnvironment,
)
from hostler.repository.fetch import ArchivePrefix, Fetched, Fetcher, ModelSource
from hostler.repository.package import Override, Package
from hostler.repository.reading import Container, ContainerPackages
from hostler.repository.repository import Repository

__all__ = [
    "ArchivePrefix",
    "Config",
    "Container",
    "ContainerPackages",
    "EnvironmentStore",
    "Environments",
    "Fetched",
    "Fetcher",
    "ModelSource",
    "Override",
    "Package",
    "Pruned",
    "Repository",
    "StoredEnvironment",
    "check_container",
    "check_image",
    "complete",
    "read_container",
]
