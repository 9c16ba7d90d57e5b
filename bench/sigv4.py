"""What does InvokeEndpoint with a verified signature keep of the throughput of V2 without one?

The digits network behind an endpoint of a server with keys, asked with the same JSON by wrk; the
base is V2 of a server without. One signed request is sent again and again, as within AWS's window
of five minutes it may be; each is verified anew. It is signed afresh for every run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.endpoints import REGION, deploy, pack
from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import drive
from bench.models import run_once, subject
from bench.servers import Server, hostler
from bench.v2 import Request, check, json_request

KEPT: Final = Goal(at_least=True, value=0.5)
BUSY: Final = (32, 128)
WARM_S: Final = 1.0
KEY_ID: Final = "AKIABENCHBENCHBENCH1"
SECRET: Final = hashlib.sha256(b"bench").hexdigest()[:40]
NAME: Final = "digits"


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """One line for 32 connections, one for 128; and what the endpoint costs without a signature."""
    model = subject("digits")
    plain = json_request("digits", model.input, model.inputs)
    expected = run_once(model)
    with tempfile.TemporaryDirectory() as folder:
        open_flags = ("--state-dir", f"{folder}/open")
        signed_flags = ("--state-dir", f"{folder}/signed", "--keys", str(keys(Path(folder))))
        archive = pack(Path(folder) / "model.tar.gz", model.file.read_bytes())
        with (
            hostler(model.repository, *open_flags) as base,
            hostler(model.repository, *signed_flags) as ours,
        ):
            for server in (base, ours):
                deploy(server, NAME, f"file://{archive}", (KEY_ID, SECRET))
            check(base.port, plain, model.output, expected)
            check(ours.port, signed(ours, plain.body), model.output, expected)
            sign = partial(signed, ours, plain.body)
            for connections in BUSY:
                pair = Pair(base, plain, ours, sign)
                yield measured("InvokeEndpoint with SigV4", pair, connections, effort)
            pair = Pair(base, plain, base, partial(invocation, plain.body))
            yield measured("InvokeEndpoint unsigned", pair, BUSY[0], effort)


class Pair(NamedTuple):
    """V2 of one server, and an endpoint of one; `request`: made anew for every run."""

    base: Server
    plain: Request
    ours: Server
    request: Callable[[], Request]


def measured(what: str, pair: Pair, connections: int, effort: Effort) -> dict[str, Any]:
    """One line: the throughput of an endpoint over that of V2."""

    def v2(seconds: float) -> float:
        return drive(pair.base.port, pair.plain, connections, seconds).requests_per_s

    def invoked(seconds: float) -> float:
        return drive(pair.ours.port, pair.request(), connections, seconds).requests_per_s

    v2(WARM_S)
    invoked(WARM_S)
    found_rounds = rounds(partial(v2, effort.run_s), partial(invoked, effort.run_s), effort.rounds)
    found, again = ratios(found_rounds)
    return line(
        f"{what}, digits JSON, {connections} connections: throughput over V2 without keys",
        "ratio",
        found,
        goal=KEPT,
        again=again,
        v2_per_s=round(median(r.base_mean for r in found_rounds)),
        endpoint_per_s=round(median(r.ours for r in found_rounds)),
    )


def invocation(body: bytes) -> Request:
    """InvokeEndpoint without a signature."""
    return Request(f"/endpoints/{NAME}/invocations", {"Content-Type": "application/json"}, body)


def signed(server: Server, body: bytes) -> Request:
    """The same as the AWS SDK signs it."""
    request = invocation(body)
    url = f"http://127.0.0.1:{server.port}{request.path}"
    prepared = AWSRequest("POST", url, data=body, headers=dict(request.headers))
    SigV4Auth(Credentials(KEY_ID, SECRET), "sagemaker", REGION).add_auth(prepared)
    return Request(request.path, dict(prepared.headers.items()), body)


def keys(folder: Path) -> Path:
    """A keys file with one key that may do all."""
    path = folder / "keys.yaml"
    path.write_text(
        json.dumps(
            {
                "keys": [
                    {
                        "id": KEY_ID,
                        "secret": SECRET,
                        "principal": "bench",
                        "policies": ["all"],
                    }
                ],
                "policies": {"all": [{"effect": "allow", "actions": ["*"], "resources": ["*"]}]},
            }
        )
    )
    path.chmod(0o600)
    return path
