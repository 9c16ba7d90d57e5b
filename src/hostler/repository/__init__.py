"""What is served: packages on disk, read into model specifications."""

from hostler.repository.complete import complete
from hostler.repository.config import Config
from hostler.repository.package import Override, Package
from hostler.repository.repository import Repository

__all__ = ["Config", "Override", "Package", "Repository", "complete"]
