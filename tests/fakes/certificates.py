"""Certificates for tests, made by the openssl command (Debian package openssl) when they run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_LEAF: Final = """\
subjectAltName = DNS:localhost, IP:127.0.0.1
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, a PEM file each."""

    file: Path
    key: Path


class Authority:
    """Signs certificates for localhost; its own is `file`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", self._key, "-out", self.file, "-days", 2,
            "-subj", f"/CN={name}", "-addext", "keyUsage = critical, keyCertSign",
        )  # fmt: skip

    def issue(self, name: str) -> Certificate:
        """A certificate that is good for servers and for clients."""
        file, key, request, extensions = (
            self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "ext")
        )
        extensions.write_text(_LEAF)
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key,
            "-CAcreateserial", "-days", 2, "-extfile", extensions, "-out", file,
        )  # fmt: skip
        return Certificate(file, key)

    def encrypted(self, certificate: Certificate) -> Path:
        """The same key, with a password."""
        file = certificate.key.with_suffix(".locked")
        _openssl("ec", "-aes128", "-passout", "pass:x", "-in", certificate.key, "-out", file)
        return file


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
