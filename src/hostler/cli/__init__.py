"""argv -> the app or a client of a running server; prints."""

from hostler.cli.main import main

__all__ = ["main"]
