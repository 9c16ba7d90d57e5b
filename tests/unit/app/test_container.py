"""What being a container changes in the settings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostler.app.container import as_container
from hostler.config import Settings
from hostler.core import HostlerError


def settings(**rooms: dict[str, Any]) -> Settings:
    return msgspec.convert(rooms, Settings)


def test_what_the_platform_expects() -> None:
    found = as_container(Settings(), {})
    gateway, serving = found.gateway, found.serving
    assert (gateway.host, gateway.port, gateway.grpc) == ("0.0.0.0", 8080, False)
    assert gateway.allow_unauthenticated_remote
    assert (serving.drain_timeout_s, serving.room_wait_s) == (25.0, 0.0)
    assert found.repository == Settings().repository


TOLD: dict[str, dict[str, Any]] = {
    "gateway": {
        "host": "127.0.0.1",
        "port": 8000,
        "allow_unauthenticated_remote": False,
        "keys_file": "k",
    },
    "serving": {"drain_timeout_s": 3, "room_wait_s": 1},
}


def test_what_is_set_stays() -> None:
    given = settings(**TOLD)
    told = [f"{room}.{name}" for room in ("gateway", "serving") for name in TOLD[room]]
    found = as_container(given, {"SAGEMAKER_BIND_TO_PORT": "9000"}, told)
    # Be it to its default: who says 127.0.0.1 means it.
    assert (found.gateway.host, found.gateway.port) == ("127.0.0.1", 8000)
    assert not found.gateway.allow_unauthenticated_remote
    assert found.gateway.keys_file == "k"
    assert (found.serving.drain_timeout_s, found.serving.room_wait_s) == (3, 1)


def test_the_platform_s_port() -> None:
    found = as_container(Settings(), {"SAGEMAKER_BIND_TO_PORT": "9000"})
    assert found.gateway.port == 9000


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "http", "8080 ", "٣", "9" * 5000])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(HostlerError, match="SAGEMAKER_BIND_TO_PORT") as raised:
        as_container(Settings(), {"SAGEMAKER_BIND_TO_PORT": port})
    assert len(raised.value.message) < 200
