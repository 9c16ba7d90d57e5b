"""URLs of objects: what they mean, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import Code, HostlerError
from hostler.storage.objects.location import Location, check_key, locate

MEANINGS = [
    ("s3://models/a/b.tar.gz", Location("s3", "models", "a/b.tar.gz")),
    ("S3://models/a", Location("s3", "models", "a")),
    ("s3://models", Location("s3", "models", "")),
    ("s3://models/a/", Location("s3", "models", "a/")),
    ("s3://models/a%20b?c#d", Location("s3", "models", "a%20b?c#d")),  # a key is what it is
    ("gs://models/a", Location("gs", "models", "a")),
    ("file:///srv/models/a.tar.gz", Location("file", "", "srv/models/a.tar.gz")),
    ("file://localhost/srv/a", Location("file", "", "srv/a")),
    ("file:///srv/a%20b%23", Location("file", "", "srv/a b#")),
    ("file:///", Location("file", "", "")),
    ("https://Host.example:8443/a/b", Location("https", "host.example:8443", "a/b")),
    ("https://host/a%20b?x=%2F&y=1", Location("https", "host", "a b", "x=%2F&y=1")),
    ("http://[::1]:80/a", Location("http", "[::1]:80", "a")),
]


@pytest.mark.parametrize(("url", "meaning"), MEANINGS)
def test_a_url_is_taken_apart(url: str, meaning: Location) -> None:
    assert locate(url) == meaning


REFUSALS = [
    ("", "does not begin with s3:"),
    ("/srv/models", "does not begin with s3:"),
    ("models/a", "does not begin with s3:"),
    ("s3:/models/a", "does not begin with s3:"),
    ("s3:///a", "no bucket's name"),
    ("s3://a b/c", "no bucket's name"),
    ("s3://x", "no bucket's name"),
    ("s3://models/../a", "'.' or '..'"),
    ("s3://models/a/./b", "'.' or '..'"),
    ("s3://models//a", "empty part"),
    ("s3://models/a//", "empty part"),
    ("s3://models/a\nb", "control character"),
    ("s3://models/\ud800", "UTF-8"),
    (f"s3://models/{'a' * 1025}", "1025 bytes, at most 1024"),
    (f"https://host/{'a' * 9000}", "at most 8192"),
    ("file://host/a", "absolute path"),
    ("file://a", "absolute path"),
    ("file:///a/../b", "'.' or '..'"),
    ("file:///a/%2e%2e/b", "'.' or '..'"),
    ("file:///a%00b", "control character"),
    ("file:///a%ffb", "percent-encoded UTF-8"),
    (f"file:///{'a/' * 2100}", "at most 4095"),
    ("https:///a", "names no host"),
    ("https://ho st/a", "names no host"),
    ("https://host:port/a", "names no host"),
    ("https://[::1/a", "not well formed"),
    ("https://me:secret@host/a", "user and a password"),
    ("https://host/a#b", "fragment"),
    ("https://host/a%2Fb", "%2F"),
    ("https://host/a/%2e%2e/b", "'.' or '..'"),
    ("https://host/a%0ab", "control character"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSALS)
def test_a_url_that_cannot_be_used_says_why(url: str, reason: str) -> None:
    with pytest.raises(HostlerError) as raised:
        locate(url)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert reason in raised.value.message
    assert len(raised.value.message) < 500


def test_what_may_be_secret_is_not_shown() -> None:
    for url in ("https://me:hunter2@host/a", "https://host/a//b?X-Amz-Signature=hunter2"):
        with pytest.raises(HostlerError) as raised:
            locate(url)
        assert "hunter2" not in raised.value.message


@given(st.text() | st.from_regex(r"(s3|file|https)://[ -~]{0,40}", fullmatch=True))
def test_any_text_is_taken_or_refused(url: str) -> None:
    try:
        found = locate(url)
    except HostlerError:
        return
    assert ".." not in found.key.split("/")
    assert not found.key.startswith("/")


@pytest.mark.parametrize("key", ["", "a/", "/a", "a//b", "../a", "a/..", ".", "a\0b", "\ud800"])
def test_a_key_that_names_no_object_is_refused(key: str) -> None:
    with pytest.raises(HostlerError) as raised:
        check_key("s3://bucket", key)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b"])
def test_a_prefix_may_end_anywhere(prefix: str) -> None:
    check_key("s3://bucket", prefix, prefix=True)
