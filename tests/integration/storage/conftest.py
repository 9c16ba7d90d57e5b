"""Object stores are asked on the loop that serves and on the one that Python has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop
from fakes.web_server import WebServer, web_server
from moto.server import ThreadedMotoServer

from hostler.storage import Config, Storage


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See pytest-asyncio."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore reads the process's own."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 server of moto's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_config(s3_url: str) -> Config:
    """Settings for it."""
    return Config(
        s3_endpoint_url=s3_url,
        s3_access_key_id="key",
        s3_secret_access_key="secret",
        retries_max=1,
        stall_timeout_s=5.0,
    )


@pytest.fixture
def site() -> Iterator[WebServer]:
    """A web server of one object."""
    with web_server() as served:
        yield served


@pytest.fixture
async def storage(s3_config: Config) -> AsyncIterator[Storage]:
    """All kinds of stores."""
    opened = Storage(s3_config, {})
    yield opened
    await opened.close()
