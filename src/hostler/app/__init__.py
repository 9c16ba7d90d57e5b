"""The one place that builds the object graph, and runs it."""

from hostler.app.server import serve
from hostler.app.trials import CheckRow, check, profile

__all__ = ["CheckRow", "check", "profile", "serve"]
