"""A small HTTP client of a running server, on the standard library."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

from hostler.cli.failures import Misuse
from hostler.core import Code, HostlerError

__all__ = ["Answer", "Client", "TimeoutOption", "UrlOption", "model_path"]

URL_DEFAULT: Final = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str,
    typer.Option("--url", "-u", help="Address of the server.", envvar="HOSTLER_URL", metavar="URL"),
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


def connect(scheme: str, address: str, timeout_s: float) -> http.client.HTTPConnection:
    """An HTTP or HTTPS connection."""
    if scheme == "https":
        return http.client.HTTPSConnection(address, timeout=timeout_s)
    return http.client.HTTPConnection(address, timeout=timeout_s)


class Client:
    """Asks one server. Raises Misuse for a URL that is none."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Misuse(f"--url {url}: an address such as {URL_DEFAULT} is expected")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._scheme, self._address = parts.scheme, parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s

    def get(self, path: str) -> Answer:
        """GET. Raises: HostlerError in the server's own words, or UNAVAILABLE if it is away."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST. Raises: as `get`."""
        return self._ask("POST", path, body, headers)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        try:
            connection = connect(self._scheme, self._address, self._timeout_s)
            try:
                connection.request(method, self._prefix + path, body, dict(headers))
                response = connection.getresponse()
                content = response.read()
            finally:
                connection.close()
        except TimeoutError:
            raise HostlerError(
                Code.DEADLINE_EXCEEDED,
                f"no answer from {self.url} within {self._timeout_s:g} s; --timeout waits longer",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"no hostler server answers at {self.url} ({_reason(error)}); start one with "
                "`hostler serve ./models`, or name another with --url",
            ) from None
        if response.status != http.HTTPStatus.OK:
            raise _refusal(response.status, content, f"{method} {self.url}{self._prefix}{path}")
        return Answer({k.lower(): v for k, v in response.getheaders()}, content)


def model_path(model: str, version: str | None, leaf: str = "") -> str:
    """`/v2/models/{model}[/versions/{version}][/leaf]`, quoted."""
    path = f"/v2/models/{quote(model, safe='')}"
    if version:
        path += f"/versions/{quote(version, safe='')}"
    return f"{path}/{leaf}" if leaf else path


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
