"""Certificates that the settings name: what is read, and what operators are told."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from fakes.certificates import Authority, Certificate

from hostler.core import Code, HostlerError
from hostler.gateway import Config
from hostler.gateway.tls import Tls, read_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.issue("good")


@pytest.fixture(scope="module")
def other(authority: Authority) -> Certificate:
    return authority.issue("other")


def read(**files: Path) -> Tls | None:
    return read_tls(Config(**{f"tls_{name}": str(path) for name, path in files.items()}))


def test_without_a_certificate_there_is_no_tls() -> None:
    assert read() is None


def test_what_ports_are_given(authority: Authority, good: Certificate) -> None:
    tls = read(certificate=good.file, key=good.key)
    assert tls is not None
    assert (tls.certificate, tls.key) == (good.file.read_bytes(), good.key.read_bytes())
    assert tls.client_ca is None
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.context.verify_mode == ssl.CERT_NONE
    mutual = read(certificate=good.file, key=good.key, client_ca=authority.file)
    assert mutual is not None
    assert mutual.client_ca == authority.file.read_bytes()
    assert mutual.context.verify_mode == ssl.CERT_REQUIRED


def test_one_file_may_hold_both(good: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(good.key.read_bytes() + good.file.read_bytes())
    tls = read(certificate=both)
    assert tls is not None
    assert tls.certificate == tls.key == both.read_bytes()


def test_files_that_cannot_be_used(
    authority: Authority, good: Certificate, other: Certificate, tmp_path: Path
) -> None:
    missing, nonsense, folder = tmp_path / "missing.pem", tmp_path / "nonsense.pem", tmp_path
    nonsense.write_text("not a certificate")
    locked = authority.encrypted(good)
    for files, setting, text in (
        ({"certificate": missing, "key": good.key}, "tls_certificate", "No such file"),
        ({"certificate": folder, "key": good.key}, "tls_certificate", "Is a directory"),
        ({"certificate": good.file, "key": missing}, "tls_key", "No such file"),
        ({"certificate": nonsense, "key": good.key}, "tls_certificate", "no certificate"),
        ({"certificate": good.file, "key": nonsense}, "tls_certificate", "no private key"),
        ({"certificate": good.file}, "tls_certificate", "no private key"),
        ({"certificate": good.file, "key": other.key}, "tls_certificate", "another certificate"),
        ({"certificate": good.file, "key": locked}, "tls_key", "encrypted"),
        ({"key": good.key}, "tls_key", "gateway.tls_certificate is needed"),
        ({"client_ca": authority.file}, "tls_client_ca", "gateway.tls_certificate is needed"),
        (
            {"certificate": good.file, "key": good.key, "client_ca": nonsense},
            "tls_client_ca",
            "no certificate",
        ),
        (
            {"certificate": good.file, "key": good.key, "client_ca": missing},
            "tls_client_ca",
            "No such file",
        ),
    ):
        with pytest.raises(HostlerError) as caught:
            read(**files)
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert caught.value.message.startswith(f"gateway.{setting}: '"), caught.value
        assert text in caught.value.message, caught.value
