"""`hostler endpoints`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hostler.cli.arguments import takes
from hostler.cli.client import (
    URL_DEFAULT,
    CaOption,
    CertOption,
    Client,
    KeyOption,
    TimeoutOption,
    TokenOption,
    UrlOption,
)
from hostler.cli.output import Column, print_json, print_table
from hostler.cli.progress import waiting
from hostler.config import format_bytes

__all__ = ["command", "rows"]

_COLUMNS = (
    Column("ENDPOINT"),
    Column("STATE"),
    Column("VARIANT"),
    Column("SHARE", number=True),
    Column("INSTANCES", number=True),
    Column("IN FLIGHT", number=True),
    Column("REQUESTS/MIN", number=True),
    Column("ERRORS/MIN", number=True),
    Column("P99", number=True),
    Column("NOTES", wide=True),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What `hostler endpoints` is given."""

    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One endpoint; unless given, all.")
    ] = None
    url: UrlOption = URL_DEFAULT
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
    ca: CaOption = None
    cert: CertOption = None
    key: KeyOption = None
    token: TokenOption = None
    timeout: TimeoutOption = 30.0


@takes(Arguments)
def command(given: Arguments) -> int:
    """List the SageMaker endpoints of a running server: state, variants, share, load, errors.

    [bold]hostler endpoints[/bold]

    [bold]hostler endpoints fraud --json[/bold]   with shadows' comparisons and target models

    Errors are those of the server and of models (5xx); requests, errors and P99 are of the last
    minute.
    """
    client = Client(given.url, given.timeout, given.ca, given.cert, given.key, given.token)
    path = "/v2/hostler/endpoints"
    if given.name:
        path += f"/{quote(given.name, safe='')}"
    with waiting(f"waiting for {client.url}"):
        answer = client.get(path).json()
    if given.as_json:
        print_json(answer)
        return 0
    endpoints = [answer] if given.name else answer["endpoints"]
    print_table(_COLUMNS, rows(endpoints), empty=f"{client.url} has no endpoints.")
    if not given.name:
        if answer.get("problem"):
            said = f"endpoints of an earlier run are not known: {answer['problem']}"
            print(said, file=sys.stderr)
        print(_totals(answer["totals"]), file=sys.stderr)
    return 0


def rows(endpoints: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row a variant, from the server's list. Fleets are told apart while there are two."""
    return [
        _row(endpoint, variant) for endpoint in endpoints for variant in endpoint["variants"]
    ] + [
        (str(endpoint["name"]), str(endpoint["state"]), *["-"] * 7, "; ".join(_told(endpoint)))
        for endpoint in endpoints
        if not endpoint["variants"]
    ]


def _row(endpoint: Mapping[str, Any], variant: Mapping[str, Any]) -> tuple[str, ...]:
    minute = variant["last_minute"]
    instances = variant["instances"]
    name = str(variant["name"])
    if len({v["generation"] for v in endpoint["variants"]}) > 1:
        name += f" ({variant['generation']})"
    return (
        str(endpoint["name"]),
        str(endpoint["state"]),
        name,
        f"{variant['share']:.1%}",
        "-" if instances is None else str(instances),
        str(variant["in_flight"]),
        str(minute["invocations"]),
        str(minute["errors_5xx"]),
        _milliseconds(minute["p99_s"]) if minute["invocations"] else "-",
        "; ".join(_notes(endpoint, variant)),
    )


def _notes(endpoint: Mapping[str, Any], variant: Mapping[str, Any]) -> list[str]:
    notes = []
    if variant["shadow"]:
        notes += [_compared(s) for s in endpoint["shadows"] if s["variant"] == variant["name"]]
    for target in variant["targets"]:
        notes.append(f"{target['loaded']} of {target['known']} target models in memory")
    if variant["refused"]:
        notes.append(f"{variant['refused']} refused at {variant['concurrency_max']} in flight")
    return notes + _told(endpoint)


def _told(endpoint: Mapping[str, Any]) -> list[str]:
    """Why it, or its last update, failed; what it waits for. A failed start is both."""
    told = [str(endpoint["failure_reason"]), str(endpoint["progress"])]
    return list(dict.fromkeys(filter(None, told)))


def _compared(shadow: Mapping[str, Any]) -> str:
    return (
        f"shadow: {shadow['equal']} of {shadow['compared']} answers equal, "
        f"{shadow['shadow_only_errors']} failed"
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _totals(totals: Mapping[str, Any]) -> str:
    """On stderr, so that a pipe gets the table."""
    return (
        f"captured: {totals['captured']}, {totals['capture_dropped']} dropped; shadow copies left "
        f"out: {totals['copies_left_out']}; archives on disk: "
        f"{format_bytes(totals['archives_bytes'])}"
    )
