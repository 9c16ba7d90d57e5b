"""What may be asked for, and what a store's objects make."""

import pytest

from hostler.core import Code, HostlerError
from hostler.repository import Config
from hostler.repository.fetch.source import (
    ModelSource,
    Wanted,
    check_source,
    check_target,
    offer_of,
    shown,
)
from hostler.storage import ObjectStat

CONFIG = Config()
ARCHIVE = ModelSource("s3://bucket/model.tar.gz")
PREFIX = ModelSource("s3://bucket/models/", prefix=True, compressed=False)


def stat(key, size=10, etag='"e"'):
    return ObjectStat(key, size, etag, 0.0)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (ModelSource("model.tar.gz"), "is no s3://"),
        (ModelSource("s3://b/" + "x" * 9000), "is no s3://"),
        (ModelSource("://b/a"), "is no s3://"),
        (ModelSource("s3://b/a", prefix=True), "uncompressed"),
        (ModelSource("s3://b/a", sha256="12"), "64 hexadecimal digits"),
        (ModelSource("s3://b/a", True, False, "0" * 64), "not of a prefix"),
    ],
)
def test_sources_that_cannot_be(source, word):
    with pytest.raises(HostlerError, match=word) as raised:
        check_source(source)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("", "0 characters"),
        ("x" * 1025, "1025 characters"),
        ("/a.tar.gz", "begins with a '/'"),
        ("../a.tar.gz", "'..'"),
        ("a/../b.tar.gz", "'..'"),
        ("a/./b.tar.gz", "'.'"),
        ("a//b.tar.gz", "empty part"),
        ("a/", "empty part"),
        ("a\n.tar.gz", "cannot be printed"),
        ("a\x00", "cannot be printed"),
        ("a\ud800", "cannot be printed"),
    ],
)
def test_targets_that_cannot_be(target, word):
    with pytest.raises(HostlerError, match=word) as raised:
        check_target(target)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("target", ["a.tar.gz", "a/b.tar.gz", "grüße/..a", "x" * 1024])
def test_targets_that_can_be(target):
    check_target(target)


def test_an_archive_is_one_object():
    offer = offer_of(ARCHIVE, [stat("model.tar.gz", 7, '"abc"')], None, CONFIG)
    assert (offer.token, offer.size, offer.unpack) == ("abc", 7, True)
    other = offer_of(ARCHIVE, [stat("model.tar.gz", 7, '"abd"')], None, CONFIG)
    assert other.key != offer.key
    stated = ModelSource(ARCHIVE.url, sha256="0" * 64)
    assert offer_of(stated, [stat("m", 7, '"abc"')], None, CONFIG).key != offer.key


def test_a_prefix_is_all_its_files():
    objects = [stat("models/"), stat("models/1/"), stat("models/1/a"), stat("models/b", 5)]
    offer = offer_of(PREFIX, [*objects, stat("models/._b")], "models/", CONFIG)
    assert [item.path for item in offer.wanted] == ["1/a", "b"]
    assert (offer.size, offer.unpack) == (15, False)
    for changed in (
        [stat("models/1/a"), stat("models/b", 5, '"new"')],
        [stat("models/1/a"), stat("models/b", 6)],
        [stat("models/1/a")],
        [stat("models/1/a"), stat("models/c", 5)],
    ):
        assert offer_of(PREFIX, changed, "models/", CONFIG).token != offer.token


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (["m/../x"], "leads out"),
        (["m//etc/x"], "absolute"),
        (["m/a", "m/a/b"], "'a' is a file and a folder"),
        (["m/a/b", "m/a//b"], "'a/b' is there twice"),
        (["m/a", "m/b", "m/c"], "more than 2 files .repository.archive_files_max"),
    ],
)
def test_prefixes_that_cannot_be(keys, word):
    with pytest.raises(HostlerError, match=word):
        offer_of(PREFIX, [stat(key) for key in keys], "m/", Config(archive_files_max=2))


@pytest.mark.parametrize(
    ("source", "base", "setting"),
    [(ARCHIVE, None, "archive_bytes_max"), (PREFIX, "m/", "archive_unpacked_bytes_max")],
)
def test_what_is_too_large_is_not_begun(source, base, setting):
    config = Config(archive_bytes_max=9, archive_unpacked_bytes_max=9)
    with pytest.raises(HostlerError, match=f"it has 10 bytes, at most 9 .*{setting}"):
        offer_of(source, [stat("m/a")], base, config)


def test_without_an_etag_a_sha256_must_tell():
    source = ModelSource("https://host/model.tar.gz")
    with pytest.raises(HostlerError, match="neither an ETag"):
        offer_of(source, [stat("model.tar.gz", etag="")], None, CONFIG)
    stated = ModelSource(source.url, sha256="AB" * 32)
    offer = offer_of(stated, [stat("model.tar.gz", etag="")], None, CONFIG)
    assert offer.token == f"sha256-{'ab' * 32}"


@pytest.mark.parametrize(
    ("etag", "size", "resumable", "md5"),
    [
        ('"d41d8cd98f00b204e9800998ecf8427e"', 5, True, True),
        ('"d41d8cd98f00b204e9800998ecf8427e-3"', 5, True, False),
        ('"d41d8cd98f00b204e9800998ecf8427e"', -1, False, True),
        ('W/"abc"', 5, False, False),
        ("", 5, False, False),
    ],
)
def test_what_an_etag_is_good_for(etag, size, resumable, md5):
    wanted = Wanted("k", "p", size, etag)
    assert (wanted.resumable, bool(wanted.md5)) == (resumable, md5)


def test_messages_show_no_signatures():
    assert shown("https://h/a.tar.gz?X-Amz-Signature=secret") == "https://h/a.tar.gz"
    assert shown("s3://b/what?.tar.gz") == "s3://b/what?.tar.gz", "that is a key"
