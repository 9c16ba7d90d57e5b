"""`hostler endpoints`: the server's list as a table."""

from __future__ import annotations

import json
from http.client import RemoteDisconnected
from typing import Any

import pytest
from fakes.http_connection import Reply

from hostler.cli.endpoints import rows

MINUTE = {"invocations": 0, "errors_5xx": 0, "p99_s": 0.0}
TOTALS = {"captured": 3, "capture_dropped": 1, "copies_left_out": 2, "archives_bytes": 1 << 20}


def variant(name: str = "blue", minute: dict[str, object] | None = None, **fields: object) -> Any:
    """One variant of the server's answer."""
    return {
        "name": name, "generation": 1, "share": 1.0, "shadow": False, "instances": 2,
        "in_flight": 0, "concurrency_max": None, "refused": 0, "targets": [],
        "last_minute": {**MINUTE, **(minute or {})}, **fields,
    }  # fmt: skip


def endpoint(*variants: object, **fields: object) -> Any:
    return {
        "name": "e", "state": "InService", "failure_reason": "", "progress": "",
        "variants": list(variants), "shadows": [], **fields,
    }  # fmt: skip


BUSY = {"invocations": 600, "errors_5xx": 7, "p99_s": 0.01234}
SHADOW = {"variant": "s", "equal": 8, "compared": 9, "shadow_only_errors": 1}
TABLE = [
    (endpoint(variant()), [("e", "InService", "blue", "100.0%", "2", "0", "0", "0", "-", "")]),
    (
        endpoint(variant(minute=BUSY, instances=None, in_flight=4, share=0.335)),
        [("e", "InService", "blue", "33.5%", "-", "4", "600", "7", "12.3 ms", "")],
    ),
    (
        endpoint(variant(minute={"invocations": 1, "p99_s": 2.5}, refused=3, concurrency_max=5)),
        [("e", "InService", "blue", "100.0%", "2", "0", "1", "0", "2.5 s",
          "3 refused at 5 in flight")],
    ),
    (
        endpoint(variant(share=0.9), variant(share=0.1, generation=2)),
        [
            ("e", "InService", "blue (1)", "90.0%", "2", "0", "0", "0", "-", ""),
            ("e", "InService", "blue (2)", "10.0%", "2", "0", "0", "0", "-", ""),
        ],
    ),
    (
        endpoint(variant(), variant("s", shadow=True, share=0.5), shadows=[SHADOW]),
        [
            ("e", "InService", "blue", "100.0%", "2", "0", "0", "0", "-", ""),
            ("e", "InService", "s", "50.0%", "2", "0", "0", "0", "-",
             "shadow: 8 of 9 answers equal, 1 failed"),
        ],
    ),
    (
        endpoint(variant(targets=[{"loaded": 3, "known": 20}]), progress="fetching s3://b/a"),
        [("e", "InService", "blue", "100.0%", "2", "0", "0", "0", "-",
          "3 of 20 target models in memory; fetching s3://b/a")],
    ),
    (
        endpoint(progress="starting", state="Creating"),
        [("e", "Creating", *["-"] * 7, "starting")],
    ),
    (
        endpoint(state="Failed", failure_reason="no archive", progress="no archive"),
        [("e", "Failed", *["-"] * 7, "no archive")],
    ),
    (
        endpoint(variant(), failure_reason="the update failed"),
        [("e", "InService", "blue", "100.0%", "2", "0", "0", "0", "-", "the update failed")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), TABLE)
def test_one_row_a_variant(given: Any, expected: list[tuple[str, ...]]) -> None:
    assert rows([given]) == expected


def test_all_endpoints(run: Any, serve_replies: Any) -> None:
    answer = {"endpoints": [endpoint(variant())], "totals": TOTALS}
    serve_replies({"/v2/hostler/endpoints": Reply(json.dumps(answer).encode())})
    ran = run("endpoints")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["ENDPOINT", "e"]
    assert ran.error == (
        "captured: 3, 1 dropped; shadow copies left out: 2; archives on disk: 1 MiB\n"
    )


def test_endpoints_that_cannot_be_looked_at_are_said(run: Any, serve_replies: Any) -> None:
    answer = {"endpoints": [], "totals": TOTALS, "problem": "used by process 7"}
    serve_replies({"/v2/hostler/endpoints": Reply(json.dumps(answer).encode())})
    assert "not known: used by process 7\n" in run("endpoints").error


def test_who_shows_no_token_is_told_how(run: Any, serve_replies: Any) -> None:
    said = b'{"error": "Missing Authentication Token: send \'Authorization: Bearer ...\'"}'
    serve_replies({"/v2/hostler/endpoints": Reply(said, 401)})
    error = run("endpoints").error
    assert "--token" in error
    assert "HOSTLER_TOKEN" in error
    assert "Bearer" not in error
    assert "Bearer" in run("endpoints", "--token", "wrong").error


def test_one_endpoint_by_its_quoted_name(run: Any, serve_replies: Any) -> None:
    server = serve_replies({"/v2/hostler/endpoints/a%2Fb": Reply(json.dumps(endpoint()).encode())})
    ran = run("endpoints", "a/b", "--url", "box:9000")
    assert (ran.code, ran.error) == (0, "")
    assert server.asked[0].address == "http://box:9000"
    assert ran.out.splitlines()[1].startswith("e ")


def test_json_is_the_servers_answer(run: Any, serve_replies: Any) -> None:
    answer = {"endpoints": [], "totals": TOTALS}
    serve_replies({"/v2/hostler/endpoints": Reply(json.dumps(answer).encode())})
    assert json.loads(run("endpoints", "--json").out) == answer


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(b'{"error": "no endpoint \'e\' is served"}', 404), "no endpoint 'e' is served"),
        (Reply(status=RemoteDisconnected("closed")), "it may speak TLS"),
    ],
)
def test_what_goes_wrong_is_one_line(run: Any, serve_replies: Any, reply: Reply, said: str) -> None:
    serve_replies({"/v2/hostler/endpoints/e": reply})
    ran = run("endpoints", "e")
    assert (ran.code, ran.error.count("\n")) == (1, 1)
    assert said in ran.error
