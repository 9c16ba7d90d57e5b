"""kill -9 while endpoints are created, updated, taken back and deleted, at any moment."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import BotoCoreError
from fakes.aws import Aws, arn
from fakes.control_sites import (
    ANSWERS,
    SETTLED_S,
    Site,
    described,
    kept,
    kill,
    said,
    settled,
    written,
)
from fakes.databases import new_database
from fakes.server import ServerProcess, wait_for

OPERATIONS_S: Final = 0.7
"""What is asked for in a round takes about as long when nobody disturbs it."""
RESUMED_S: Final = 1.0
"""The next server has taken over about as long after it is ready."""


class Operation:
    """One call that the server may not live to answer. `done`: None where nobody can know."""

    def __init__(self, call: Callable[..., Any], **arguments: Any) -> None:
        self._call = call
        self._arguments = arguments
        self.sent = False
        self.done: bool | None = False

    def run(self) -> None:
        self.sent, self.done = True, None
        with contextlib.suppress(BotoCoreError):
            self._call(**self._arguments)
            self.done = True


class Rounds:
    """In each round a server is killed while it creates, updates, takes back and deletes.

    `statuses`: those that were written down of endpoints when their server was killed.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._moving = "two"
        self._created: dict[str, str] = {}
        self._serial = 0
        self.statuses: set[str] = set()

    def run(self, rounds: int) -> None:
        """Two kills each: one while things change, one while the next server takes over."""
        site = self._site
        with site.server() as (server, aws):
            site.fill(aws)
            before = kept(aws)
            for name, config in (("moves", "two"), ("stays", "word")):
                tags = [{"Key": "name", "Value": name}]
                aws.create_endpoint(name, config, Tags=tags)
                aws.in_service(name)
            moments = self._moments(rounds, OPERATIONS_S)
            check = self._begin(server, aws, moments.pop())
        for again in self._moments(rounds, RESUMED_S):
            with site.server() as (server, _):
                time.sleep(again)
                self._kill(server)
            with site.server() as (server, aws):
                assert kept(aws) == before
                check(server, aws)
                self._check_hosted(server, aws)
                if moments:
                    check = self._begin(server, aws, moments.pop())
                else:
                    server.stop()

    def _moments(self, count: int, within_s: float) -> list[float]:
        """Seconds, spread over all of the time, in any order."""
        moments = [(n + self._random.random()) * within_s / count for n in range(count)]
        self._random.shuffle(moments)
        return moments

    def _kill(self, server: ServerProcess) -> None:
        kill(server)
        self.statuses.update(written(self._site.folder / "state").values())

    def _begin(
        self, server: ServerProcess, aws: Aws, moment: float
    ) -> Callable[[ServerProcess, Aws], None]:
        """A round: ask for changes of four kinds at once, kill the server, say what must be."""
        sagemaker = aws.sagemaker
        self._serial += 1
        name, config = f"e{self._serial}", self._random.choice(["two", "word"])
        after = {"two": "other", "other": "three", "three": "two"}[self._moving]
        create = Operation(aws.create_endpoint, name=name, config=config)
        move = Operation(sagemaker.update_endpoint, EndpointName="moves", EndpointConfigName=after)
        fail = Operation(sagemaker.update_endpoint, EndpointName="stays", EndpointConfigName="bad")
        deletes = {
            old: Operation(sagemaker.delete_endpoint, EndpointName=old) for old in self._created
        }
        operations = [create, move, fail, *deletes.values()]
        self._random.shuffle(operations)

        def ask() -> None:
            for operation in operations:
                operation.run()

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(moment)
        self._kill(server)
        thread.join()

        def check(server: ServerProcess, aws: Aws) -> None:
            self._check_created(server, aws, name, config, create)
            self._moving = self._check_moved(server, aws, after, move)
            self._check_stayed(server, aws, fail)
            for old, delete in deletes.items():
                self._check_deleted(server, aws, old, delete)

        return check

    def _check_created(
        self, server: ServerProcess, aws: Aws, name: str, config: str, create: Operation
    ) -> None:
        found = settled(aws, name)
        if found is None:
            assert create.done is not True, f"{name} was created, and is not there"
            return
        assert create.sent
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", config)
        assert said(server, name) == ANSWERS[config]
        self._created[name] = config

    def _check_moved(self, server: ServerProcess, aws: Aws, after: str, move: Operation) -> str:
        found = settled(aws, "moves")
        assert found is not None
        config = str(found["EndpointConfigName"])
        assert config in ((after,) if move.done else (self._moving, after))
        assert move.sent or config == self._moving
        assert found["EndpointStatus"] == "InService"
        assert "FailureReason" not in found
        assert said(server, "moves") == ANSWERS[config]
        return config

    def _check_stayed(self, server: ServerProcess, aws: Aws, fail: Operation) -> None:
        found = settled(aws, "stays")
        assert found is not None
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "word")
        if fail.done:
            assert "OSError: no weights" in found["FailureReason"]
        assert said(server, "stays") == "word"

    def _check_deleted(self, server: ServerProcess, aws: Aws, name: str, delete: Operation) -> None:
        config = self._created[name]
        if not delete.done:
            found = settled(aws, name)
            if found is not None:
                assert (found["EndpointStatus"], found["EndpointConfigName"]) == (
                    "InService",
                    config,
                )
                assert said(server, name) == ANSWERS[config]
                return
            assert delete.sent, f"{name} is gone, and nobody has deleted it"
        wait_for(lambda: described(aws, name) is None, SETTLED_S, f"{name} to be gone")
        del self._created[name]

    def _check_hosted(self, server: ServerProcess, aws: Aws) -> None:
        """One model of each endpoint, and one process of each that has one."""
        expected = {"moves": self._moving, "stays": "word", **self._created}
        listed = aws.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]
        assert {endpoint["EndpointName"] for endpoint in listed} == set(expected)
        for name in ("moves", "stays"):
            tags = aws.sagemaker.list_tags(ResourceArn=arn("endpoint", name))["Tags"]
            assert tags == [{"Key": "name", "Value": name}]
        workers = sum(config in ("word", "other") for config in expected.values())

        def look() -> bool:
            _, _, body = server.get("/v2/hostler/models")
            hosted = [
                part.split("/")[1] for part in body.decode().split('"') if "endpoint/" in part
            ]
            return sorted(hosted) == sorted(expected) and len(server.children()) == workers

        wait_for(look, 20, f"the models of {expected} alone to be hosted")


def test_kill_at_any_moment(tmp_path: Path) -> None:
    rounds = Rounds(Site(tmp_path), seed=4)
    rounds.run(4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_at_very_many_moments(tmp_path: Path, seed: int) -> None:
    rounds = Rounds(Site(tmp_path), seed)
    rounds.run(25)
    assert {"Creating", "InService", "Updating"} <= rounds.statuses, "too tame"


def test_kill_with_the_state_in_postgresql(tmp_path: Path) -> None:
    with new_database(f"hostler_{uuid.uuid4().hex}") as url:
        Rounds(Site(tmp_path, "--set", f"storage.database_url={url}"), seed=5).run(1)
        assert not list((tmp_path / "state").rglob("*.db"))
