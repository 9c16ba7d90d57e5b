"""Fetchers over stores in memory."""

from __future__ import annotations

import os

import pytest
from fakes.fetching import Fetching


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    """Waiting for all of the machine's disk work is no part of what is tested."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def fetching(tmp_path):
    return Fetching(tmp_path / "cache")
