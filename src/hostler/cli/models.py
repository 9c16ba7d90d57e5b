"""`hostler models`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

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
    Column("MODEL"),
    Column("VERSIONS"),
    Column("STATE"),
    Column("RUNTIME"),
    Column("MEMORY", number=True),
    Column("REQUESTS", number=True),
    Column("FAILED", number=True),
    Column("LAST ERROR", wide=True),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What `hostler models` is given."""

    url: UrlOption = URL_DEFAULT
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
    ca: CaOption = None
    cert: CertOption = None
    key: KeyOption = None
    token: TokenOption = None
    timeout: TimeoutOption = 30.0


@takes(Arguments)
def command(given: Arguments) -> int:
    """List the models of a running server: versions, state, memory, requests, last error.

    [bold]hostler models[/bold]

    [bold]hostler models --url http://gpu-box:8000 --json[/bold]

    [bold]hostler models --url https://gpu-box:8000 --ca ca.pem[/bold]
    """
    client = Client(given.url, given.timeout, given.ca, given.cert, given.key, given.token)
    with waiting(f"waiting for {client.url}"):
        answer = client.get("/v2/hostler/models").json()
    versions = answer["models"] if isinstance(answer, dict) else answer
    if given.as_json:
        print_json(answer)
    else:
        print_table(_COLUMNS, rows(versions), empty=f"{client.url} has no models.")
        if isinstance(answer, dict) and "memory" in answer:
            print(_memory(answer["memory"]), file=sys.stderr)
    return 0


def rows(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row a model, from the server's list of versions. Memory is a dash when none is loaded."""
    ordered = sorted(versions, key=lambda v: (v["name"], _number(v.get("version"))))
    return [_row(name, list(group)) for name, group in groupby(ordered, lambda v: str(v["name"]))]


def _memory(memory: Mapping[str, Any]) -> str:
    """The budget that the models share, in one line; on stderr, so that a pipe gets the table."""
    return (
        f"memory: {format_bytes(memory['used_bytes'])} of {format_bytes(memory['budget_bytes'])}, "
        f"{memory['loaded']} loaded, {memory['loads']} loads, {memory['evictions']} evictions"
    )


def _row(name: str, versions: list[Mapping[str, Any]]) -> tuple[str, ...]:
    states = {str(v["state"]) for v in versions}
    loaded = [v for v in versions if v.get("loaded")]
    failed = sum(int(v.get("fail_count") or 0) for v in versions)
    answered = sum(int(v.get("success_count") or 0) for v in versions)
    errors = [_error(v) for v in versions]
    return (
        name,
        ", ".join(str(v["version"]) for v in versions if v.get("version")) or "-",
        states.pop()
        if len(states) == 1
        else ", ".join(f"{v['version']} {v['state']}" for v in versions),
        ", ".join(sorted({str(v["runtime"]) for v in versions if v.get("runtime")})) or "-",
        format_bytes(sum(int(v.get("footprint_bytes") or 0) for v in loaded)) if loaded else "-",
        str(answered + failed),
        str(failed),
        next(filter(None, errors), ""),
    )


def _error(version: Mapping[str, Any]) -> str:
    """A READY version's reason tells of its progress, such as a reload, which is no error."""
    reason = "" if version["state"] == "READY" else version.get("reason")
    return str(version.get("last_error") or reason or "")


def _number(version: object) -> int:
    text = str(version or "")
    return int(text) if text.isdecimal() else 0
