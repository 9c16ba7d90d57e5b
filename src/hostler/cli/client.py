"""A small HTTP client of a running server, on the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

from hostler.cli.failures import Misuse
from hostler.core import Code, HostlerError

__all__ = [
    "Answer",
    "CaOption",
    "CertOption",
    "Client",
    "KeyOption",
    "TimeoutOption",
    "TokenOption",
    "UrlOption",
    "model_path",
]

URL_DEFAULT: Final = "http://127.0.0.1:8000"

_CLOSED: Final = (ConnectionResetError, BrokenPipeError, http.client.BadStatusLine)
"""What a connection that ends without an answer looks like."""

UrlOption = Annotated[
    str,
    typer.Option("--url", "-u", help="Address of the server.", envvar="HOSTLER_URL", metavar="URL"),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        help="PEM file of the authority (or the certificate itself) that an https:// server is "
        "known by; unless given, those of this machine.",
        envvar="HOSTLER_CA",
        metavar="FILE",
    ),
]
CertOption = Annotated[
    Path | None,
    typer.Option(
        "--cert",
        help="PEM file of the certificate to show an https:// server that asks for one.",
        envvar="HOSTLER_CERT",
        metavar="FILE",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="PEM file of its private key; not needed if the certificate's file has it.",
        envvar="HOSTLER_KEY",
        metavar="FILE",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Bearer token for a server that asks for keys. Others on this machine can read "
        "command lines: better set the variable.",
        envvar="HOSTLER_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", help="Longest wait for an answer, in seconds.", metavar="S", min=0.1),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 200, its headers (lower-case names) and its body."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises: INTERNAL if it is not, which no hostler server sends."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise HostlerError(
                Code.INTERNAL,
                f"the server answered with something that is not JSON: {self.body[:80]!r}; "
                "is it a hostler server?",
            ) from None


def connect(
    scheme: str, address: str, timeout_s: float, trust: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """An HTTP or HTTPS connection. `trust`: whom to believe, None for this machine's own list."""
    if scheme == "https":
        return http.client.HTTPSConnection(address, timeout=timeout_s, context=trust)
    return http.client.HTTPConnection(address, timeout=timeout_s)


class Client:
    """Asks one server. Raises Misuse for a URL that is none, or files that hold no certificates.

    `ca`: PEM file of whoever vouches for an HTTPS server. `cert`, `key`: PEM files of what this
    client shows of itself. `token`: what it says who it is with.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        token: str | None = None,
    ) -> None:
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise Misuse("--token: a token has no spaces and nothing but ASCII in it")
        self._says = {"Authorization": f"Bearer {token}"} if token else {}
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Misuse(f"--url {url}: an address such as {URL_DEFAULT} is expected")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._scheme, self._address = parts.scheme, parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._trust = None if ca is None else _trust(ca)
        self._shows = cert is not None
        if cert is not None:
            self._trust = self._trust or ssl.create_default_context()
            _show(self._trust, cert, key)
        elif key is not None:
            raise Misuse(f"--key {key}: it goes with a certificate; name that with --cert")

    def get(self, path: str) -> Answer:
        """GET. Raises: HostlerError in the server's own words, or UNAVAILABLE if it is away."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST. Raises: as `get`."""
        return self._ask("POST", path, body, headers)

    def post_events(self, path: str, body: bytes, headers: Mapping[str, str]) -> Iterator[bytes]:
        """POST; the data of each server-sent event, as it comes. Raises: as `get`.

        Source: WHATWG HTML, "Server-sent events"; hostler's events are one line of data each.
        """
        with self._asked("POST", path, body, headers) as response:
            if response.status != http.HTTPStatus.OK:
                raise self._refusal(response.status, response.read(), f"POST {self.url}{path}")
            while line := response.readline():
                name, _, data = line.partition(b":")
                if name == b"data":
                    yield data.strip()

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        with self._asked(method, path, body, headers) as response:
            content = response.read()
        if response.status != http.HTTPStatus.OK:
            what = f"{method} {self.url}{self._prefix}{path}"
            raise self._refusal(response.status, content, what)
        return Answer({k.lower(): v for k, v in response.getheaders()}, content)

    @contextmanager
    def _asked(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        begun = False
        try:
            connection = connect(self._scheme, self._address, self._timeout_s, self._trust)
            try:
                connection.request(method, self._prefix + path, body, {**headers, **self._says})
                response = connection.getresponse()
                begun = True
                yield response
            finally:
                connection.close()
        except TimeoutError:
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"no answer from {self.url} within {self._timeout_s:g} s; --timeout waits longer",
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise HostlerError(
                Code.UNAUTHENTICATED,
                f"{self.url} shows a certificate that is not to be trusted "
                f"({error.verify_message}); name who vouches for it with --ca",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            if begun:
                raise HostlerError(
                    Code.UNAVAILABLE,
                    f"{self.url} broke its answer off ({_reason(error)}); its log may say why",
                ) from None
            raise HostlerError(
                Code.UNAVAILABLE,
                f"no hostler server answers at {self.url} ({_reason(error)}); "
                + self._advice(error),
            ) from None

    def _refusal(self, status: int, content: bytes, what: str) -> HostlerError:
        if status == http.HTTPStatus.UNAUTHORIZED and not self._says:
            said = f"{self.url} asks for a key: give its token with --token or in HOSTLER_TOKEN"
            return HostlerError(Code.UNAUTHENTICATED, f"{said} (status {status})")
        return _refusal(status, content, what)

    def _advice(self, error: Exception) -> str:
        """What to try when there was no answer."""
        if self._scheme == "http" and isinstance(error, _CLOSED):
            return f"it may speak TLS: try https://{self._address}"
        refused = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
        refused = refused or isinstance(error, (*_CLOSED, ssl.SSLEOFError))
        if self._scheme == "https" and refused and not self._shows:
            return "it may want a client certificate: --cert and --key"
        return "start one with `hostler serve ./models`, or name another with --url"


def model_path(model: str, version: str | None, leaf: str = "") -> str:
    """`/v2/models/{model}[/versions/{version}][/leaf]`, quoted."""
    path = f"/v2/models/{quote(model, safe='')}"
    if version:
        path += f"/versions/{quote(version, safe='')}"
    return f"{path}/{leaf}" if leaf else path


def _show(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    named = f"--cert {cert}" + (f" --key {key}" if key else "")
    try:
        context.load_cert_chain(cert, key, password="")  # rather than ask for it
    except ssl.SSLError as error:
        why = error.reason or "no PEM"
        raise Misuse(f"{named}: no certificate with its unencrypted key ({why})") from None
    except OSError as error:
        raise Misuse(f"{named}: {error.strerror}") from None


def _trust(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise Misuse(f"--ca {ca}: it holds no certificate in PEM form") from None
    except OSError as error:
        raise Misuse(f"--ca {ca}: {error.strerror}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    return str(error) or type(error).__name__


def _refusal(status: int, body: bytes, what: str) -> HostlerError:
    code = (
        Code.INVALID_ARGUMENT
        if status < http.HTTPStatus.INTERNAL_SERVER_ERROR
        else (Code.UNAVAILABLE)
    )
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        said = f"{what} was answered with status {status}; is it a hostler server?"
    return HostlerError(code, f"{said} (status {status})" if "status" not in said else said)
