"""Web servers with good manners and bad: what is read is one version of an object, or nothing."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest
from fakes.web_server import WebServer

from hostler.core import Code, HostlerError
from hostler.storage import Config, ObjectStat, Storage

BODY = b"0123456789" * 10


@pytest.fixture
async def web() -> AsyncIterator[Storage]:
    opened = Storage(Config(allow_http=True, retries_max=2, stall_timeout_s=5.0), {})
    yield opened
    await opened.close()


async def stat(web: Storage, url: str) -> ObjectStat:
    store, key = web.open(url)
    return await store.stat(key)


async def read(web: Storage, url: str, offset: int = 0, etag: str = "") -> bytes:
    store, key = web.open(url)
    return b"".join([piece async for piece in store.read(key, offset=offset, etag=etag)])


async def code(work: object) -> Code:
    with pytest.raises(HostlerError) as raised:
        await work  # type: ignore[misc]
    return raised.value.code


async def test_an_object_and_its_rest(web: Storage, site: WebServer) -> None:
    url = f"{site.url}/a/b%20c"
    found = await stat(web, url)
    assert (found.key, found.size, found.etag) == ("a/b c", 100, '"v1"')
    assert await read(web, url) == BODY
    assert await read(web, url, 90, found.etag) == BODY[90:]
    assert site.asked[-1] == ("GET", "/a/b%20c", "bytes=90-")


@pytest.mark.parametrize("offset", [0, 1, 99, 100])
async def test_a_server_without_ranges_is_read_from_the_start(
    web: Storage, site: WebServer, offset: int
) -> None:
    site.manners.ranges = False
    assert await read(web, f"{site.url}/a", offset, '"v1"') == BODY[offset:]


async def test_at_the_end_there_is_nothing_left(web: Storage, site: WebServer) -> None:
    assert await read(web, f"{site.url}/a", 100, '"v1"') == b""
    assert await code(read(web, f"{site.url}/a", 101, '"v1"')) is Code.UNAVAILABLE


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("conditions", [True, False])
@pytest.mark.parametrize("offset", [0, 50, 100])
async def test_another_version_is_not_read(
    web: Storage, site: WebServer, ranges: bool, conditions: bool, offset: int
) -> None:
    site.manners.ranges, site.manners.conditions = ranges, conditions
    site.manners.etag, site.manners.body = '"v2"', BODY.upper()
    assert await code(read(web, f"{site.url}/a", offset, '"v1"')) is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("etag", "modified"),
    [('W/"v1"', "Wed, 21 Oct 2015 07:28:00 GMT"), ("", "Wed, 21 Oct 2015 07:28:00 GMT"), ("", "")],
)
async def test_without_a_strong_tag_nothing_is_resumed(
    web: Storage, site: WebServer, etag: str, modified: str
) -> None:
    site.manners.etag, site.manners.modified = etag, modified
    url = f"{site.url}/a"
    found = await stat(web, url)
    assert bool(found.etag) == bool(etag or modified)
    assert await read(web, url, 0, found.etag) == BODY
    assert await code(read(web, url, 50, found.etag)) is Code.UNAVAILABLE


async def test_a_new_date_is_a_new_version(web: Storage, site: WebServer) -> None:
    site.manners.etag = ""
    before = await stat(web, f"{site.url}/a")
    site.manners.modified = "Wed, 21 Oct 2015 07:28:01 GMT"
    assert (await stat(web, f"{site.url}/a")).etag != before.etag
    assert await code(read(web, f"{site.url}/a", 0, before.etag)) is Code.UNAVAILABLE


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_a_server_that_refuses_head_is_asked_with_get(
    web: Storage, site: WebServer, status: int
) -> None:
    site.manners.head = status
    assert (await stat(web, f"{site.url}/a")).size == 100


async def test_a_presigned_address_keeps_its_query(web: Storage, site: WebServer) -> None:
    url = f"{site.url}/a/b?X-Amz-Signature=ab%2Fc&x=1"
    assert await read(web, url) == BODY
    assert site.asked[-1] == ("GET", "/a/b?X-Amz-Signature=ab%2Fc&x=1", "")
    site.manners.status = 403
    with pytest.raises(HostlerError) as raised:
        await read(web, url)
    assert raised.value.code is Code.PERMISSION_DENIED
    assert "ab%2Fc" not in raised.value.message


async def test_a_lost_connection_is_taken_up_again(web: Storage, site: WebServer) -> None:
    site.manners.breaks = 1
    assert await read(web, f"{site.url}/a") == BODY
    assert [wanted for _, _, wanted in site.asked] == ["", "bytes=5-99"]


async def test_a_lost_connection_without_a_tag_is_no_whole_object(
    web: Storage, site: WebServer
) -> None:
    site.manners.breaks, site.manners.etag = 1, ""
    assert await code(read(web, f"{site.url}/a")) is Code.UNAVAILABLE


async def test_a_silent_server_is_given_up(site: WebServer) -> None:
    web = Storage(Config(allow_http=True, retries_max=0, stall_timeout_s=0.2), {})
    site.manners.stalls = threading.Event()
    try:
        assert await code(read(web, f"{site.url}/a")) is Code.UNAVAILABLE
    finally:
        site.manners.stalls.set()
    await web.close()


async def test_redirects_are_followed(web: Storage, site: WebServer) -> None:
    site.manners.redirect = "/elsewhere"
    assert await read(web, f"{site.url}/a", 95, '"v1"') == BODY[95:]


async def test_an_object_of_unknown_length_is_refused(web: Storage, site: WebServer) -> None:
    site.manners.chunked = True
    with pytest.raises(HostlerError, match="Content-Length") as raised:
        await stat(web, f"{site.url}/a")
    assert raised.value.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Code.PERMISSION_DENIED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (410, Code.NOT_FOUND),
        (429, Code.UNAVAILABLE),
        (500, Code.UNAVAILABLE),
    ],
)
async def test_refusals_are_told_apart(site: WebServer, status: int, expected: Code) -> None:
    web = Storage(Config(allow_http=True, retries_max=0), {})
    site.manners.status = site.manners.head = status
    assert await code(stat(web, f"{site.url}/a")) is expected
    assert await code(read(web, f"{site.url}/a")) is expected
    await web.close()


async def test_nobody_there(web: Storage) -> None:
    assert await code(stat(web, "http://127.0.0.1:9/a")) is Code.UNAVAILABLE


async def test_a_web_server_is_only_read(web: Storage, site: WebServer) -> None:
    store, key = web.open(f"{site.url}/a")
    for work in (store.put(key, b""), store.delete(key)):
        assert await code(work) is Code.UNIMPLEMENTED
    with pytest.raises(HostlerError, match="does not list"):
        async for _ in store.list(""):
            pass
    assert site.asked == []


# -- Google's and Azure's: rows of the same table, asked like web servers -------------------


@pytest.mark.parametrize(
    ("url", "variables", "path"),
    [
        (
            "gs://models/a/b",
            {"GOOGLE_BASE_URL": "{}", "GOOGLE_SKIP_SIGNATURE": "true"},
            "/models/a%2Fb",
        ),
        (
            "az://models/a/b",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": "account",
                "AZURE_STORAGE_ENDPOINT": "{}",
                "AZURE_SKIP_SIGNATURE": "true",
            },
            "/models/a/b",
        ),
    ],
)
async def test_other_clouds(
    web: Storage,
    site: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
    path: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(site.url))
    assert (await stat(web, url)).size == 100
    assert await read(web, url, 90, '"v1"') == BODY[90:]
    assert site.asked[-1][1].partition("?")[0] == path
