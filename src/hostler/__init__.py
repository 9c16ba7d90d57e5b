"""hostler: many machine-learning models behind one address."""

__version__ = "0.1.0"
