"""`hostler models`: the server's list as a table."""

from __future__ import annotations

import json
import ssl
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from fakes.http_connection import Reply

from hostler.cli.models import rows


def version(name: str, number: int = 1, **fields: object) -> dict[str, object]:
    """One line of the server's answer."""
    return {
        "name": name, "version": str(number), "state": "READY", "reason": "", "loaded": True,
        "runtime": "onnx", "footprint_bytes": 1 << 20, "success_count": 3, "fail_count": 0,
        "queue_depth": 0, "last_error": "", **fields,
    }  # fmt: skip


TABLE: list[tuple[list[dict[str, object]], tuple[str, ...]]] = [
    ([version("a")], ("a", "1", "READY", "onnx", "1 MiB", "3", "0", "")),
    (
        [version("a", 10), version("a", 9, loaded=False, fail_count=2, last_error="bad input")],
        ("a", "9, 10", "READY", "onnx", "1 MiB", "8", "2", "bad input"),
    ),
    (
        [version("a", 1, state="UNAVAILABLE", reason="unloaded", loaded=False), version("a", 2)],
        ("a", "1, 2", "1 UNAVAILABLE, 2 READY", "onnx", "1 MiB", "6", "0", "unloaded"),
    ),
    (  # a reload's progress is no error
        [version("a", reason="loading its new configuration")],
        ("a", "1", "READY", "onnx", "1 MiB", "3", "0", ""),
    ),
    (
        [version("a", version="", state="UNAVAILABLE", loaded=False, runtime="", success_count=0,
                 last_error="config.pbtxt:3: unknown field")],
        ("a", "-", "UNAVAILABLE", "-", "-", "0", "0", "config.pbtxt:3: unknown field"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("versions", "row"), TABLE)
def test_versions_become_one_row_a_model(
    versions: list[dict[str, object]], row: tuple[str, ...]
) -> None:
    assert rows(versions) == [row]


def test_the_table(run: Any, serve_replies: Any) -> None:
    memory = {
        "used_bytes": 2 << 20,
        "budget_bytes": 1 << 30,
        "loaded": 2,
        "loads": 5,
        "evictions": 3,
    }
    answer = json.dumps({"models": [version("b"), version("a")], "memory": memory}).encode()
    server = serve_replies({"/prefix/v2/hostler/models": Reply(answer)})
    ran = run("models", "--url", "box:9000/prefix/")
    assert ran.code == 0
    assert server.asked[0].address == "http://box:9000"
    assert ran.error == "memory: 2 MiB of 1 GiB, 2 loaded, 5 loads, 3 evictions\n"
    assert [line.split()[0] for line in ran.out.splitlines()] == ["MODEL", "a", "b"]


def test_json_is_the_servers_answer(run: Any, serve_replies: Any) -> None:
    answer = {"models": [version("a")], "memory": {"used_bytes": 1}}
    serve_replies({"/v2/hostler/models": Reply(json.dumps(answer).encode())})
    assert json.loads(run("models", "--json").out) == answer


def _untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


FAILURES = [
    (Reply(status=ConnectionRefusedError()), "start one with `hostler serve ./models`"),
    (Reply(status=TimeoutError()), "no answer from http://127.0.0.1:8000 within 30 s"),
    (Reply(status=_untrusted()), "name who vouches for it with --ca"),
    (Reply(b'{"error": "draining"}', 503), "draining (status 503)"),
    (Reply(b"<html>", 404), "is it a hostler server?"),
    (Reply(b"<html>"), "is it a hostler server?"),
]


def test_an_authority_is_named_by_its_file(run: Any, serve_replies: Any, tmp_path: Path) -> None:
    server = serve_replies({"/v2/hostler/models": Reply(b'{"models": []}')})
    for name in ("ca.pem", "absent.pem"):
        (tmp_path / "ca.pem").write_text("no certificate")
        ran = run("models", "--url", "https://box", "--ca", str(tmp_path / name))
        assert (ran.code, f"--ca {tmp_path / name}: " in ran.error) == (2, True)
    assert server.asked == []
    assert run("models", "--url", "https://box").code == 0
    assert server.asked[0].address == "https://box"


_ALERT = ssl.SSLError(1, "[SSL] alert certificate required")
_ALERT.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
_PLAIN = ssl.SSLError(1, "[SSL] wrong version number")
_PLAIN.reason = "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize(
    ("scheme", "error", "said"),
    [
        ("http", RemoteDisconnected("closed"), "it may speak TLS: try https://box"),
        ("http", ConnectionRefusedError(), "start one with"),
        ("https", ConnectionResetError("reset"), "a client certificate: --cert and --key"),
        ("https", _ALERT, "a client certificate: --cert and --key"),
        ("https", _PLAIN, "start one with"),
    ],
    ids=["tls", "refused", "reset", "alert", "plain"],
)
def test_a_connection_closed_without_an_answer(
    run: Any, serve_replies: Any, scheme: str, error: Exception, said: str
) -> None:
    serve_replies({"/v2/hostler/models": Reply(status=error)})
    ran = run("models", "--url", f"{scheme}://box")
    assert (ran.code, ran.error.count("\n")) == (1, 1)
    assert said in ran.error


@pytest.mark.parametrize(("reply", "said"), FAILURES)
def test_what_goes_wrong_is_one_line(run: Any, serve_replies: Any, reply: Reply, said: str) -> None:
    serve_replies({"/v2/hostler/models": reply})
    ran = run("models")
    assert (ran.code, ran.error.count("\n")) == (1, 1)
    assert said in ran.error
