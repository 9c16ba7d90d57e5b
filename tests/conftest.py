"""What all tests share."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the machines that run this are shared, and a slow example is no wrong one.
settings.register_profile(
    "hostler", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("hostler")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own HOSTLER_ variables change no test."""
    for variable in [name for name in os.environ if name.startswith("HOSTLER_")]:
        monkeypatch.delenv(variable)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs torch where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        skip = pytest.mark.skip(reason="needs the torch extra")
        for item in items:
            if "torch" in item.keywords:
                item.add_marker(skip)
