"""Trace and log settings through tritonclient."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.server import ServerProcess
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    made = InferenceServerClient(server.url)
    yield made
    made.close()


def test_log_settings(client: InferenceServerClient, server: ServerProcess) -> None:
    before = client.get_log_settings()
    assert before["log_verbose_level"] == 0
    assert before["log_info"] is True
    after = client.update_log_settings({"log_verbose_level": 1})
    assert after == before | {"log_verbose_level": 1}
    assert client.is_server_live()
    server.wait_event("request.answered", path="/v2/health/live")
    assert client.update_log_settings({"log_verbose_level": 0}) == before
    count = len(server.events("request.answered"))
    assert client.is_server_live()
    assert len(server.events("request.answered")) == count
    assert client.update_log_settings(before) == before


@pytest.mark.parametrize("settings", [{"log_file": "/tmp/x"}, {"log_info": "yes"}, {"nothing": 1}])
def test_wrong_log_settings(client: InferenceServerClient, settings: dict[str, object]) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.update_log_settings(settings)
    assert caught.value.status() == "400"


@pytest.mark.parametrize("model", [None, "versions"])
def test_trace_settings(client: InferenceServerClient, model: str | None) -> None:
    off = {
        "trace_level": ["OFF"],
        "trace_rate": "100",
        "trace_count": "-1",
        "trace_mode": "opentelemetry",
    }
    assert client.get_trace_settings(model) == off
    assert client.update_trace_settings(model, {"trace_level": ["OFF"]}) == off
    assert client.update_trace_settings(model, {"trace_level": None}) == off
    with pytest.raises(InferenceServerException, match="tracing is switched off"):
        client.update_trace_settings(model, {"trace_level": ["TIMESTAMPS"]})


def test_trace_settings_of_nobody(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="nobody") as caught:
        client.get_trace_settings("nobody")
    assert caught.value.status() == "404"


def test_the_server_says_that_it_has_them(client: InferenceServerClient) -> None:
    assert {"generate", "logging", "trace"} <= set(client.get_server_metadata()["extensions"])
