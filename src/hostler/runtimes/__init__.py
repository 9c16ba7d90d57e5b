"""How a model computes: a table of runtimes, and the ones that run in this process."""

from hostler.runtimes.table import RUNTIMES, Runtime

__all__ = ["RUNTIMES", "Runtime"]
