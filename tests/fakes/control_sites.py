"""A state folder that one server after the other uses, and what is to be true of it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import psutil
from botocore.exceptions import ClientError
from fakes.aws import Aws, arn, scale_archive, variant
from fakes.invokers import handler_archive, invoke, says
from fakes.server import ServerProcess, wait_for

__all__ = [
    "ANSWERS",
    "SETTLED_S",
    "Site",
    "described",
    "kept",
    "kill",
    "said",
    "settled",
    "written",
]

SETTLED_S: Final = 40.0
ANSWERS: Final = {"two": "2.0\n", "three": "3.0\n", "word": "word", "other": "other"}
"""What endpoints say, by their configuration."""


class Site:
    """One state folder, its archives and the servers that use it, one after the other."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.archives = folder / "archives"
        self.gates = folder / "gates"
        self.gates.mkdir()
        self._flags = ["--state-dir", str(folder / "state"), *flags]

    @contextlib.contextmanager
    def server(self, *flags: str) -> Iterator[tuple[ServerProcess, Aws]]:
        with ServerProcess([], *self._flags, *flags, cwd=self.folder) as running:
            yield running, Aws(f"http://{running.url}")

    def fill(self, aws: Aws) -> None:
        """The models, a configuration of each, and tags."""
        folder = self.archives
        broken = "def model_fn(model_dir):\n    raise OSError('no weights')"
        archives = {
            "two": scale_archive(folder / "two.tar.gz", 2.0, width=1),
            "three": scale_archive(folder / "three.tar.gz", 3.0, width=1),
            "word": says(folder / "word.tar.gz", "word"),
            "other": says(folder / "other.tar.gz", "other"),
            "bad": handler_archive(folder / "bad.tar.gz", "return b''", broken),
        }
        for name, path in archives.items():
            aws.create_model(name, path, Environment={"NAME": name})
            aws.create_config(name, variant(name), Tags=[{"Key": "of", "Value": name}])
        aws.sagemaker.add_tags(ResourceArn=arn("model", "two"), Tags=[{"Key": "a", "Value": "1"}])


def kept(aws: Aws) -> dict[str, Any]:
    """All that no deployment may change."""
    found: dict[str, Any] = {}
    for name in sorted([*ANSWERS, "bad"]):
        for kind, answer in (
            ("model", aws.sagemaker.describe_model(ModelName=name)),
            ("endpoint-config", aws.sagemaker.describe_endpoint_config(EndpointConfigName=name)),
        ):
            del answer["ResponseMetadata"]
            tags = aws.sagemaker.list_tags(ResourceArn=arn(kind, name))["Tags"]
            found[f"{kind}/{name}"] = (answer, tags)
    found["models"] = [m["ModelName"] for m in aws.sagemaker.list_models(MaxResults=100)["Models"]]
    return found


def kill(server: ServerProcess) -> None:
    """As `kill -9` does, and wait for its workers, which have to see by themselves."""
    server.signal(signal.SIGSTOP)  # it starts no more of them while they are listed
    children = server.children()
    server.signal(signal.SIGKILL)
    assert server.wait_exit() == -signal.SIGKILL
    wait_for(lambda: not any(map(lives, children)), 15, f"the end of all of {children}")


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # init takes its time with those
    return False


def described(aws: Aws, name: str) -> dict[str, Any] | None:
    """None for one that there is not."""
    try:
        return dict(aws.sagemaker.describe_endpoint(EndpointName=name))
    except ClientError as error:
        if "Could not find endpoint" not in str(error):
            raise
        return None


def settled(aws: Aws, name: str) -> dict[str, Any] | None:
    """Once nothing goes on any more, and it answers; None when it is gone."""

    def look() -> dict[str, Any] | str:
        found = described(aws, name)
        if found is None:
            return "gone"
        if found["EndpointStatus"] == "Failed" or ready(aws, found):
            return found
        return ""

    found = wait_for(look, SETTLED_S, f"endpoint {name} to settle", poll_s=0.05)
    return None if isinstance(found, str) else found


def ready(aws: Aws, found: dict[str, Any]) -> bool:
    counts = [v["CurrentInstanceCount"] for v in found["ProductionVariants"]]
    return found["EndpointStatus"] == "InService" and all(counts)


def said(server: ServerProcess, name: str) -> str:
    connection = HTTPConnection(server.host, server.port, timeout=20)
    reply = invoke(connection, name)
    connection.close()
    assert reply.ok, reply
    return reply.said


def written(state: Path) -> dict[str, str]:
    """The status of each endpoint in an SQLite state folder that no server uses, if it is one."""
    if not (state / "hostler.db").exists():
        return {}
    with tempfile.TemporaryDirectory() as copied:
        for path in state.glob("hostler.db*"):
            shutil.copy(path, copied)  # to read is to change it: what is left in the log is merged
        with contextlib.closing(sqlite3.connect(Path(copied) / "hostler.db")) as database:
            rows = database.execute("SELECT name, status FROM resources WHERE kind = 'endpoint'")
            return dict(rows.fetchall())
