"""Which store a URL opens, and what settings forbid. Nothing is asked yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.storage import Config, Storage
from hostler.storage.objects.local import LocalStore
from hostler.storage.objects.remote import RemoteStore
from hostler.storage.objects.web import WebStore


def _open(url: str, config: Config | None = None, **variables: str) -> Any:
    return Storage(config or Config(), variables).open(url)


def _refusal(url: str, config: Config | None = None, **variables: str) -> HostlerError:
    with pytest.raises(HostlerError) as raised:
        _open(url, config, **variables)
    return raised.value


@pytest.mark.parametrize(
    ("url", "kind", "key"),
    [
        ("s3://models/a/b", RemoteStore, "a/b"),
        ("s3://models", RemoteStore, ""),
        ("gs://models/a/", RemoteStore, "a/"),
        ("https://host/a/b.tar.gz", WebStore, "a/b.tar.gz"),
        ("file:///srv/a", LocalStore, "srv/a"),
    ],
)
def test_a_scheme_is_a_kind_of_store(url: str, kind: type, key: str) -> None:
    store, found = _open(url)
    assert type(store) is kind
    assert found == key


def test_an_unknown_scheme_is_told_which_there_are() -> None:
    error = _refusal("ftp://host/a")
    assert error.code is Code.INVALID_ARGUMENT
    for scheme in ("ftp", "s3", "gs", "az", "https", "file"):
        assert f"{scheme}://" in error.message


def test_plain_http_needs_leave() -> None:
    assert "storage.allow_http" in _refusal("http://host/a").message
    assert type(_open("http://host/a", Config(allow_http=True))[0]) is WebStore


def test_files_can_be_switched_off() -> None:
    error = _refusal("file:///srv/a", Config(file_urls=False))
    assert error.code is Code.PERMISSION_DENIED
    assert "storage.file_urls" in error.message


@pytest.mark.parametrize("root", ["/srv/models", "/srv/models/"])
def test_files_are_those_below_the_roots(root: str) -> None:
    config = Config(file_roots=("/srv", root) if root.endswith("/") else (root,))
    assert _open("file:///srv/models/a/b", config)[1] == "a/b"
    for url in ("file:///srv2/a", "file:///etc/passwd", "file:///srvmodels/a"):
        error = _refusal(url, config)
        assert error.code is Code.PERMISSION_DENIED
        assert root in error.message


def test_a_bucket_is_opened_once() -> None:
    storage = Storage(Config(), {})
    assert storage.open("s3://models/a")[0] is storage.open("s3://models/b")[0]
    assert storage.open("s3://models/a")[0] is not storage.open("gs://models/a")[0]
    assert storage.open("https://h/a?sig=1")[0] is not storage.open("https://h/a?sig=1")[0]


def test_the_stores_kept_are_bounded() -> None:
    storage = Storage(Config(), {})
    kept = storage.open("s3://kept")[0]
    for number in range(100):
        storage.open(f"s3://bucket-{number}")
        assert storage.open("s3://kept")[0] is kept  # used all the time
    assert len(storage._stores) == 64


# -- S3: settings before variables ---------------------------------------------------------


def _s3(config: Config | None = None, variables: Mapping[str, str] | None = None) -> Any:
    return Storage(config or Config(), variables or {}).open("s3://models/a")[0]._store  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore reads the process's own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_any_key_requests_are_not_signed() -> None:
    store = _s3()
    assert store.config["skip_signature"] == "true"
    assert store.credential_provider is None


def test_a_key_of_the_settings_comes_without_the_variables_token() -> None:
    config = Config(s3_access_key_id="k", s3_secret_access_key="s")
    variables = {
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_SESSION_TOKEN": "t",
    }
    found = _s3(config, variables).credential_provider()
    assert (found["access_key_id"], found["secret_access_key"], found["token"]) == ("k", "s", None)
    found = _s3(None, variables).credential_provider()
    assert (found["access_key_id"], found["token"]) == ("other", "t")


def test_half_a_key_is_refused() -> None:
    error = _refusal("s3://models/a", AWS_ACCESS_KEY_ID="k")
    assert "AWS_SECRET_ACCESS_KEY" in error.message


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        (Config(s3_instance_credentials=True), {}),
        (Config(), {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/token"}),
        (Config(), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1"}),
    ],
)
def test_credentials_of_the_platform_are_looked_for_where_it_has_them(
    config: Config, variables: Mapping[str, str]
) -> None:
    assert "skip_signature" not in _s3(config, variables).config


@pytest.mark.parametrize(
    ("config", "variables", "endpoint", "virtual", "plain"),
    [
        (Config(), {}, None, "true", False),
        (Config(s3_endpoint_url="http://minio:9000"), {}, "http://minio:9000", "false", True),
        (Config(), {"AWS_ENDPOINT_URL": "https://a"}, "https://a", "false", False),
        (
            Config(s3_endpoint_url="https://a/", s3_path_style=False),
            {"AWS_ENDPOINT_URL_S3": "https://b"},
            "https://models.a",
            "true",
            False,
        ),
        (
            Config(),
            {"AWS_ENDPOINT_URL_S3": "https://b", "AWS_ENDPOINT_URL": "https://a"},
            "https://b",
            "false",
            False,
        ),
    ],
)
def test_the_endpoint_and_how_buckets_are_written(
    config: Config, variables: Mapping[str, str], endpoint: str | None, virtual: str, plain: bool
) -> None:
    store = _s3(config, variables)
    assert store.config.get("endpoint_url_s3") == endpoint
    assert store.config["virtual_hosted_style_request"] == virtual
    assert str(store.client_options["allow_http"]).lower() == str(plain).lower()


@pytest.mark.parametrize(
    ("config", "variables", "region"),
    [
        (Config(), {}, "us-east-1"),
        (Config(), {"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        (Config(), {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "x"}, "eu-west-2"),
        (Config(s3_region="eu-west-3"), {"AWS_REGION": "x"}, "eu-west-3"),
    ],
)
def test_the_region(config: Config, variables: Mapping[str, str], region: str) -> None:
    assert _s3(config, variables).config["region"] == region


def test_a_file_of_authorities_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    assert str(path) in _refusal("s3://models/a", Config(ca_file=str(path))).message
    path.write_text("no certificate")
    error = _refusal("s3://models/a", AWS_CA_BUNDLE=str(path))
    assert "PEM" in error.message
    assert error.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"file_roots": ("models",)}, "no absolute path"),
        ({"s3_endpoint_url": "minio:9000"}, "https://HOST"),
        ({"s3_endpoint_url": "https://host/path"}, "https://HOST"),
        ({"s3_access_key_id": "k"}, "both"),
        ({"s3_secret_access_key": "s"}, "both"),
        ({"database_url": "mysql://host/db"}, "postgresql://"),
        ({"records_flush_bytes": 2048, "records_queue_bytes_max": 1024}, "more than"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Config(**fields)
